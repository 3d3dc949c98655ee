/**
 * A request as text, and where in it things stand.
 *
 * The form changes the text at these places alone: what it does not know stays, and numbers stay the digits that
 * were typed (a 64-bit integer does not fit into a number of JavaScript).
 */
import { jsonLanguage } from "@codemirror/lang-json";

type Node = ReturnType<typeof jsonLanguage.parser.parse>["topNode"];

export interface Member {
  key: string;
  /** The value as it stands in the text. */
  raw: string;
}

/** A `{...}` of the text. */
export interface Place {
  from: number;
  to: number;
  members: Member[];
}

export interface InputPlace extends Place {
  name: string;
  datatype: string;
  shape: number[];
  /** The elements of `data` as they are written, row by row; none where the input travels as bytes. */
  literals?: string[];
  /** Whether `data` is written in as many levels as the shape has. */
  nested: boolean;
}

export interface Document {
  text: string;
  body: Place;
  inputs: InputPlace[];
}

/**
 * Nothing, while the text is no JSON object with a list of inputs.
 *
 * Of an answer, the tensors are its `outputs`.
 */
export function read(text: string, tensors: "inputs" | "outputs" = "inputs"): Document | undefined {
  const top = jsonLanguage.parser.parse(text).topNode;
  const object = top.firstChild;
  if (object?.name !== "Object" || !parses(text)) return undefined;
  const list = valueOf(object, tensors, text);
  if (list?.name !== "Array") return undefined;
  const inputs = list.getChildren("Object").map((node) => inputAt(node, text));
  return { text, body: placeOf(object, text), inputs };
}

/** The text with some members of one object changed, added (at its end) or, where undefined, taken out. */
export function change(text: string, place: Place, changes: Record<string, string | undefined>): string {
  const members = place.members.flatMap(({ key, raw }) => {
    const now = key in changes ? changes[key] : raw;
    return now === undefined ? [] : [{ key, raw: now }];
  });
  const known = new Set(place.members.map((member) => member.key));
  for (const [key, raw] of Object.entries(changes)) {
    if (raw !== undefined && !known.has(key)) members.push({ key, raw });
  }
  return text.slice(0, place.from) + object(members, spacing(text, place)) + text.slice(place.to);
}

/** The text with another input at the end of the list. */
export function append(text: string, input: string): string {
  const list = valueOf(jsonLanguage.parser.parse(text).topNode.firstChild, "inputs", text);
  if (!list) return text;
  const last = list.getChildren("Object").at(-1);
  if (!last) return text.slice(0, list.from) + `[${input}]` + text.slice(list.to);
  const gap = /\s*$/.exec(text.slice(list.from + 1, list.getChildren("Object")[0]?.from))?.[0] || " ";
  return `${text.slice(0, last.to)},${gap}${input}${text.slice(last.to)}`;
}

/** Elements as `data`: flat, or nested as the shape says; rows of a table stand on lines of their own. */
export function data(literals: string[], shape: number[], nested: boolean, indent = ""): string {
  const columns = shape.length > 1 ? (shape.at(-1) ?? 1) : literals.length;
  if (!columns || literals.length <= columns) return levels(literals, nested ? shape : []);
  const rows: string[] = [];
  const deep = nested && shape.length === 2;
  if (nested && !deep) return levels(literals, shape);
  for (let at = 0; at < literals.length; at += columns) {
    const row = literals.slice(at, at + columns).join(", ");
    rows.push(deep ? `[${row}]` : row);
  }
  return `[\n${rows.map((row) => `${indent}  ${row}`).join(",\n")}\n${indent}]`;
}

/** The white space in front of a member of this object; empty when it is on one line. */
export function indentOf(text: string, place: Place): string {
  return spacing(text, place).replace(/^[^]*\n/, "");
}

function levels(literals: string[], shape: number[]): string {
  if (shape.length < 2) return `[${literals.join(", ")}]`;
  const rows = shape[0] ?? 0;
  const size = rows ? literals.length / rows : 0;
  const parts = Array.from({ length: rows }, (_, row) =>
    levels(literals.slice(row * size, (row + 1) * size), shape.slice(1)));
  return `[${parts.join(", ")}]`;
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function inputAt(node: Node, text: string): InputPlace {
  const place = placeOf(node, text);
  const said = JSON.parse(text.slice(node.from, node.to)) as { name?: unknown; datatype?: unknown; shape?: unknown };
  const shape = Array.isArray(said.shape) ? said.shape.filter((size) => Number.isInteger(size)) : [];
  const written = valueOf(node, "data", text);
  const literals = written?.name === "Array" ? leaves(written, text) : undefined;
  return {
    ...place,
    name: String(said.name ?? ""),
    datatype: String(said.datatype ?? ""),
    shape: counted(shape, literals?.length),
    nested: shape.length > 1 && !!written?.getChild("Array"),
    ...(literals && { literals }),
  };
}

/** One dimension may be -1: the number of elements decides it. */
function counted(shape: number[], elements: number | undefined): number[] {
  if (elements === undefined) return shape;
  const others = shape.filter((size) => size >= 0).reduce((product, size) => product * size, 1);
  return shape.map((size) => (size < 0 ? elements / (others || 1) : size));
}

function placeOf(node: Node, text: string): Place {
  const members = node.getChildren("Property").flatMap((property) => {
    const { firstChild: key, lastChild: value } = property;
    if (!key || !value) return [];
    return [{ key: JSON.parse(text.slice(key.from, key.to)) as string, raw: text.slice(value.from, value.to) }];
  });
  return { from: node.from, to: node.to, members };
}

function valueOf(object: Node | null, name: string, text: string): Node | null {
  const properties = object?.getChildren("Property") ?? [];
  const found = properties.find(({ firstChild }) =>
    firstChild && JSON.parse(text.slice(firstChild.from, firstChild.to)) === name);
  return found?.lastChild ?? null;
}

const LEAVES = new Set(["Number", "String", "True", "False", "Null"]);

function leaves(array: Node, text: string): string[] {
  const found: string[] = [];
  const cursor = array.cursor();
  do {
    if (cursor.from >= array.to) break;
    if (LEAVES.has(cursor.name)) found.push(text.slice(cursor.from, cursor.to));
  } while (cursor.next());
  return found;
}

/** What stands between the brace and the first member. */
function spacing(text: string, place: Place): string {
  return /^\{(\s*)/.exec(text.slice(place.from, place.to))?.[1] ?? "";
}

function object(members: Member[], space: string): string {
  const between = space.includes("\n") ? space : " ";
  const lines = members.map(({ key, raw }) => `${JSON.stringify(key)}: ${raw}`);
  const end = space.includes("\n") ? space.replace(/ {2}$|\t$/, "") : space;
  return `{${space}${lines.join(`,${between}`)}${end}}`;
}
