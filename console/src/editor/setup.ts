/** CodeMirror as all editors of the console have it: colours come from the tokens of style.css. */
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { json, jsonParseLinter } from "@codemirror/lang-json";
import {
  bracketMatching,
  codeFolding,
  foldGutter,
  foldKeymap,
  HighlightStyle,
  indentUnit,
  syntaxHighlighting,
} from "@codemirror/language";
import { linter, type Diagnostic } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState, StateEffect, StateField, type Extension } from "@codemirror/state";
import {
  Decoration,
  EditorView,
  highlightActiveLine,
  keymap,
  lineNumbers,
  type DecorationSet,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { problemIn } from "./validate";
import type { ModelMetadata } from "../types";

/** Beyond this many characters nothing is checked while somebody types. */
const CHECKED = 200_000;

const look = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "transparent", fontSize: "var(--code-size)", maxHeight: "60dvh" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5", overflow: "auto" },
  ".cm-content": { caretColor: "var(--text)", padding: "6px 0" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--faint)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "transparent" },
  "&.cm-focused .cm-activeLine, &.cm-focused .cm-activeLineGutter": { backgroundColor: "var(--hover)" },
  ".cm-content ::selection, .cm-line::selection": { backgroundColor: "var(--selection)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--selection)" },
  ".cm-foldPlaceholder": { background: "var(--hover)", border: "1px solid var(--line)", color: "var(--muted)" },
  ".cm-error-line": { backgroundColor: "var(--bad-soft)" },
  ".cm-error-part": { textDecoration: "underline wavy var(--bad) 1px", textUnderlineOffset: "3px" },
  ".cm-tooltip": { background: "var(--surface)", color: "var(--text)", border: "1px solid var(--line-strong)" },
  ".cm-panels": { background: "var(--raised)", color: "var(--text)" },
  ".cm-panel.cm-search input, .cm-panel.cm-search button": { fontSize: "12px" },
  ".cm-button": { backgroundImage: "none", background: "var(--surface)", color: "var(--text)" },
  ".cm-textfield": { background: "var(--surface)", color: "var(--text)", border: "1px solid var(--line-strong)" },
});

const colours = HighlightStyle.define([
  { tag: tags.propertyName, color: "var(--code-key)" },
  { tag: tags.string, color: "var(--code-string)" },
  { tag: tags.number, color: "var(--code-number)" },
  { tag: [tags.bool, tags.null], color: "var(--code-word)" },
  { tag: [tags.punctuation, tags.separator, tags.bracket], color: "var(--muted)" },
]);

export const shared: Extension = [
  look,
  syntaxHighlighting(colours),
  json(),
  indentUnit.of("  "),
  lineNumbers(),
  codeFolding(),
  foldGutter(),
  bracketMatching(),
  highlightSelectionMatches(),
  keymap.of([...searchKeymap, ...foldKeymap]),
];

// Chrome gives text that is typed over coloured text a style attribute, which the Content-Security-Policy forbids.
const typeOver = EditorView.domEventHandlers({
  beforeinput: (event, view) => {
    if (event.inputType !== "insertText" || event.data === null || view.state.selection.main.empty) return false;
    event.preventDefault();
    view.dispatch(view.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
    return true;
  },
});

export const writable: Extension = [
  typeOver,
  EditorView.theme({ ".cm-content, .cm-gutter": { minHeight: "140px" } }),
  history(),
  highlightActiveLine(),
  keymap.of([...defaultKeymap.filter((binding) => binding.key !== "Mod-Enter"), ...historyKeymap]),
];

export const readOnly: Extension = [EditorState.readOnly.of(true), EditorView.lineWrapping, keymap.of(defaultKeymap)];

/** Marks what is no JSON, and what the model's metadata says is wrong. */
export function checks(metadata: () => ModelMetadata | undefined): Extension {
  const syntax = jsonParseLinter();
  return linter(
    (view): Diagnostic[] => {
      const text = view.state.doc.toString();
      if (!text.trim() || text.length > CHECKED) return [];
      const broken = syntax(view);
      if (broken.length) return broken;
      const problem = problemIn(text, metadata());
      return problem ? [{ from: problem.from, to: problem.to, severity: "warning", message: problem.message }] : [];
    },
    { delay: 300 },
  );
}

// --- what the server refused ----------------------------------------------------------------------------

export const mark = StateEffect.define<{ from: number; to: number } | undefined>();

/** Gone with the next change of the text. */
export const marked = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(marks, transaction) {
    for (const effect of transaction.effects) {
      if (effect.is(mark)) return effect.value ? decorated(transaction.state, effect.value) : Decoration.none;
    }
    return transaction.docChanged ? Decoration.none : marks;
  },
  provide: (field) => EditorView.decorations.from(field),
});

function decorated(state: EditorState, { from, to }: { from: number; to: number }): DecorationSet {
  const end = Math.min(to, state.doc.length);
  const start = Math.min(from, end);
  const line = Decoration.line({ class: "cm-error-line" }).range(state.doc.lineAt(start).from);
  const part = end > start ? [Decoration.mark({ class: "cm-error-part" }).range(start, end)] : [];
  return Decoration.set([line, ...part], true);
}
