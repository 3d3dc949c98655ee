/** What was sent and answered, by model: the 10 most recent and those that are pinned, in this browser alone. */
import { signal, type Signal } from "@preact/signals";
import { load, save } from "./stored";
import type { Answer, Entry, Outgoing } from "./types";

export const RECENT = 10;
/** Characters of an entry; a larger one lasts as long as the page. */
const LARGEST = 1_000_000;

const PREFIX = "oipserver.history.";

export interface History {
  readonly model: string;
  /** The newest first. */
  readonly entries: Signal<Entry[]>;
  /** Entries that this browser does not keep when the page is closed. */
  readonly unkept: Signal<number>;
}

const histories = new Map<string, History>();

/** The history of a model; that of the plain HTTP client has no name. */
export function historyOf(model: string): History {
  let history = histories.get(model);
  if (!history) {
    const kept = load<Entry[]>(PREFIX + model);
    history = { model, entries: signal(Array.isArray(kept) ? kept : []), unkept: signal(0) };
    histories.set(model, history);
  }
  return history;
}

export function record(history: History, request: Outgoing, answer: Answer, version?: string): Entry {
  const at = Date.now();
  const id = `${at.toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
  const entry: Entry = { id, model: history.model, at, request: withoutKey(request), answer, pinned: false };
  if (version) entry.version = version;
  change(history, [entry, ...history.entries.value]);
  return entry;
}

export function pin(history: History, id: string): void {
  change(
    history,
    history.entries.value.map((entry) => (entry.id === id ? { ...entry, pinned: !entry.pinned } : entry)),
  );
}

export function remove(history: History, id: string): void {
  change(history, history.entries.value.filter((entry) => entry.id !== id));
}

/** Pinned ones stay. */
export function clear(history: History): void {
  change(history, history.entries.value.filter((entry) => entry.pinned));
}

/** Those whose request, answer or status has all words. */
export function search(entries: Entry[], words: string): Entry[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return entries.filter((entry) => {
    const { request, answer } = entry;
    const text = [request.method, request.path, request.body, answer.status, answer.body, answer.failure?.title];
    const all = text.join("\n").toLowerCase();
    return wanted.every((word) => all.includes(word));
  });
}

/** As a document, to be saved as a file. */
export const exported = (history: History): string =>
  JSON.stringify({ model: history.model, entries: history.entries.value }, null, 2);

function change(history: History, entries: Entry[]): void {
  history.entries.value = trimmed(entries);
  const small = history.entries.value.filter((entry) => JSON.stringify(entry).length <= LARGEST);
  let kept = small.length;
  // The browser has no room for all: the oldest go first.
  while (kept > 0 && !save(PREFIX + history.model, small.slice(0, kept))) kept -= 1;
  if (kept === 0) save(PREFIX + history.model, []);
  history.unkept.value = history.entries.value.length - kept;
}

function trimmed(entries: Entry[]): Entry[] {
  let recent = 0;
  return entries.filter((entry) => entry.pinned || ++recent <= RECENT);
}

/** A key that somebody typed among the headers of the plain HTTP client is no history either. */
function withoutKey(request: Outgoing): Outgoing {
  const secret = /^(authorization|x-api-key|cookie|proxy-authorization)$/i;
  return { ...request, headers: Object.fromEntries(Object.entries(request.headers).filter(([name]) => !secret.test(name))) };
}
