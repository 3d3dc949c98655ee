import { afterEach, expect, test } from "vitest";
import { listen, matches, type Shortcut } from "./shortcuts";

let stop = () => undefined as void;
afterEach(() => {
  stop();
  document.body.replaceChildren();
});

function pressed(event: KeyboardEventInit, target: EventTarget = document.body): string[] {
  const ran: string[] = [];
  const shortcut = (keys: string): Shortcut => ({ keys, title: keys, run: () => ran.push(keys) });
  stop = listen(() => ["Mod+Enter", "Alt+1", "?", "t"].map(shortcut));
  target.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...event }));
  stop();
  return ran;
}

test.each([
  [{ key: "Enter", ctrlKey: true }, ["Mod+Enter"]],
  [{ key: "Enter", metaKey: true }, ["Mod+Enter"]],
  [{ key: "1", altKey: true }, ["Alt+1"]],
  [{ key: "?", shiftKey: true }, ["?"]],
  [{ key: "t" }, ["t"]],
  [{ key: "t", ctrlKey: true }, []],
  [{ key: "t", repeat: true }, []],
  [{ key: "Enter" }, []],
])("%j runs %j", (event, keys) => {
  expect(pressed(event)).toEqual(keys);
});

test("who types keeps the letters", () => {
  const field = document.body.appendChild(document.createElement("input"));
  expect(pressed({ key: "t" }, field)).toEqual([]);
  expect(pressed({ key: "Enter", ctrlKey: true }, field)).toEqual(["Mod+Enter"]);
});

test("plus is a key, too", () => {
  expect(matches("Mod++", new KeyboardEvent("keydown", { key: "+", ctrlKey: true, shiftKey: true }))).toBe(true);
});
