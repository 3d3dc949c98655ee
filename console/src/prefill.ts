/** A first request that the model answers: the example of its OpenAPI document, else one from its metadata. */
import { sizeOf } from "./binary";
import { pretty } from "./format";
import { samplePicture } from "./forms/picture";
import type { Files, InferBody, ModelMetadata, Tensor, TensorMetadata } from "./types";

export interface Prefilled {
  text: string;
  files: Files;
}

/** What stands at `application/json` of the operation that ends in /infer. */
export function exampleIn(openapi: unknown): InferBody | undefined {
  const paths = (openapi as OpenApi | undefined)?.paths ?? {};
  const infer = Object.entries(paths).find(([path]) => path.endsWith("/infer"))?.[1];
  return infer?.post?.requestBody?.content?.["application/json"]?.example;
}

interface OpenApi {
  paths?: Record<string, { post?: { requestBody?: { content?: Record<string, { example?: InferBody }> } } }>;
}

export function prefill(metadata: ModelMetadata | undefined, example: InferBody | undefined): Prefilled {
  if (example) return { text: pretty(example), files: {} };
  if (!metadata) return { text: pretty({ inputs: [] }), files: {} };
  const files: Files = {};
  const inputs = metadata.inputs.map((input) => {
    if (input.datatype !== "BYTES") return tensorOf(input);
    // An example of bytes that are text would have been in the document, so these are most likely a picture.
    const count = elements(one(input.shape));
    files[input.name] = Array.from({ length: count }, samplePicture);
    const { name, datatype } = input;
    return {
      name,
      shape: one(input.shape),
      datatype,
      parameters: { binary_data_size: sizeOf(datatype, files[input.name] ?? []) },
    };
  });
  return { text: pretty({ inputs }), files };
}

function tensorOf({ name, datatype, shape }: TensorMetadata): Tensor {
  const size = one(shape);
  const value = datatype === "BOOL" ? false : 0;
  return { name, shape: size, datatype, data: Array.from({ length: elements(size) }, () => value) };
}

const one = (shape: number[]): number[] => shape.map((size) => (size < 0 ? 1 : size));

const elements = (shape: number[]): number => shape.reduce((product, size) => product * size, 1);
