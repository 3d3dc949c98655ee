import { expect, test } from "vitest";
import { format, pretty } from "./format";

test("lists of plain values stay in one line, all else is indented", () => {
  expect(pretty({ inputs: [{ shape: [1, 2], data: [[1], [2]] }], none: [], empty: {} })).toBe(`{
  "inputs": [
    {
      "shape": [1, 2],
      "data": [
        [1],
        [2]
      ]
    }
  ],
  "none": [],
  "empty": {}
}`);
});

test("no digit is lost", () => {
  const text = '{"a":9007199254740993,"b":1.0,"c":1e400}';
  expect(format(text).replace(/\s/g, "")).toBe(text);
});

test("signs in strings are no structure", () => {
  expect(format('["a,b]", "\\"{"]')).toBe('["a,b]", "\\"{"]');
});

test("what is no JSON is left alone", () => {
  expect(format("{,")).toBe("{,");
});

test("what was formatted is formatted the same again", () => {
  const once = pretty({ a: [{ b: [1, "x"] }, [[]]] });
  expect(format(once)).toBe(once);
});
