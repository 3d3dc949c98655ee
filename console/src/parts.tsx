/** Small parts that several views use. */
import { useState } from "preact/hooks";
import type { Failure } from "./types";

export function Copy({ text, label, testid }: { text: string | (() => string); label: string; testid?: string }) {
  const [said, say] = useState("");
  const copy = async () => {
    say((await copied(typeof text === "string" ? text : text())) ? "Copied" : "Not copied");
    setTimeout(() => say(""), 1500);
  };
  return (
    <button class="plain small" type="button" data-testid={testid} aria-label={label} title={label} onClick={copy}>
      <span aria-live="polite">{said || "Copy"}</span>
    </button>
  );
}

/** Plain HTTP, but from localhost, has no clipboard API; then the text of a hidden field is copied. */
export async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

export function FailureNote({ failure, field, testid }: { failure: Failure; field?: string; testid?: string }) {
  return (
    <div class="failure" role="alert" data-testid={testid} data-code={failure.code}>
      <strong>{failure.title}</strong>
      {failure.detail && <> — {sentence(failure.detail)}</>}
      {field && (
        <>
          {" "}
          <span class="muted">See {field}.</span>
        </>
      )}
      {failure.retryAfter !== undefined && <> Try again in {failure.retryAfter} s.</>}
    </div>
  );
}

/** With a full stop where there is none. */
const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`);

export function download(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** 0.31 ms, 12.3 ms, 1.20 s. */
export function duration(milliseconds: number): string {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return `${milliseconds.toFixed(milliseconds < 10 ? 2 : milliseconds < 100 ? 1 : 0)} ms`;
}
