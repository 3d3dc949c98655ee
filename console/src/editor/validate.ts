/** What is wrong with a request can often be said before it is sent.  The server's own answer decides. */
import { placeOf, type Place } from "./locate";
import type { ModelMetadata } from "../types";

export interface Problem extends Place {
  message: string;
}

const DATATYPES = ["BOOL", "FP16", "BF16", "FP32", "FP64", "BYTES"].concat(
  [8, 16, 32, 64].flatMap((bits) => [`INT${bits}`, `UINT${bits}`]),
);

/** The first problem, or nothing; `text` is JSON. */
export function problemIn(text: string, metadata?: ModelMetadata): Problem | undefined {
  const body = JSON.parse(text) as Record<string, unknown> | null;
  const at = (path: (string | number)[], message: string): Problem => ({ ...placeOf(text, path), message });
  if (!body || typeof body !== "object" || Array.isArray(body)) return at([], "The body must be an object with inputs");
  const inputs = body.inputs;
  if (!Array.isArray(inputs) || !inputs.length) return at(["inputs"], "inputs must be a list of at least one tensor");
  for (const [index, input] of inputs.entries()) {
    const wrong = wrongWith(input as Record<string, unknown>);
    if (wrong) return at(["inputs", index, wrong.member], wrong.message);
  }
  const known = metadata && new Set([...metadata.inputs, ...(metadata.parameters?.named_inputs ?? [])].map((one) => one.name));
  if (known && metadata.inputs.length > 1) {
    const strange = inputs.findIndex((input: { name: string }) => !known.has(input.name));
    if (strange >= 0) return at(["inputs", strange, "name"], `The model has no such input; it has ${[...known].join(", ")}`);
  }
  return undefined;
}

function wrongWith(input: Record<string, unknown>): { member: string; message: string } | undefined {
  if (typeof input?.name !== "string") return { member: "name", message: "name must be a string" };
  if (!DATATYPES.includes(input.datatype as string)) {
    return { member: "datatype", message: `datatype must be one of ${DATATYPES.join(", ")}` };
  }
  const shape = input.shape;
  if (!Array.isArray(shape) || !shape.every((size) => Number.isInteger(size) && size >= -1)) {
    return { member: "shape", message: "shape must be a list of integers" };
  }
  const binary = (input.parameters as Record<string, unknown> | undefined) ?? {};
  if ("binary_data_size" in binary || "shared_memory_region" in binary) return undefined;
  if (!Array.isArray(input.data)) return { member: "data", message: "data must be a list" };
  const wanted = (shape as number[]).reduce((product, size) => product * size, 1);
  const given = input.data.flat(64).length;
  if (wanted >= 0 && wanted !== given) {
    return { member: "data", message: `shape [${shape.join(", ")}] has ${wanted} elements, data has ${given}` };
  }
  return undefined;
}
