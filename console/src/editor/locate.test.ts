import { expect, test } from "vitest";
import { locate } from "./locate";

const TEXT = `{
  "inputs": [
    {"name": "a", "shape": [1], "datatype": "FP64", "data": [1]},
    {
      "name": "b",
      "shape": [2, 2],
      "datatype": "FP32",
      "data": [[1, 2], ["x", 4]]
    }
  ],
  "outputs": [
    {"name": "nix"}
  ]
}`;

const pointed = (sentence: string) => {
  const place = locate(TEXT, sentence);
  return place && [place.line, place.field, TEXT.slice(place.from, place.to)];
};

test.each([
  ["tensor 'b': FP32 takes numbers or null, got string", 8, "inputs[1].data[1][0]", '"x"'],
  ["tensor 'b': shape [2, 2] has 4 elements, data has 3", 8, "inputs[1].data", '[[1, 2], ["x", 4]]'],
  ["input 'b' of model 'm' expects shape [-1, 4] (4 columns), got [2, 2]", 6, "inputs[1].shape", "[2, 2]"],
  ["tensor 'a': datatype must be one of BOOL, FP32; got 'FP64'", 3, "inputs[0].datatype", '"FP64"'],
  ["model 'm' has no input 'b'; it takes 'a'", 5, "inputs[1].name", '"b"'],
  ["model 'm' has no output 'nix'; it has 'predict'", 12, "outputs[0].name", '"nix"'],
  ["'inputs[0].name' must be a string, got number", 3, "inputs[0].name", '"a"'],
])("%s", (sentence, line, field, marked) => {
  expect(pointed(sentence)).toEqual([line, field, marked]);
});

test("a member that is missing points to the nearest that is there", () => {
  expect(pointed("'inputs[0].parameters' must be an object, got string")).toEqual([
    3,
    "inputs[0]",
    '{"name": "a", "shape": [1], "datatype": "FP64", "data": [1]}',
  ]);
});

test("a text that is no JSON is marked where the parser stopped", () => {
  const sentence = "the body is not JSON: unexpected character, expected a JSON value: line 2 column 4 (char 5)";
  expect(locate("{\n  [,]}", sentence)).toEqual({ from: 5, to: 6, line: 2, field: "" });
});

test("a sentence about something else marks nothing", () => {
  expect(locate(TEXT, "the server is shutting down")).toBeUndefined();
});
