import { render } from "preact";
import { act } from "preact/test-utils";
import { beforeEach, describe, expect, test } from "vitest";
import type { InferAnswer, ModelMetadata, Tensor } from "../types";
import { Drawn } from "./drawn";
import { boxes, shares } from "./kinds";
import { bins, percent, percentile, short } from "./numbers";
import { Sparkline } from "./sparkline";

const tensor = (name: string, datatype: Tensor["datatype"], shape: number[], data: unknown[]): Tensor =>
  ({ name, datatype, shape, data });
const METADATA: ModelMetadata = {
  name: "iris", versions: ["1"], platform: "sklearn", inputs: [], outputs: [],
  parameters: { optional_outputs: [
    { name: "predict_proba", datatype: "FP64", shape: [-1, 3], parameters: { classes: ["a", "b", "c"] } }] },
};

describe("what an output is", () => {
  test("rows that sum to one are probabilities of the announced classes", () => {
    const found = shares(tensor("predict_proba", "FP64", [2, 3], [0.1, 0.2, 0.7, 1, 0, 0]), METADATA);
    expect(found?.[0]).toEqual([{ label: "a", value: 0.1 }, { label: "b", value: 0.2 }, { label: "c", value: 0.7 }]);
    expect(found).toHaveLength(2);
  });

  test.each([
    tensor("y", "FP64", [1, 3], [1, 2, 3]),
    tensor("y", "INT64", [1, 2], [1, 0]),
    tensor("y", "FP64", [2, 1], [1, 1]),
    tensor("y", "FP64", [1, 2], [null, 1]),
    tensor("y", "BYTES", [1], ["noon"]),
    tensor("y", "FP64", [0, 2], []),
  ])("other numbers are not", (output) => {
    expect(shares(output)).toBeUndefined();
  });

  test("the classification extension", () => {
    expect(shares(tensor("y", "BYTES", [1, 2], ["0.9:2:virginica", "-1e-3:0"]))).toEqual(
      [[{ label: "virginica", value: 0.9 }, { label: "0", value: -0.001 }]]);
  });

  test("boxes with what belongs to them", () => {
    const answer: InferAnswer = { model_name: "d", outputs: [
      tensor("boxes", "FP32", [2, 4], [1, 2, 3, 4, 5, 6, 7, 8]),
      tensor("labels", "BYTES", [2], ["cat", "dog"]),
      tensor("scores", "FP32", [2], [0.9, 0.5]),
      tensor("time", "FP32", [1], [3]),
    ] };
    expect(boxes(answer)).toEqual({ output: "boxes", used: ["boxes", "scores", "labels"], boxes: [
      { corners: [1, 2, 3, 4], label: "cat", score: 0.9 }, { corners: [5, 6, 7, 8], label: "dog", score: 0.5 }] });
  });
});

describe("numbers", () => {
  test.each([[0, "0"], [12, "12"], [0.123456, "0.1235"], [1.5e-8, "1.50e-8"], [123456789, "1.23e+8"], [-2.5, "-2.5"]])(
    "%d is %s", (value, words) => expect(short(value)).toBe(words));
  test.each([[1, "100 %"], [0, "0 %"], [0.123, "12.3 %"], [0.0001, "< 0.1 %"]])(
    "%d as %s", (value, words) => expect(percent(value)).toBe(words));
  test("percentiles are of the values themselves", () => {
    const values = Array.from({ length: 100 }, (_, at) => at + 1);
    expect([percentile(values, 0.5), percentile(values, 0.95), percentile([7], 0.99)]).toEqual([50, 95, 7]);
    expect(percentile([], 0.5)).toBeNaN();
  });
  test("bins hold all values", () => {
    const found = bins(Array.from({ length: 100 }, (_, at) => at));
    expect(found.reduce((sum, bin) => sum + bin.count, 0)).toBe(100);
    expect(bins([3, 3])).toEqual([{ from: 3, to: 3, count: 2 }]);
    expect(bins([])).toEqual([]);
  });
});

describe("drawn", () => {
  let place: HTMLElement;
  beforeEach(() => {
    place = document.createElement("div");
  });
  const draw = (answer: InferAnswer) => {
    act(() => render(<Drawn answer={answer} metadata={METADATA} />, place));
    return (testid: string) => [...place.querySelectorAll(`[data-testid="${testid}"]`)];
  };

  test("bars, tables, histograms and boxes", () => {
    const many = Array.from({ length: 40 }, (_, at) => at);
    const found = draw({ model_name: "m", outputs: [
      tensor("predict_proba", "FP64", [2, 3], [0.1, 0.2, 0.7, 1, 0, 0]),
      tensor("predict", "INT64", [2, 1], [2, 0]),
      tensor("many", "FP64", [40], many),
    ] });
    expect(found("drawn-bar").map((bar) => bar.getAttribute("data-label"))).toEqual(["a", "b", "c"]);
    expect(found("drawn-bars")[0]?.textContent).toContain("70.0 %");
    expect(found("drawn-table").map((one) => one.getAttribute("data-output"))).toEqual(["predict", "many"]);
    expect(found("drawn-histogram").map((one) => one.getAttribute("data-output"))).toEqual(["many"]);
  });

  test("boxes take their labels and scores along", () => {
    const found = draw({ model_name: "d", outputs: [
      tensor("boxes", "FP32", [1, 4], [1, 2, 11, 22]), tensor("labels", "BYTES", [1], ["<b>cat</b>"]),
      tensor("scores", "FP32", [1], [0.25]),
    ] });
    expect(found("drawn-box")).toHaveLength(1);
    expect(found("drawn-boxes")[0]?.textContent).toContain("<b>cat</b>");
    expect(found("drawn-table")[0]?.textContent).toContain("25.0 %");
  });

  test("nothing found, no elements, elements as bytes", () => {
    draw({ model_name: "d", outputs: [tensor("boxes", "FP32", [0, 4], []), tensor("none", "FP32", [0], []),
      { name: "raw", datatype: "FP32", shape: [1] } as unknown as Tensor] });
    for (const words of ["Nothing was found.", "It has no elements.", "came as bytes"]) {
      expect(place.textContent).toContain(words);
    }
  });

  test("a sparkline says in words what it shows", () => {
    act(() => render(<Sparkline values={[1, 2, 3]} label="three answers" />, place));
    expect(place.querySelector("svg")?.getAttribute("aria-label")).toBe("three answers");
    expect(place.querySelector("polyline")?.getAttribute("points")?.split(" ")).toHaveLength(3);
  });
});
