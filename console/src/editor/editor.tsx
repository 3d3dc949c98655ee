/**
 * A JSON editor on a signal.
 *
 * It stands in a shadow root: there CodeMirror adopts its style sheet, which the Content-Security-Policy allows;
 * in a document it would write a style element, which it does not.
 */
import { effect, type ReadonlySignal, type Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { forEachDiagnostic } from "@codemirror/lint";
import { EditorView } from "@codemirror/view";
import { checks, mark, marked, readOnly, shared, writable } from "./setup";
import type { Place } from "./locate";
import type { ModelMetadata } from "../types";

interface Props {
  text: Signal<string>;
  /** For those who do not see it. */
  label: string;
  testid: string;
  /** What the server refused. */
  place?: ReadonlySignal<Place | undefined>;
  metadata?: ReadonlySignal<ModelMetadata | undefined>;
  /** Told of what is wrong while somebody types. */
  onProblem?: (words: string) => void;
}

export function Editor({ text, label, testid, place, metadata, onProblem }: Props) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!host.current) return;
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open" });
    const view = new EditorView({
      doc: text.peek(),
      parent: root,
      root,
      extensions: [
        shared,
        writable,
        marked,
        checks(() => metadata?.peek()),
        EditorView.contentAttributes.of({ "aria-label": label, "aria-multiline": "true", tabindex: "0" }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) text.value = update.state.doc.toString();
          if (onProblem) onProblem(problemOf(update.view));
        }),
      ],
    });
    const follow = effect(() => replace(view, text.value));
    const point = effect(() => view.dispatch({ effects: mark.of(place?.value) }));
    return () => {
      follow();
      point();
      view.destroy();
    };
  }, [text]);
  return <div class="editor" data-testid={testid} ref={host} />;
}

/** Text that is only read, with colours, folding and search. */
export function Viewer({ text, label }: { text: string; label: string }) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!host.current) return;
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open" });
    const attributes = EditorView.contentAttributes.of({ "aria-label": label, "aria-readonly": "true", tabindex: "0" });
    const view = new EditorView({ doc: text, parent: root, root, extensions: [shared, readOnly, attributes] });
    return () => view.destroy();
  }, [text, label]);
  return <div class="editor" ref={host} />;
}

/** Only what differs, so that the cursor and the marks of the rest stay. */
function replace(view: EditorView, wanted: string): void {
  const now = view.state.doc.toString();
  if (now === wanted) return;
  let from = 0;
  while (from < now.length && now[from] === wanted[from]) from += 1;
  let end = 0;
  const most = Math.min(now.length, wanted.length) - from;
  while (end < most && now[now.length - 1 - end] === wanted[wanted.length - 1 - end]) end += 1;
  view.dispatch({ changes: { from, to: now.length - end, insert: wanted.slice(from, wanted.length - end) } });
}

function problemOf(view: EditorView): string {
  let words = "";
  forEachDiagnostic(view.state, (diagnostic, from) => {
    const line = view.state.doc.lineAt(Math.min(from, view.state.doc.length)).number;
    words ||= `Line ${line}: ${diagnostic.message}`;
  });
  return words;
}
