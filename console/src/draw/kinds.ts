/** What an output is, as far as its values tell. */
import type { InferAnswer, ModelMetadata, Tensor } from "../types";

export interface Share {
  label: string;
  value: number;
}

/** How sure a model is of each class: one list for each row. */
export function shares(output: Tensor, metadata?: ModelMetadata): Share[][] | undefined {
  return ranked(output) ?? probabilities(output, metadata);
}

/** Boxes with what the model says of each. */
export interface Box {
  corners: [number, number, number, number];
  label?: string;
  score?: number;
}

/** The boxes of an answer, and which outputs they are made of. */
export interface Found {
  output: string;
  boxes: Box[];
  used: string[];
}

/** An output of four numbers a row that is called so; labels and scores are outputs of as many elements. */
export function boxes(answer: InferAnswer): Found | undefined {
  const output = answer.outputs.find((one) => /box/i.test(one.name) && one.shape.at(-1) === 4 && numbers(one));
  const values = output && numbers(output);
  if (!values) return undefined;
  const count = values.length / 4;
  const others = answer.outputs.filter((one) => one !== output && one.data?.length === count);
  const scores = others.find((one) => /score|prob|conf/i.test(one.name) && numbers(one));
  const labels = others.find((one) => one !== scores && /label|class|categor|name/i.test(one.name));
  return {
    output: output.name,
    used: [output, scores, labels].flatMap((one) => (one ? [one.name] : [])),
    boxes: Array.from({ length: count }, (_, at) => ({
      corners: values.slice(at * 4, at * 4 + 4) as Box["corners"],
      ...(labels && { label: String(labels.data[at]) }),
      ...(scores && { score: Number(scores.data[at]) }),
    })),
  };
}

/** The elements, if all are numbers; a missing one (null) is none. */
export function numbers(output: Tensor): number[] | undefined {
  const values = output.data?.flat(Infinity);
  return values?.every((value) => typeof value === "number") ? (values as number[]) : undefined;
}

/** Rows of a table; more than two dimensions have the last one as columns. */
export function rowsOf(output: Tensor): unknown[][] {
  const values = (output.data ?? []).flat(Infinity);
  const columns = output.shape.length > 1 ? Math.max(1, output.shape.at(-1) ?? 1) : 1;
  return Array.from({ length: Math.ceil(values.length / columns) }, (_, row) =>
    values.slice(row * columns, (row + 1) * columns));
}

/** What an output's columns are called: the classes that the model announces for it. */
export function classesOf(name: string, columns: number, metadata?: ModelMetadata): string[] | undefined {
  const outputs = [...(metadata?.outputs ?? []), ...(metadata?.parameters?.optional_outputs ?? [])];
  const own = outputs.find((one) => one.name === name)?.parameters?.["classes"];
  const names = own ?? metadata?.parameters?.["classes"];
  return Array.isArray(names) && names.length === columns ? names.map(String) : undefined;
}

const MOST_CLASSES = 1000;

function probabilities(output: Tensor, metadata?: ModelMetadata): Share[][] | undefined {
  const columns = output.shape.at(-1) ?? 0;
  const values = /^(FP|BF)/.test(output.datatype) ? numbers(output) : undefined;
  if (!values?.length || columns < 2 || columns > MOST_CLASSES || output.shape.length > 2) return undefined;
  const names = classesOf(output.name, columns, metadata);
  const rows = rowsOf(output) as number[][];
  return rows.every(sumToOne)
    ? rows.map((row) => row.map((value, at) => ({ label: names?.[at] ?? String(at), value })))
    : undefined;
}

function sumToOne(row: number[]): boolean {
  return row.every((value) => value >= 0 && value <= 1) && Math.abs(row.reduce((a, b) => a + b, 0) - 1) < 0.005;
}

/** `value:index` or `value:index:label`, of the classification extension. */
function ranked(output: Tensor): Share[][] | undefined {
  if (output.datatype !== "BYTES" || !output.data?.length) return undefined;
  const rows = rowsOf(output).map((row) => row.map((element) => /^([-+\d.e]+):(\d+)(?::(.*))?$/i.exec(String(element))));
  if (!rows.every((row) => row.every((match) => match))) return undefined;
  return rows.map((row) => row.flatMap((match) =>
    match ? [{ label: match[3] ?? match[2] ?? "", value: Number(match[1]) }] : []));
}
