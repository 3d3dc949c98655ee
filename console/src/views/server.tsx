import { useEffect, useState } from "preact/hooks";
import { Chart, type Line } from "../draw/chart";
import { short } from "../draw/numbers";
import { duration, FailureNote } from "../parts";
import { points, watch, watched, watchFailure, type Point } from "../watch";
import "./panels.css";

/** The server's throughput, latency, queue and batch size, from /metrics. */
export function ServerPanel() {
  const [model, setModel] = useState("");
  useEffect(watch, []);
  const failure = watchFailure.value;
  const all = points(model);
  return (
    <div class="panel" data-testid="server-panel">
      <header class="panel-head">
        <h1>Server</h1>
        <label>
          Model{" "}
          <select value={model} data-testid="panel-model" onChange={(event) => setModel(event.currentTarget.value)}>
            <option value="">all</option>
            {watched().map((name) => <option key={name}>{name}</option>)}
          </select>
        </label>
        <span class="form-note">From /metrics, every two seconds.</span>
      </header>
      {failure && <FailureNote failure={failure} testid="panel-error" />}
      {!failure && !all.length && <p class="form-note" role="status">Reading the first two seconds.</p>}
      <div class="panel-grid">
        <Throughput all={all} />
        <Latency all={all} />
        <Queue all={all} />
        <Batch all={all} />
      </div>
    </div>
  );
}

function Throughput({ all }: { all: Point[] }) {
  const lines = [line("requests", "--accent", all, (point) => point.rate), line("errors", "--bad", all, (point) => point.errors)];
  return <Figure id="panel-throughput" title="Requests a second" all={all} lines={lines} format={short} />;
}

function Latency({ all }: { all: Point[] }) {
  const lines = [line("p95", "--accent", all, (point) => point.p95), line("p50", "--series-2", all, (point) => point.p50)];
  return <Figure id="panel-latency" title="Latency" all={all} lines={lines} format={duration} />;
}

function Queue({ all }: { all: Point[] }) {
  const lines = [line("waiting", "--accent", all, (point) => point.queue), line("inside", "--series-2", all, (point) => point.inside)];
  const wait = all.findLast((point) => point.wait !== null)?.wait;
  const note = wait == null ? "" : `95 % waited up to ${duration(wait)}`;
  return <Figure id="panel-queue" title="Queue" all={all} lines={lines} format={short} note={note} />;
}

function Batch({ all }: { all: Point[] }) {
  const lines = [line("rows in a call", "--accent", all, (point) => point.rows)];
  return <Figure id="panel-batch" title="Batch size" all={all} lines={lines} format={short} />;
}

interface FigureProps {
  id: string;
  title: string;
  all: Point[];
  lines: Line[];
  format: (value: number) => string;
  note?: string;
}

/** A chart under its latest values; where nothing was asked lately, the last that were known. */
function Figure({ id, title, all, lines, format, note }: FigureProps) {
  const latest = lines.map((line) => line.values.findLast((value) => value !== null) ?? undefined);
  const shown = (value: number | undefined) => (value === undefined ? "–" : format(value));
  const words = lines.map((line, index) => `${line.label} ${shown(latest[index])}`).join(", ");
  const end = all.at(-1)?.at ?? 0;
  return (
    <figure class="panel-figure" data-testid={id} data-value={latest[0] ?? ""}>
      <figcaption>
        <h2>{title}</h2>
        {lines.map((line, index) => (
          <span key={line.label} class="panel-value">
            <span class={`mark mark${line.colour}`} /> {line.label} <b>{shown(latest[index])}</b>
          </span>
        ))}
      </figcaption>
      <Chart label={`${title}: ${words}`} x={all.map((point) => point.at - end)} lines={lines} format={format}
        formatX={ago} />
      <p class="form-note">{note ?? ""}</p>
    </figure>
  );
}

/** Whole seconds alone have a name. */
function ago(seconds: number): string {
  if (!seconds) return "now";
  return Number.isInteger(seconds) ? `${seconds} s` : "";
}

function line(label: string, colour: string, all: Point[], value: (point: Point) => number | null): Line {
  return { label, colour, values: all.map(value) };
}
