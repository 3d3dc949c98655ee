import { describe, expect, test } from "vitest";
import { append, change, data, read } from "./document";

const TEXT = `{
  "id": "a",
  "inputs": [
    {
      "name": "x",
      "shape": [2, 2],
      "datatype": "INT64",
      "data": [1, 9007199254740993, 3, 4],
      "parameters": {"mine": true}
    }
  ]
}`;

const only = (text: string) => {
  const document = read(text);
  const input = document?.inputs[0];
  if (!document || !input) throw new Error("no input");
  return { document, input };
};

describe("reading", () => {
  test("digits are those that were written", () => {
    const { input } = only(TEXT);
    expect(input).toMatchObject({ name: "x", datatype: "INT64", shape: [2, 2], nested: false });
    expect(input.literals).toEqual(["1", "9007199254740993", "3", "4"]);
  });

  test("nested data is read row by row, and escapes stay", () => {
    const { input } = only('{"inputs":[{"name":"x","shape":[2,1],"datatype":"BYTES","data":[["a\\"b"],["c]"]]}]}');
    expect(input.literals).toEqual(['"a\\"b"', '"c]"']);
    expect(input.nested).toBe(true);
  });

  test("a dimension of -1 is what the elements make it", () => {
    expect(only('{"inputs":[{"name":"x","shape":[-1,2],"datatype":"FP32","data":[1,2,3,4]}]}').input.shape).toEqual([2, 2]);
  });

  test.each(["", "{", "[]", "{}", '{"inputs": 1}', '{"inputs": [{]}'])("%j is no request", (text) => {
    expect(read(text)).toBeUndefined();
  });

  test("an input without data has no elements", () => {
    expect(only('{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES"}]}').input.literals).toBeUndefined();
  });

  test("odd members are no fault of the form", () => {
    expect(only('{"inputs":[{"shape":"?","data":null}, 3]}').input).toMatchObject({ name: "", shape: [] });
  });
});

describe("changing", () => {
  test("touches nothing else", () => {
    const { input } = only(TEXT);
    const changed = change(TEXT, input, { data: "[5]", shape: "[1, 1]" });
    expect(changed).toBe(TEXT.replace("[1, 9007199254740993, 3, 4]", "[5]").replace("[2, 2]", "[1, 1]"));
  });

  test("adds at the end and takes out", () => {
    const { input } = only(TEXT);
    const changed = change(TEXT, input, { parameters: undefined, more: "1" });
    expect(JSON.parse(changed).inputs[0]).toEqual({
      name: "x", shape: [2, 2], datatype: "INT64", data: [1, 9007199254740992, 3, 4], more: 1,
    });
    expect(changed).toContain('\n      "more": 1\n    }');
  });

  test("on one line stays on one line", () => {
    const text = '{"inputs": []}';
    expect(change(text, read(text)!.body, { outputs: "[1]" })).toBe('{"inputs": [], "outputs": [1]}');
  });

  test("another input comes after the last", () => {
    const more = '{"name": "y"}';
    expect(JSON.parse(append(TEXT, more)).inputs.map((one: { name: string }) => one.name)).toEqual(["x", "y"]);
    expect(append('{"inputs": []}', more)).toBe('{"inputs": [{"name": "y"}]}');
  });
});

describe("data", () => {
  test.each([
    [["1", "2"], [2], false, "[1, 2]"],
    [["1", "2"], [1, 2], false, "[1, 2]"],
    [["1", "2"], [1, 2], true, "[[1, 2]]"],
    [["1", "2", "3", "4"], [2, 2], false, "[\n  1, 2,\n  3, 4\n]"],
    [["1", "2", "3", "4"], [2, 2], true, "[\n  [1, 2],\n  [3, 4]\n]"],
    [["1", "2"], [2, 1, 1], true, "[[[1]], [[2]]]"],
    [["7"], [], true, "[7]"],
    [[], [0, 4], false, "[]"],
  ])("%j as %j", (literals, shape, nested, written) => {
    expect(data(literals as string[], shape as number[], nested as boolean)).toBe(written);
  });
});
