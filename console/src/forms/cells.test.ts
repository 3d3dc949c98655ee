import { describe, expect, test } from "vitest";
import { cells, shapeFor, table } from "./csv";
import { shown, typed } from "./literals";

describe("what is typed", () => {
  test.each([
    ["FP64", "5.10", "5.10"],
    ["FP32", "1.", "1"],
    ["FP32", "+2", "2"],
    ["FP64", "1e-3", "1e-3"],
    ["FP64", "", "null"],
    ["FP64", "NaN", "null"],
    ["INT64", "9223372036854775807", "9223372036854775807"],
    ["INT8", "-128", "-128"],
    ["UINT8", "007", "7"],
    ["BOOL", "TRUE", "true"],
    ["BOOL", "0", "false"],
    ["BYTES", 'a "b"\n', '"a \\"b\\"\\n"'],
  ])("%s %j is %s", (datatype, text, literal) => {
    expect(typed(datatype, text)).toEqual({ literal });
  });

  test.each([
    ["FP64", "5,1", "point"],
    ["FP64", "1e999", "number"],
    ["INT64", "1.0", "whole"],
    ["INT64", "9223372036854775808", "9223372036854775807"],
    ["UINT8", "-1", "0 to 255"],
    ["BOOL", "yes", "true or false"],
  ])("%s %j is refused", (datatype, text, words) => {
    expect(typed(datatype, text)).toMatchObject({ problem: expect.stringContaining(words) });
  });

  test("a cell shows what was typed", () => {
    expect(["null", '"a\\n"', "1.50", "true"].map(shown)).toEqual(["", "a\n", "1.50", "true"]);
  });
});

describe("tables", () => {
  test.each([
    ["1,2\n3,4", [["1", "2"], ["3", "4"]]],
    ["1\t2,5\r\n\r\n3\t4\r\n", [["1", "2,5"], ["3", "4"]]],
    ["1;2\n", [["1", "2"]]],
    ['"a,""b""",c\n"two\nlines",d', [['a,"b"', "c"], ["two\nlines", "d"]]],
  ])("%j", (text, rows) => {
    expect(cells(text)).toEqual(rows);
  });

  test("a heading is left out", () => {
    expect(table("a,b\n1,2\n3,4", "FP64")).toEqual({ literals: ["1", "2", "3", "4"], rows: 2, columns: 2 });
  });

  test("of text there is no heading", () => {
    expect(table("a\nb", "BYTES")).toEqual({ literals: ['"a"', '"b"'], rows: 2, columns: 1 });
  });

  test.each([
    ["", "no values"],
    ["1,2\n3", "line 2 has 1 values, the first has 2"],
    ["a,b\n1,2\n3,x", 'line 3, value 2: expected a number, got "x"'],
  ])("%j is refused", (text, problem) => {
    expect(table(text, "FP64")).toEqual({ problem: expect.stringContaining(problem) });
  });

  test.each([
    [2, 4, [-1, 4], [2, 4]],
    [2, 4, undefined, [2, 4]],
    [3, 1, [-1], [3]],
    [1, 3, [3], [3]],
    [1, 1, [], []],
    [2, 6, [-1, 3, 2], [2, 3, 2]],
    [2, 6, [-1, 3, -1], [2, 3, 2]],
  ])("%i x %i for %j is %j", (rows, columns, announced, shape) => {
    expect(shapeFor(rows, columns, announced as number[] | undefined)).toEqual(shape);
  });
});
