import { expect, test } from "vitest";
import { exampleIn, prefill } from "./prefill";
import type { InferBody, ModelMetadata } from "./types";

const metadata = (inputs: ModelMetadata["inputs"]): ModelMetadata => ({
  name: "m",
  versions: ["1"],
  platform: "python",
  inputs,
  outputs: [],
});

test("the example of the document is the first request", () => {
  const example: InferBody = { inputs: [{ name: "x", shape: [1], datatype: "FP32", data: [7] }] };
  const content = { "application/json": { example } };
  const openapi = { paths: { "/v2/models/m": {}, "/v2/models/m/infer": { post: { requestBody: { content } } } } };
  expect(exampleIn(openapi)).toEqual(example);
  expect(JSON.parse(prefill(undefined, example).text)).toEqual(example);
});

test("without one, the metadata says what it looks like", () => {
  const { text, files } = prefill(
    metadata([
      { name: "x", datatype: "FP32", shape: [-1, 2] },
      { name: "b", datatype: "BOOL", shape: [1] },
    ]),
    undefined,
  );
  expect(JSON.parse(text)).toEqual({
    inputs: [
      { name: "x", shape: [1, 2], datatype: "FP32", data: [0, 0] },
      { name: "b", shape: [1], datatype: "BOOL", data: [false] },
    ],
  });
  expect(files).toEqual({});
});

test("bytes that are no text are a picture beside the text, whose size is announced", () => {
  const { text, files } = prefill(metadata([{ name: "image", datatype: "BYTES", shape: [1] }]), undefined);
  const [input] = (JSON.parse(text) as InferBody).inputs;
  expect(input).toMatchObject({ name: "image", datatype: "BYTES", shape: [1] });
  expect(input?.data).toBeUndefined();
  expect(files.image).toHaveLength(1);
  expect(input?.parameters?.binary_data_size).toBe(4 + atob(files.image?.[0]?.base64 ?? "").length);
});
