import type { Signal } from "@preact/signals";
import { differences, type TensorDifference } from "../difference";
import { short } from "../draw/numbers";
import { duration, FailureNote } from "../parts";
import type { Entry } from "../types";
import { summary } from "./history";
import "./panels.css";

/** Two answers of the history beside each other: those that were `chosen` there (ids), else the latest two. */
export function Compare({ entries, chosen }: { entries: Entry[]; chosen: Signal<string[]> }) {
  if (entries.length < 2) {
    return (
      <p class="form-note pane panel" data-testid="compare">Send two requests; here their answers stand beside each other.</p>
    );
  }
  const [left, right] = pair(entries, chosen.value);
  return (
    <section class="pane panel" data-testid="compare" aria-label="Compare">
      <div class="sides">
        <Side name="left" entries={entries} entry={left} pick={(id) => (chosen.value = [id, right.id])} />
        <Side name="right" entries={entries} entry={right} pick={(id) => (chosen.value = [left.id, id])} />
      </div>
      <Differences title="Answers" left={left.answer.body} right={right.answer.body} tensors="outputs" testid="compare-diff" />
      <Differences title="Requests" left={left.request.body ?? ""} right={right.request.body ?? ""} tensors="inputs" />
    </section>
  );
}

/** The older one left, where nobody chose. */
function pair(entries: Entry[], chosen: string[]): [Entry, Entry] {
  const wanted = chosen.flatMap((id) => entries.find((entry) => entry.id === id) ?? []);
  const others = entries.filter((entry) => !wanted.includes(entry));
  const [one, two] = wanted.length ? [wanted[0], wanted[1] ?? others[0]] : [others[1], others[0]];
  return [one ?? (entries[0] as Entry), two ?? (entries[0] as Entry)];
}

function Side({ name, entries, entry, pick }: {
  name: "left" | "right";
  entries: Entry[];
  entry: Entry;
  pick: (id: string) => void;
}) {
  const { answer } = entry;
  return (
    <section class="side" aria-label={name}>
      <label>
        <span class="side-name">{name}</span>{" "}
        <select data-testid={`compare-${name}`} value={entry.id} onChange={(event) => pick(event.currentTarget.value)}>
          {entries.map((one, at) => <option key={one.id} value={one.id}>{titleOf(one, at)}</option>)}
        </select>
      </label>
      <dl class="facts">
        <div class={answer.failure ? "bad" : ""}><dt>status</dt><dd>{answer.status || "no answer"}</dd></div>
        <div><dt>time</dt><dd>{duration(answer.elapsed)}</dd></div>
        {entry.version && <div><dt>version</dt><dd>{entry.version}</dd></div>}
      </dl>
      {answer.failure && <FailureNote failure={answer.failure} />}
    </section>
  );
}

function Differences({ title, left, right, tensors, testid }: {
  title: string;
  left: string;
  right: string;
  tensors: "inputs" | "outputs";
  testid?: string;
}) {
  const found = differences(left, right, tensors);
  const count = found ? found.reduce((sum, tensor) => sum + tensor.count, 0) : Number(left !== right);
  return (
    <section class="differences" data-testid={testid} data-differences={count}>
      <h2>{title} <span class={count ? "count" : "count same"}>{inWords(count, !!found)}</span></h2>
      {found?.map((tensor) => <Tensor key={tensor.name} tensor={tensor} />)}
      {!found && left !== right && (
        <div class="sides"><pre>{left}</pre><pre>{right}</pre></div>
      )}
    </section>
  );
}

function Tensor({ tensor }: { tensor: TensorDifference }) {
  const { name, other, count, elements, most, first } = tensor;
  const words = other ?? (count ? `${count} of ${elements} elements differ${most ? `, by up to ${short(most)}` : ""}` : "same");
  return (
    <div class="tensor-difference">
      <p><b>{name}</b> <span class="form-note">{words}</span></p>
      {first.length > 0 && (
        <div class="table-scroll" tabIndex={0} role="group" aria-label={`Differences of ${name}`}>
          <table class="values">
            <thead><tr><th scope="col">Element</th><th scope="col">Left</th><th scope="col">Right</th><th scope="col">Difference</th></tr></thead>
            <tbody>
              {first.map(({ index, left, right }) => (
                <tr key={index}>
                  <th scope="row">{index}</th><td>{left}</td><td>{right}</td><td>{distance(left, right)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {first.length < count && first.length > 0 && <p class="form-note">The first {first.length} of {count}.</p>}
    </div>
  );
}

function inWords(count: number, elements: boolean): string {
  if (!count) return "same";
  if (!elements) return "different";
  return count === 1 ? "1 difference" : `${count} differences`;
}

function distance(left: string, right: string): string {
  const value = Number(right) - Number(left);
  return Number.isNaN(value) ? "" : `${value > 0 ? "+" : ""}${short(value)}`;
}

/** Numbered as in the history, the latest first. */
function titleOf(entry: Entry, at: number): string {
  const { answer, version, pinned } = entry;
  const time = new Date(entry.at).toLocaleTimeString([], { hour12: false });
  const parts = [`${at + 1}${pinned ? " pinned" : ""}`, time, version && `version ${version}`, answer.status, summary(entry)];
  return parts.filter(Boolean).join(" · ");
}
