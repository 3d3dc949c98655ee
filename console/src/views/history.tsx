/** The list of what was sent before: open, send again, pin, compare, export. */
import type { Signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { clear, exported, pin, remove, search, type History } from "../history";
import { download, duration } from "../parts";
import type { Answer, Entry, InferAnswer } from "../types";

interface Props {
  history: History;
  shown?: Answer | undefined;
  compared?: Signal<string[]>;
  onOpen: (entry: Entry) => void;
  onReplay: (entry: Entry) => void;
}

export function HistoryList({ history, shown, compared, onOpen, onReplay }: Props) {
  const [words, setWords] = useState("");
  const entries = history.entries.value;
  const found = search(entries, words);
  return (
    <section class="pane history" aria-label="History" data-testid="history">
      <header>
        <h2 title="The 10 most recent and those that are pinned, in this browser alone">History</h2>
        <span class="grow" />
        <input
          type="search"
          placeholder="Search"
          aria-label="Search the history"
          data-testid="history-search"
          value={words}
          onInput={(event) => setWords(event.currentTarget.value)}
        />
        <button
          type="button"
          class="plain"
          data-testid="history-export"
          disabled={!entries.length}
          onClick={() => download(`history-${history.model || "http"}.json`, exported(history))}
        >
          Export
        </button>
        <button
          type="button"
          class="plain"
          data-testid="history-clear"
          disabled={!entries.length}
          onClick={() => clear(history)}
        >
          Clear
        </button>
      </header>
      {history.unkept.value > 0 && (
        <p class="hint">
          Entries too large for this browser to keep, gone when the page is closed: {history.unkept.value}.
        </p>
      )}
      {found.length ? (
        <ul>
          {found.map((entry) => (
            <Item
              key={entry.id}
              entry={entry}
              history={history}
              shown={entry.answer === shown}
              compared={compared}
              onOpen={onOpen}
              onReplay={onReplay}
            />
          ))}
        </ul>
      ) : (
        <p class="empty">{entries.length ? "Nothing has these words." : "Requests that you send are listed here."}</p>
      )}
    </section>
  );
}

type ItemProps = Omit<Props, "shown"> & { entry: Entry; shown: boolean };

function Item({ entry, history, shown, compared, onOpen, onReplay }: ItemProps) {
  const { answer, id } = entry;
  const chosen = compared?.value.includes(id) ?? false;
  const about = `${summary(entry)}, ${new Date(entry.at).toLocaleTimeString()}`;
  return (
    <li
      data-testid="history-item"
      data-id={id}
      data-status={answer.status || "error"}
      data-pinned={entry.pinned}
      data-shown={shown}
    >
      <span class="status small" data-good={!answer.failure}>
        {answer.status || "—"}
      </span>
      <span class="muted small when">
        <time dateTime={new Date(entry.at).toISOString()}>{new Date(entry.at).toLocaleTimeString()}</time>{" "}
        {duration(answer.elapsed)}
      </span>
      <button
        type="button"
        class="plain open"
        data-testid="history-open"
        aria-label={`Open ${about}`}
        onClick={() => onOpen(entry)}
      >
        {summary(entry)}
      </button>
      <span class="row">
        <button
          type="button"
          class="plain small"
          data-testid="history-replay"
          aria-label={`Replay ${about}`}
          onClick={() => onReplay(entry)}
        >
          Replay
        </button>
        {compared && (
          <button
            type="button"
            class="plain small"
            data-testid="history-compare"
            aria-pressed={chosen}
            aria-label={`Compare ${about}`}
            onClick={() => toggle(compared, id)}
          >
            Compare
          </button>
        )}
        <button
          type="button"
          class="plain small"
          data-testid="history-pin"
          aria-pressed={entry.pinned}
          aria-label={`${entry.pinned ? "Pinned" : "Pin"}: ${about}`}
          onClick={() => pin(history, id)}
        >
          {entry.pinned ? "Pinned" : "Pin"}
        </button>
        <button
          type="button"
          class="plain small"
          data-testid="history-delete"
          aria-label={`Delete ${about}`}
          onClick={() => remove(history, id)}
        >
          ✕
        </button>
      </span>
    </li>
  );
}

/** Two at most: a third takes the place of the first. */
function toggle(compared: Signal<string[]>, id: string): void {
  const now = compared.value;
  compared.value = now.includes(id) ? now.filter((one) => one !== id) : [...now, id].slice(-2);
}

/** The first output and its first values, or what failed. */
export function summary({ request, answer }: Entry): string {
  if (answer.failure) return answer.failure.title;
  try {
    const output = (JSON.parse(answer.body) as InferAnswer).outputs[0];
    if (output) return `${output.name} ${values(output.data)}`;
  } catch {
    // Not an answer of the protocol.
  }
  return `${request.method} ${request.path}`;
}

function values(data: unknown[] | undefined): string {
  const first = (data ?? []).flat(8).slice(0, 6).map((value) => (typeof value === "number" ? String(+value.toPrecision(4)) : String(value)));
  return first.join(", ") + ((data?.length ?? 0) > 6 ? ", …" : "");
}
