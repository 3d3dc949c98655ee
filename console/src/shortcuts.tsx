import { useEffect, useRef } from "preact/hooks";
import "./views/panels.css";

export interface Shortcut {
  /** As KeyboardEvent.key, with "Mod+" (Ctrl or Command), "Alt+", "Shift+" before it. */
  keys: string;
  title: string;
  run: () => void;
}

/**
 * Listens until the returned function is called.
 *
 * Keys without Mod or Alt are not taken from somebody who types, and none while a dialog is open.
 */
export function listen(shortcuts: () => Shortcut[]): () => void {
  const onKey = (event: KeyboardEvent) => {
    if (event.defaultPrevented || event.repeat || document.querySelector("dialog[open]")) return;
    const found = shortcuts().find((shortcut) => matches(shortcut.keys, event));
    if (!found || (isTyping(event.target) && !/Mod\+|Alt\+/.test(found.keys))) return;
    event.preventDefault();
    found.run();
  };
  // Before the editor, which has keys of its own.
  addEventListener("keydown", onKey, { capture: true });
  return () => removeEventListener("keydown", onKey, { capture: true });
}

export function matches(keys: string, event: KeyboardEvent): boolean {
  const parts = keys.split("+");
  const key = parts.pop() || "+";
  const wants = (name: string) => parts.includes(name);
  if ((event.ctrlKey || event.metaKey) !== wants("Mod") || event.altKey !== wants("Alt")) return false;
  // What a sign needs Shift for is the layout's business.
  const isSign = key.length === 1 && key.toLowerCase() === key.toUpperCase();
  if (!isSign && event.shiftKey !== wants("Shift")) return false;
  return event.key.toLowerCase() === key.toLowerCase();
}

export function ShortcutsHelp({ shortcuts, onClose }: { shortcuts: Shortcut[]; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="help" data-testid="help-dialog" aria-labelledby="help-title" onClose={onClose}
      onKeyDown={(event) => event.key === "?" && dialog.current?.close()}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}>
      <div class="dialog-inside">
        <h2 id="help-title">Keys</h2>
        <table>
          <tbody>
            {shortcuts.map(({ keys, title }) => (
              <tr key={keys}>
                <th scope="row">{keysOf(keys).map((key) => <kbd key={key}>{key}</kbd>)}</th>
                <td>{title}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <button type="button" data-testid="help-close" onClick={() => dialog.current?.close()}>Close</button>
      </div>
    </dialog>
  );
}

/** Named as on this keyboard. */
function keysOf(keys: string): string[] {
  const apple = /Mac|iPhone|iPad/.test(navigator.platform);
  const parts = keys.split("+");
  return parts.map((part) => (part === "Mod" ? (apple ? "⌘" : "Ctrl") : part.length === 1 ? part.toUpperCase() : part));
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement
    && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
