/** What a session does: finds a model's metadata and first request, sends, keeps the answer. */
import { get, modelPath, send } from "./api";
import { historyOf, record } from "./history";
import { exampleIn, prefill } from "./prefill";
import { filesSent } from "./binary";
import type { Session } from "./store";
import type { Entry, ModelMetadata, Outgoing } from "./types";

const LATENCIES = 60;

/** Metadata, and a request where the user has none yet. */
export async function open(session: Session, version?: string): Promise<void> {
  session.described = version ?? "";
  const path = modelPath(session.model, version);
  const [metadata, openapi] = await Promise.all([
    get<ModelMetadata>(path),
    session.prefilled ? undefined : get<unknown>(`${path}/openapi.json`),
  ]);
  session.metadataFailure.value = metadata.failure;
  if (metadata.value) session.metadata.value = metadata.value;
  if (session.prefilled || !metadata.value) return;
  session.prefilled = prefill(metadata.value, exampleIn(openapi?.value));
  if (!session.text.value) reset(session);
}

export function reset(session: Session): void {
  if (!session.prefilled) return;
  session.text.value = session.prefilled.text;
  session.files.value = session.prefilled.files;
}

export function requestOf(session: Session, version?: string): Outgoing {
  const body = session.text.value;
  const files = filesSent(body, session.files.value);
  const path = `${modelPath(session.model, version)}/infer`;
  const headers = { "Content-Type": "application/json" };
  return { method: "POST", path, headers, body, ...(Object.keys(files).length ? { files } : {}) };
}

/** One request at a time: while it is under way, the next waits for the user to stop it. */
export async function infer(session: Session, version?: string): Promise<void> {
  if (session.sending.value) return;
  const request = requestOf(session, version);
  const stop = new AbortController();
  session.sending.value = stop;
  const answer = await send(request, { signal: stop.signal });
  session.sending.value = undefined;
  session.asked.value = { text: request.body ?? "", files: request.files ?? {} };
  session.answer.value = answer;
  if (!answer.failure) session.latencies.value = [...session.latencies.value, answer.elapsed].slice(-LATENCIES);
  record(historyOf(session.model), request, answer, version);
}

/** Shows an entry of the history again, as if it had just been answered. */
export function show(session: Session, entry: Entry): void {
  const asked = { text: entry.request.body ?? "", files: entry.request.files ?? {} };
  session.text.value = asked.text;
  session.files.value = asked.files;
  session.asked.value = asked;
  session.answer.value = entry.answer;
}

/** Sends it once more. */
export function replay(session: Session, entry: Entry, version?: string): Promise<void> {
  session.text.value = entry.request.body ?? "";
  session.files.value = entry.request.files ?? {};
  return infer(session, version);
}

/** The model that a path infers with. */
export function modelOf(path: string): string | undefined {
  const name = /^\/v2\/models\/([^/]+)(?:\/versions\/[^/]+)?\/infer$/.exec(path)?.[1];
  return name === undefined ? undefined : decodeURIComponent(name);
}

/** The example of a model, for a client that knows no tensors. */
export async function sampleOf(model: string): Promise<string> {
  const openapi = await get<unknown>(`${modelPath(model)}/openapi.json`);
  return prefill(undefined, exampleIn(openapi.value)).text;
}
