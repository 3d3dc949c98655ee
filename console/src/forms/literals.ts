/** Between what a person types into a cell and an element of `data` in JSON. */

const SIGNED: Record<string, number> = { INT8: 8, INT16: 16, INT32: 32, INT64: 64 };
const UNSIGNED: Record<string, number> = { UINT8: 8, UINT16: 16, UINT32: 32, UINT64: 64 };
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

export type Literal = { literal: string } | { problem: string };

export const isWhole = (datatype: string): boolean => datatype in SIGNED || datatype in UNSIGNED;
export const isFloat = (datatype: string): boolean => /^(FP16|BF16|FP32|FP64)$/.test(datatype);

/** What stands in JSON for it, or why nothing can. */
export function typed(datatype: string, text: string): Literal {
  if (datatype === "BYTES") return { literal: JSON.stringify(text) };
  const word = text.trim();
  if (datatype === "BOOL") return truth(word);
  if (isWhole(datatype)) return whole(datatype, word);
  return real(word);
}

/** What a cell shows for an element; a missing number (NaN travels as null) is an empty cell. */
export function shown(literal: string): string {
  if (literal.startsWith('"')) return JSON.parse(literal) as string;
  return literal === "null" ? "" : literal;
}

/** The plainest element of a datatype. */
export function plain(datatype: string): string {
  if (datatype === "BYTES") return '""';
  return datatype === "BOOL" ? "false" : "0";
}

function truth(word: string): Literal {
  if (/^(true|1)$/i.test(word)) return { literal: "true" };
  if (/^(false|0)$/i.test(word)) return { literal: "false" };
  return { problem: "expected true or false" };
}

function whole(datatype: string, word: string): Literal {
  if (!/^[+-]?\d+$/.test(word)) return { problem: "expected a whole number" };
  const value = BigInt(word.replace(/^\+/, ""));
  const [low, high] = limits(datatype);
  if (value < low || value > high) return { problem: `expected ${low} to ${high} (${datatype})` };
  return { literal: String(value) };
}

function limits(datatype: string): [bigint, bigint] {
  const bits = SIGNED[datatype];
  if (bits !== undefined) return [-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits - 1) - 1n];
  return [0n, 2n ** BigInt(UNSIGNED[datatype] ?? 64) - 1n];
}

function real(word: string): Literal {
  if (/^(|nan|null)$/i.test(word)) return { literal: "null" };
  if (NUMBER.test(word) && Number.isFinite(Number(word))) return { literal: word };
  const value = Number(word);
  if (Number.isFinite(value)) return { literal: String(value) };
  return { problem: word.includes(",") ? "expected a number with a point, not a comma" : "expected a number" };
}
