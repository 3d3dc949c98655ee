/** POST to the model: the request as JSON and as a form, its answer, what was sent before. */
import { computed } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { modelPath, origin } from "../api";
import { Drawn } from "../draw/drawn";
import { Sparkline } from "../draw/sparkline";
import { Editor } from "../editor/editor";
import { locate } from "../editor/locate";
import { inWords } from "../failures";
import { format } from "../format";
import { TensorForm } from "../forms/form";
import { historyOf } from "../history";
import { infer, replay, requestOf, reset, show } from "../infer";
import { Copy, FailureNote } from "../parts";
import type { Session } from "../store";
import type { InferAnswer, InferBody } from "../types";
import { ExportButton } from "./export";
import { HistoryList } from "./history";
import { Response } from "./response";

export function Inference({ session, version }: { session: Session; version?: string | undefined }) {
  const { text, files, answer, sending, metadata, asked } = session;
  const [problem, setProblem] = useState("");
  // What the server refused is marked as long as the text is the one that it refused.
  const place = useMemo(
    () =>
      computed(() => {
        const failure = answer.value?.failure;
        const same = failure && asked.value?.text === text.value;
        return same ? locate(text.value, failure.detail) : undefined;
      }),
    [session],
  );
  const where = place.value;
  const failure = answer.value?.failure;
  const refused = where && failure ? `Line ${where.line}${where.field && `, ${where.field}`}: ${failure.detail}` : "";
  const url = `${origin()}${modelPath(session.model, version)}/infer`;
  const known = metadata.value;
  const answered = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // Where the answer is below the request, as on a phone, it is brought into sight.
    const away = (answered.current?.getBoundingClientRect().top ?? 0) > innerHeight * 0.8;
    if (answer.value && away) answered.current?.scrollIntoView();
  }, [answer.value]);
  return (
    <div class="two">
      <div class="column">
        <section class="pane request" aria-label="Request">
          <header>
            <span class="method" data-testid="method">
              POST
            </span>
            <span class="url grow" data-testid="url" title={url}>
              {url}
            </span>
            <Copy text={url} label="Copy the URL" testid="copy-url" />
          </header>
          <Editor
            text={text}
            label="Request body, JSON"
            testid="editor"
            place={place}
            metadata={metadata}
            onProblem={setProblem}
          />
          {(refused || problem) && (
            <p
              class={`editor-error ${refused ? "failure" : "hint"}`}
              role="status"
              data-testid="editor-error"
              data-line={where?.line}
              data-field={where?.field}
            >
              {refused || problem}
            </p>
          )}
          <div class="actions">
            {sending.value ? (
              <button type="button" class="primary busy" data-testid="stop" onClick={() => sending.value?.abort()}>
                Stop
              </button>
            ) : (
              <button
                type="button"
                class="primary"
                data-testid="send"
                // While the first request is still being asked for, there is nothing to send.
                disabled={!text.value && !known && !session.metadataFailure.value}
                onClick={() => void infer(session, version)}
              >
                Send
              </button>
            )}
            <button type="button" data-testid="format" onClick={() => (text.value = format(text.value))}>
              Format
            </button>
            <button
              type="button"
              data-testid="reset-body"
              disabled={!session.prefilled}
              title="Back to the example that the model gives"
              onClick={() => reset(session)}
            >
              Reset
            </button>
            <span class="grow" />
            <ExportButton request={() => requestOf(session, version)} />
          </div>
        </section>
        {session.metadataFailure.value && !known && <FailureNote failure={session.metadataFailure.value} />}
        {known && (
          <section class="pane" aria-label="Form">
            <header>
              <h2>Form</h2>
              <span class="muted small">the same request, tensor by tensor</span>
            </header>
            <div class="body">
              <TensorForm text={text} files={files} metadata={known} />
            </div>
          </section>
        )}
      </div>
      <div class="column" ref={answered}>
        <Response
          answer={answer.value}
          sending={!!sending.value}
          drawn={drawing(session)}
          trend={
            session.latencies.value.length > 1 && (
              <Sparkline values={session.latencies.value} label="Latency of the latest answers in milliseconds" />
            )
          }
          {...(where?.field ? { field: `line ${where.line}, ${where.field}` } : {})}
        />
        <HistoryList
          history={historyOf(session.model)}
          shown={answer.value}
          compared={session.compared}
          onOpen={(entry) => show(session, entry)}
          onReplay={(entry) => void replay(session, entry, version)}
        />
        <p class="unseen" role="status" data-testid="announce">
          {answer.value && !sending.value && (failure ? inWords(failure) : `Answered ${answer.value.status}`)}
        </p>
      </div>
    </div>
  );
}

function drawing({ answer, asked, metadata }: Session) {
  const got = answer.value && !answer.value.failure ? parsed<InferAnswer>(answer.value.body) : undefined;
  if (!Array.isArray(got?.outputs)) return undefined;
  const request = parsed<InferBody>(asked.value?.text ?? "");
  return <Drawn answer={got} request={request} files={asked.value?.files ?? {}} metadata={metadata.value} />;
}

function parsed<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined;
  }
}
