/** Where in the text a server's sentence points to: the line, and the member that it speaks of. */
import { jsonLanguage } from "@codemirror/lang-json";

export interface Place {
  /** Offsets in the text. */
  from: number;
  to: number;
  /** From 1. */
  line: number;
  /** Such as `inputs[0].data`; nothing when the text is no JSON. */
  field: string;
}

type Path = (string | number)[];
type Node = ReturnType<typeof jsonLanguage.parser.parse>["topNode"];

/** Nothing when the sentence names no part of the request. */
export function locate(text: string, sentence: string): Place | undefined {
  const position = /line (\d+) column (\d+)/.exec(sentence);
  if (position) return placeOfLine(text, Number(position[1]), Number(position[2]));
  const body = parsed(text);
  const path = body && pathOf(sentence, body);
  return path ? placeOf(text, path) : undefined;
}

/** Of the longest part of the path that the text has. */
export function placeOf(text: string, path: Path): Place {
  let node = valueIn(jsonLanguage.parser.parse(text).topNode);
  const found: Path = [];
  for (const step of path) {
    const next = node && (typeof step === "number" ? items(node)[step] : member(node, step, text));
    if (!next) break;
    node = next;
    found.push(step);
  }
  const { from, to } = node ?? { from: 0, to: text.length };
  return { from, to, line: lineAt(text, from), field: written(found.length ? found : path) };
}

function pathOf(sentence: string, body: Body): Path | undefined {
  const listed = /'(inputs|outputs)\[(\d+)\](?:\.(\w+))?'/.exec(sentence);
  if (listed) return [listed[1] ?? "", Number(listed[2]), ...(listed[3] ? [listed[3]] : [])];
  const tensor = /(?:tensor|input) '(.*?)'/.exec(sentence);
  const asked = /output '(.*?)'/.exec(sentence);
  if (tensor) {
    const at = indexOf(body.inputs, tensor[1], /twice/.test(sentence));
    return at < 0 ? ["inputs"] : ["inputs", at, ...memberOf(sentence, body.inputs?.[at])];
  }
  if (asked) {
    const at = indexOf(body.outputs, asked[1], /twice/.test(sentence));
    return at < 0 ? ["outputs"] : ["outputs", at, ...(/has no output/.test(sentence) ? ["name"] : [])];
  }
  const parameter = /parameter '(.*?)'/.exec(sentence);
  if (parameter) return ["parameters", parameter[1] ?? ""];
  const top = /'(inputs|outputs|id|parameters)'/.exec(sentence);
  return top?.[1] ? [top[1]] : undefined;
}

interface Item {
  name?: unknown;
  datatype?: unknown;
  data?: unknown;
}

interface Body {
  inputs?: Item[];
  outputs?: Item[];
}

function parsed(text: string): Body | undefined {
  try {
    const body: unknown = JSON.parse(text);
    if (!body || typeof body !== "object") return undefined;
    const { inputs, outputs } = body as Body;
    return { ...(Array.isArray(inputs) ? { inputs } : {}), ...(Array.isArray(outputs) ? { outputs } : {}) };
  } catch {
    return undefined;
  }
}

function indexOf(items: Item[] | undefined, name: string | undefined, last: boolean): number {
  const is = (item: Item): boolean => item?.name === name;
  return (last ? items?.findLastIndex(is) : items?.findIndex(is)) ?? -1;
}

/** The member of a tensor that the sentence is about. */
function memberOf(sentence: string, tensor: Item | undefined): Path {
  if (/has no input|stands twice/.test(sentence)) return ["name"];
  if (/datatype/.test(sentence)) return ["datatype"];
  if (/expects shape|shape must|rank/.test(sentence)) return ["shape"];
  if (/parameter|binary_data/.test(sentence)) return ["parameters"];
  const culprit = culpritIn(tensor, sentence);
  return culprit ? ["data", ...culprit] : ["data"];
}

/** The first element of a kind that the sentence complains of. */
function culpritIn(tensor: Item | undefined, sentence: string): Path | undefined {
  const kind = /got (string|boolean|object|null|number)\b/.exec(sentence)?.[1];
  if (!kind) return undefined;
  return findIn(tensor?.data, (value) => (value === null ? "null" : typeof value) === kind);
}

function findIn(value: unknown, wanted: (value: unknown) => boolean): Path | undefined {
  if (!Array.isArray(value)) return wanted(value) ? [] : undefined;
  for (const [index, item] of value.entries()) {
    const rest = findIn(item, wanted);
    if (rest) return [index, ...rest];
  }
  return undefined;
}

function placeOfLine(text: string, line: number, column: number): Place {
  const lines = text.split("\n");
  const before = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  const from = Math.min(before + Math.max(column - 1, 0), text.length);
  return { from, to: Math.min(from + 1, text.length), line: Math.min(line, lines.length), field: "" };
}

const lineAt = (text: string, offset: number): number => text.slice(0, offset).split("\n").length;

const written = (path: Path): string =>
  path.map((step, at) => (typeof step === "number" ? `[${step}]` : (at ? "." : "") + step)).join("");

// --- the syntax tree ------------------------------------------------------------------------------------

const isValue = (node: Node): boolean => /^(Object|Array|String|Number|True|False|Null)$/.test(node.name);

function valueIn(node: Node): Node | undefined {
  for (let child = node.firstChild; child; child = child.nextSibling) if (isValue(child)) return child;
  return undefined;
}

function items(node: Node): Node[] {
  const found: Node[] = [];
  for (let child = node.firstChild; child; child = child.nextSibling) if (isValue(child)) found.push(child);
  return node.name === "Array" ? found : [];
}

function member(node: Node, name: string, text: string): Node | undefined {
  for (let child = node.firstChild; child; child = child.nextSibling) {
    const key = child.name === "Property" ? child.getChild("PropertyName") : null;
    if (key && text.slice(key.from, key.to) === JSON.stringify(name)) return valueIn(child);
  }
  return undefined;
}
