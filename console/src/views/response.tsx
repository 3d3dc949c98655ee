/** What came back: its status in words, where its time went, its body in several ways. */
import type { ComponentChildren } from "preact";
import { Viewer } from "../editor/editor";
import { format } from "../format";
import { Copy, duration, FailureNote } from "../parts";
import { choose, shown, type Shown } from "../store";
import type { Answer } from "../types";

interface Props {
  answer: Answer | undefined;
  sending: boolean;
  /** The outputs as pictures, where there are any. */
  drawn?: ComponentChildren;
  /** Latencies of the answers before. */
  trend?: ComponentChildren;
  /** Where in the request the failure is. */
  field?: string;
}

const NAMES: [Shown, string][] = [
  ["json", "JSON"],
  ["raw", "Raw"],
  ["html", "HTML"],
  ["drawn", "Drawn"],
];

export function Response({ answer, sending, drawn, trend, field }: Props) {
  const view = shown.value === "drawn" && !drawn ? "json" : shown.value;
  const status = answer ? answer.status || "error" : undefined;
  return (
    <section class="pane" aria-label="Response" aria-busy={sending} data-testid="response" data-status={status}>
      <header>
        <h2>Response</h2>
        {answer && <Status answer={answer} />}
        <span class="grow" />
        <div class="choice" role="group" aria-label="Show the response as">
          {NAMES.filter(([name]) => name !== "drawn" || drawn).map(([name, label]) => (
            <button
              type="button"
              key={name}
              data-testid={`view-${name}`}
              aria-pressed={view === name}
              onClick={() => choose(name)}
            >
              {label}
            </button>
          ))}
        </div>
        {answer && <Copy text={answer.body} label="Copy the response" testid="response-copy" />}
      </header>
      {answer && <Timing answer={answer} trend={trend} />}
      {answer?.failure && (
        <FailureNote failure={answer.failure} testid="response-error" {...(field ? { field } : {})} />
      )}
      <div class="answer-body" data-testid="response-body">
        {answer ? <Body answer={answer} view={view} drawn={drawn} /> : <p class="empty">{sending ? "Waiting for the answer." : "Nothing was sent yet."}</p>}
      </div>
    </section>
  );
}

function Status({ answer }: { answer: Answer }) {
  return (
    <>
      <span class="status" data-testid="response-status" data-good={!answer.failure}>
        {answer.status ? `${answer.status} ${answer.statusText || reason(answer.status)}`.trim() : "No answer"}
      </span>
      <span class="muted small" data-testid="response-latency" data-value={answer.elapsed}>
        {duration(answer.elapsed)}
      </span>
    </>
  );
}

/** HTTP/2 has no words for a status. */
const reason = (status: number): string => (status < 300 ? "OK" : "");

function Timing({ answer, trend }: { answer: Answer; trend?: ComponentChildren }) {
  const { queue, compute, decode, encode, rows } = answer.timing;
  const measured = queue !== undefined || compute !== undefined;
  if (!measured && !answer.requestId && !trend) return null;
  const facts: [string, string, number | undefined][] = [
    ["queue", "Queue", queue],
    ["compute", "Compute", compute],
    ["codec", "Decode and encode", measured ? (decode ?? 0) + (encode ?? 0) : undefined],
  ];
  return (
    <dl class="timing" data-testid="timing">
      {facts.map(
        ([name, label, value]) =>
          value !== undefined && (
            <div key={name}>
              <dt>{label}</dt>
              <dd data-testid={`timing-${name}`} data-value={value}>
                {duration(value)}
              </dd>
            </div>
          ),
      )}
      {rows !== undefined && (
        <div>
          <dt>Batch</dt>
          <dd data-testid="timing-batch" data-value={rows}>
            {rows} {rows === 1 ? "row" : "rows"}
          </dd>
        </div>
      )}
      {trend && (
        <div>
          <dt>Latency</dt>
          <dd>{trend}</dd>
        </div>
      )}
      {answer.requestId && (
        <div class="last">
          <dt>Request id</dt>
          <dd class="mono" data-testid="request-id">
            {answer.requestId}
          </dd>
        </div>
      )}
    </dl>
  );
}

function Body({ answer, view, drawn }: { answer: Answer; view: Shown; drawn?: ComponentChildren }) {
  if (!answer.body && !(view === "drawn")) return <p class="empty">The answer has no body.</p>;
  if (answer.encoding === "base64") return <Binary answer={answer} />;
  switch (view) {
    case "drawn":
      return <div class="drawing">{drawn}</div>;
    case "raw":
      return <pre tabIndex={0}>{answer.body}</pre>;
    case "html":
      return <iframe data-testid="response-html" title="Response as HTML" sandbox="" srcdoc={htmlOf(answer)} />;
    default:
      return <Viewer text={format(answer.body)} label="Response as JSON" />;
  }
}

function Binary({ answer }: { answer: Answer }) {
  const type = answer.headers["content-type"] ?? "";
  const size = Math.floor((answer.body.length * 3) / 4);
  const source = `data:${type};base64,${answer.body}`;
  return (
    <div class="drawing">
      <p class="muted small">
        About {size} bytes of {type}.
      </p>
      {type.startsWith("image/") && <img src={source} alt="The response" />}
    </div>
  );
}

/** Markup of the answer itself, or of texts among its outputs; all else is shown as text. */
export function htmlOf(answer: Answer): string {
  if (/html/.test(answer.headers["content-type"] ?? "")) return answer.body;
  const found = markupIn(answer.body);
  return found.length ? found.join("\n<hr>\n") : `<pre>${escaped(format(answer.body))}</pre>`;
}

function markupIn(body: string): string[] {
  const found: string[] = [];
  const look = (value: unknown): void => {
    if (typeof value === "string") {
      if (/<\w+[^>]*>/.test(value)) found.push(value);
    } else if (value && typeof value === "object") Object.values(value).forEach(look);
  };
  try {
    look(JSON.parse(body));
  } catch {
    // No JSON, no texts in it.
  }
  return found;
}

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
