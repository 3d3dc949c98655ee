/** Where two requests or two answers differ, tensor by tensor.  Elements are compared as they are written. */
import { read } from "./forms/document";

export interface TensorDifference {
  name: string;
  /** Why there are no elements to compare; nothing where they were compared. */
  other?: string;
  /** Elements that are not the same. */
  count: number;
  elements: number;
  /** The largest distance of two numbers. */
  most: number;
  /** The first of them: where, left, right. */
  first: { index: string; left: string; right: string }[];
}

const FIRST = 50;

/** Nothing where one of them is no document of tensors. */
export function differences(left: string, right: string, tensors: "inputs" | "outputs"):
TensorDifference[] | undefined {
  const [a, b] = [read(left, tensors)?.inputs, read(right, tensors)?.inputs];
  if (!a || !b) return undefined;
  const names = [...new Set([...a, ...b].map((tensor) => tensor.name))];
  return names.map((name) => {
    const [one, two] = [a.find((tensor) => tensor.name === name), b.find((tensor) => tensor.name === name)];
    if (!one || !two) return unlike(name, `only ${one ? "left" : "right"}`);
    const [is, was] = [`${one.datatype} [${one.shape.join(", ")}]`, `${two.datatype} [${two.shape.join(", ")}]`];
    if (is !== was) return unlike(name, `${is} left, ${was} right`);
    if (!one.literals || !two.literals) return { name, count: 0, elements: 0, most: 0, first: [], other: "sent as bytes" };
    return compared(name, one.shape, one.literals, two.literals);
  });
}

/** Tensors that cannot be compared are one difference each. */
const unlike = (name: string, other: string): TensorDifference => ({ name, other, count: 1, elements: 0, most: 0, first: [] });

function compared(name: string, shape: number[], left: string[], right: string[]): TensorDifference {
  const found: TensorDifference = { name, count: 0, elements: left.length, most: 0, first: [] };
  for (const [at, one] of left.entries()) {
    const two = right[at] ?? "";
    if (one === two || (isNumber(one) && isNumber(two) && inexact(one) && inexact(two) && Number(one) === Number(two))) continue;
    found.count += 1;
    if (isNumber(one) && isNumber(two)) found.most = Math.max(found.most, Math.abs(Number(one) - Number(two)));
    if (found.first.length < FIRST) found.first.push({ index: indexOf(at, shape), left: one, right: two });
  }
  return found;
}

const isNumber = (literal: string): boolean => /^-?\d/.test(literal);

/** 1.0 and 1 are one number; 2^53 and 2^53 + 1 are two, though not to JavaScript. */
const inexact = (literal: string): boolean => Number.isSafeInteger(Number(literal)) || /[.eE]/.test(literal);

function indexOf(at: number, shape: number[]): string {
  const index: number[] = [];
  for (const size of [...shape].reverse()) {
    index.unshift(at % (size || 1));
    at = Math.floor(at / (size || 1));
  }
  return `[${index.join(", ")}]`;
}
