export interface Shortcut {
  /** As KeyboardEvent.key, with "Mod+" (Ctrl or Command), "Alt+", "Shift+" before it. */
  keys: string;
  title: string;
  run: () => void;
}

/** Listens until the returned function is called. */
export function listen(_shortcuts: () => Shortcut[]): () => void {
  return () => undefined;
}

export function ShortcutsHelp(_: { shortcuts: Shortcut[]; onClose: () => void }) {
  return null;
}
