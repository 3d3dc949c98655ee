import { useEffect, useRef, useState } from "preact/hooks";
import { Chart } from "../draw/chart";
import { short } from "../draw/numbers";
import { failures, run, summary, type Shot } from "../loadrun";
import { duration } from "../parts";
import type { Outgoing } from "../types";
import "./panels.css";

const MOST_REQUESTS = 10_000;
const MOST_AT_ONCE = 64;
/** Redrawn so often while it runs, in milliseconds. */
const REDRAWN = 250;

/** Sends the request that is there at the start N times, some at once, and draws how long the answers took. */
export function Load({ request }: { request: () => Outgoing }) {
  const [requests, setRequests] = useState(200);
  const [atOnce, setAtOnce] = useState(4);
  const [shots, setShots] = useState<Shot[]>([]);
  const [state, setState] = useState<"idle" | "running" | "done">("idle");
  const stop = useRef<AbortController>();
  useEffect(() => () => stop.current?.abort(), []);

  const start = async () => {
    const controller = new AbortController();
    stop.current = controller;
    const taken: Shot[] = [];
    setShots([]);
    setState("running");
    const redraw = setInterval(() => setShots([...taken]), REDRAWN);
    await run(request(), {
      requests,
      concurrency: atOnce,
      signal: controller.signal,
      onShot: (shot) => taken.push(shot),
    });
    clearInterval(redraw);
    setShots([...taken]);
    setState("done");
  };

  return (
    <section class="pane panel" aria-label="Load run">
      <form class="load-form" onSubmit={(event) => {
        event.preventDefault();
        void start();
      }}>
        <Count label="Requests" testid="load-requests" value={requests} most={MOST_REQUESTS} set={setRequests} />
        <Count label="At once" testid="load-concurrency" value={atOnce} most={MOST_AT_ONCE} set={setAtOnce} />
        {state === "running"
          ? <button type="button" key="stop" data-testid="load-stop" onClick={() => stop.current?.abort()}>Stop</button>
          : <button type="submit" key="start" class="primary" data-testid="load-start">Start</button>}
        <span class="form-note">Sends the request of the Inference tab. Times are the browser's, with its own work in them; over HTTP/1.1
          it sends some six at once.</span>
      </form>
      {state !== "idle" && <Result shots={shots} state={state} requests={requests} />}
    </section>
  );
}

function Count({ label, testid, value, most, set }: {
  label: string;
  testid: string;
  value: number;
  most: number;
  set: (value: number) => void;
}) {
  return (
    <label>
      {label}{" "}
      <input type="number" min={1} max={most} required value={value} data-testid={testid}
        onInput={({ currentTarget }) => currentTarget.validity.valid && set(currentTarget.valueAsNumber)} />
    </label>
  );
}

function Result({ shots, state, requests }: { shots: Shot[]; state: string; requests: number }) {
  const { count, errors, p50, p95, p99, most, served, rate } = summary(shots);
  const time = (value: number) => (Number.isNaN(value) ? "–" : duration(value));
  return (
    <div data-testid="load-result" data-state={state}>
      <dl class="facts">
        <Fact name="answers" value={`${count} / ${requests}`} />
        <Fact name="errors" value={String(errors)} testid="load-errors" bad={errors > 0} />
        <Fact name="p50" value={time(p50)} testid="load-p50" />
        <Fact name="p95" value={time(p95)} testid="load-p95" />
        <Fact name="p99" value={time(p99)} />
        <Fact name="slowest" value={time(most)} />
        <Fact name="p50 inside the server" value={time(served)} />
        <Fact name="good answers / s" value={short(Math.round(rate))} />
      </dl>
      <p class="form-note" role="status">
        {state === "running" ? "Running." : `Done: ${count} answers, ${errors} of them errors.`}
      </p>
      {failures(shots).length > 0 && (
        <ul class="failures">
          {failures(shots).map(([words, times]) => <li key={words}>{times} × {words}</li>)}
        </ul>
      )}
      <div data-testid="load-chart">
        <Chart
          label={`Time of each answer over the run: median ${time(p50)}, 95 % within ${time(p95)}`}
          height={220}
          {...columns(shots)}
          format={duration}
          formatX={(seconds) => `${short(seconds)} s`}
        />
        <p class="legend"><span class="mark mark--accent" /> answers <span class="mark mark--bad" /> errors</p>
      </div>
    </div>
  );
}

function columns(shots: Shot[]) {
  const inOrder = [...shots].sort((a, b) => a.at - b.at);
  const values = (failed: boolean) => inOrder.map((shot) => (!!shot.failed === failed ? shot.elapsed : null));
  return {
    x: inOrder.map((shot) => shot.at / 1000),
    lines: [
      { label: "answers", colour: "--accent", values: values(false), points: true },
      { label: "errors", colour: "--bad", values: values(true), points: true },
    ],
  };
}

function Fact({ name, value, testid, bad }: { name: string; value: string; testid?: string; bad?: boolean }) {
  return (
    <div class={bad ? "bad" : ""}>
      <dt>{name}</dt>
      <dd data-testid={testid}>{value}</dd>
    </div>
  );
}
