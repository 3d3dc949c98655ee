import { expect, test } from "vitest";
import { problemIn } from "./validate";

const tensor = (more: object) => ({ name: "x", shape: [2], datatype: "FP32", data: [1, 2], ...more });
const problem = (body: unknown) => {
  const found = problemIn(JSON.stringify(body));
  return found && [found.field, found.message];
};

test("a good request has no problem", () => {
  expect(problem({ inputs: [tensor({}), tensor({ shape: [-1], data: [1] })] })).toBeUndefined();
  expect(problem({ inputs: [tensor({ data: [[1], [2]] })] })).toBeUndefined();
  expect(problem({ inputs: [tensor({ data: undefined, parameters: { binary_data_size: 8 } })] })).toBeUndefined();
});

test.each([
  [{}, "inputs", "inputs must be a list of at least one tensor"],
  [{ inputs: [tensor({ data: [1] })] }, "inputs[0].data", "shape [2] has 2 elements, data has 1"],
  [{ inputs: [tensor({ shape: "2" })] }, "inputs[0].shape", "shape must be a list of integers"],
  [{ inputs: [tensor({ name: 1 })] }, "inputs[0].name", "name must be a string"],
])("%j", (body, field, message) => {
  expect(problem(body)).toEqual([field, message]);
});

test("an unknown datatype is named with those that are known", () => {
  expect(problem({ inputs: [tensor({ datatype: "fp32" })] })?.[1]).toContain("FP32");
});

test("a name that the model does not have", () => {
  const inputs = [
    { name: "a", datatype: "FP32", shape: [2] },
    { name: "b", datatype: "FP32", shape: [2] },
  ] as const;
  const metadata = { name: "m", versions: [], platform: "", inputs: inputs.map((one) => ({ ...one, shape: [2] })), outputs: [] };
  const found = problemIn(JSON.stringify({ inputs: [tensor({ name: "c" })] }), metadata);
  expect(found?.message).toBe("The model has no such input; it has a, b");
});
