/** A plain HTTP client for whatever this server serves: method, address, headers, body. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { origin, send } from "../api";
import { historyOf, record } from "../history";
import { modelOf, sampleOf } from "../infer";
import type { Answer, Entry, Outgoing } from "../types";
import { HistoryList } from "./history";
import { Response } from "./response";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

const method = signal("GET");
const path = signal("/v2");
const headers = signal("");
const body = signal("");
const answer = signal<Answer | undefined>(undefined);
const sending = signal<AbortController | undefined>(undefined);

export function Client(given: { method?: string | undefined; path?: string | undefined }) {
  useEffect(() => {
    if (!given.path) return;
    method.value = given.method ?? "GET";
    path.value = given.path;
    const model = modelOf(given.path);
    headers.value = hasBody(method.value) ? "Content-Type: application/json" : "";
    body.value = "";
    answer.value = undefined;
    if (model) void sampleOf(model).then((text) => (body.value ||= text));
  }, [given.method, given.path]);
  return (
    <div class="two">
      <div class="column">
        <section class="pane" aria-label="HTTP request" data-testid="http-client">
          <header>
            <h1>HTTP client</h1>
            <span class="muted small">any route of this server</span>
          </header>
          <form
            class="body client-form"
            onSubmit={(event) => {
              event.preventDefault();
              void sendNow();
            }}
          >
            <div class="row">
              <div>
                <label for="http-method">Method</label>
                <select
                  id="http-method"
                  data-testid="http-method"
                  value={method.value}
                  onChange={(event) => (method.value = event.currentTarget.value)}
                >
                  {METHODS.map((one) => (
                    <option key={one}>{one}</option>
                  ))}
                </select>
              </div>
              <div class="grow">
                <label for="http-url">Path, with its query</label>
                <input
                  id="http-url"
                  class="mono"
                  style={{ width: "100%" }}
                  data-testid="http-url"
                  value={path.value}
                  spellcheck={false}
                  onInput={(event) => (path.value = event.currentTarget.value)}
                />
              </div>
            </div>
            <Field label="Headers, one in each line" id="http-headers" text={headers} rows={3} />
            <Field label="Body" id="http-body" text={body} rows={12} />
            <div class="row">
              {sending.value ? (
                <button type="button" class="primary busy" onClick={() => sending.value?.abort()}>
                  Stop
                </button>
              ) : (
                <button class="primary" data-testid="http-send">
                  Send
                </button>
              )}
              {body.value && !hasBody(method.value) && <span class="muted small">{method.value} sends no body.</span>}
            </div>
          </form>
        </section>
      </div>
      <div class="column">
        <Response answer={answer.value} sending={!!sending.value} />
        <HistoryList
          history={historyOf("")}
          shown={answer.value}
          onOpen={show}
          onReplay={(entry) => {
            show(entry);
            void sendNow();
          }}
        />
      </div>
    </div>
  );
}

function Field({ label, id, text, rows }: { label: string; id: string; text: typeof body; rows: number }) {
  return (
    <div>
      <label for={id}>{label}</label>
      <textarea
        id={id}
        rows={rows}
        data-testid={id}
        spellcheck={false}
        value={text.value}
        onInput={(event) => (text.value = event.currentTarget.value)}
      />
    </div>
  );
}

async function sendNow(): Promise<void> {
  if (sending.value) return;
  const stop = new AbortController();
  const request = asked();
  sending.value = stop;
  answer.value = typeof request === "string" ? unsendable(request) : await send(request, { signal: stop.signal });
  sending.value = undefined;
  if (typeof request !== "string") record(historyOf(""), request, answer.value);
}

function show(entry: Entry): void {
  method.value = entry.request.method;
  path.value = entry.request.path;
  headers.value = Object.entries(entry.request.headers)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
  body.value = entry.request.body ?? "";
  answer.value = entry.answer;
}

/** The request of the form, or why there is none. */
function asked(): Outgoing | string {
  const where = path.value.trim();
  const local = where.startsWith(origin()) ? where.slice(origin().length) || "/" : where;
  if (/^\w+:\/\//.test(local)) return `The console asks this server alone, ${origin()}.`;
  const lines = headers.value.split("\n").filter((line) => line.trim());
  const wrong = lines.find((line) => !/^[^\s:]+\s*:/.test(line));
  if (wrong) return `The header '${wrong}' is not of the form 'name: value'.`;
  const named = lines.map((line) => [line.slice(0, line.indexOf(":")).trim(), line.slice(line.indexOf(":") + 1).trim()]);
  const request: Outgoing = {
    method: method.value,
    path: local.startsWith("/") ? local : `/${local}`,
    headers: Object.fromEntries(named) as Record<string, string>,
  };
  return hasBody(method.value) && body.value ? { ...request, body: body.value } : request;
}

function unsendable(why: string): Answer {
  const failure = { code: "UNSENT", title: "This cannot be sent", detail: why };
  return { status: 0, statusText: "", headers: {}, body: "", elapsed: 0, timing: {}, failure };
}

const hasBody = (name: string): boolean => name !== "GET" && name !== "HEAD";

