import { signal } from "@preact/signals";
import { render } from "preact";
import { act } from "preact/test-utils";
import { beforeEach, expect, test } from "vitest";
import type { Files, ModelMetadata } from "../types";
import { TensorForm } from "./form";

const METADATA: ModelMetadata = {
  name: "m", versions: ["1"], platform: "sklearn",
  inputs: [{ name: "x", datatype: "FP64", shape: [-1, 2] }],
  outputs: [{ name: "predict", datatype: "INT64", shape: [-1, 1] }],
  parameters: { optional_outputs: [{ name: "predict_proba", datatype: "FP64", shape: [-1, 3] }] },
};
const body = (x: object, more = {}) => JSON.stringify({ inputs: [{ name: "x", datatype: "FP64", ...x }], ...more });

let place: HTMLElement;
const text = signal("");
const files = signal<Files>({});

beforeEach(() => {
  place = document.body.appendChild(document.createElement("div"));
  files.value = {};
});

function show(value: string, metadata = METADATA): void {
  text.value = value;
  act(() => render(<TensorForm text={text} files={files} metadata={metadata} />, place));
}

const all = (testid: string) => [...place.querySelectorAll<HTMLInputElement>(`[data-testid="${testid}"]`)];
const one = (testid: string) => all(testid)[0] as HTMLInputElement;
const inputs = () => JSON.parse(text.value).inputs;

function type(field: HTMLInputElement, value: string): void {
  act(() => {
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });
}

function click(testid: string): void {
  act(() => one(testid).click());
}

test("cells write the JSON, and the JSON the cells", () => {
  show(body({ shape: [1, 2], data: [1, 2] }));
  expect(all("cell").map((cell) => [cell.dataset["index"], cell.value])).toEqual([["0,0", "1"], ["0,1", "2"]]);
  type(all("cell")[1] as HTMLInputElement, "2.5");
  expect(inputs()[0].data).toEqual([1, 2.5]);
  act(() => {
    text.value = body({ shape: [1, 2], data: [7, 8] });
  });
  expect(all("cell").map((cell) => cell.value)).toEqual(["7", "8"]);
});

test("what is no number is marked and not written", () => {
  show(body({ shape: [1, 2], data: [1, 2] }));
  type(one("cell"), "1,5");
  expect(one("cell").getAttribute("aria-invalid")).toBe("true");
  expect(place.textContent).toContain("a point, not a comma");
  expect(inputs()[0].data).toEqual([1, 2]);
  type(one("cell"), "1.5");
  expect(one("cell").getAttribute("aria-invalid")).toBe("false");
  expect(inputs()[0].data).toEqual([1.5, 2]);
});

test("rows come and go", () => {
  show(body({ shape: [1, 2], data: [[1, 2]] }));
  click("row-add");
  expect(inputs()[0]).toMatchObject({ shape: [2, 2], data: [[1, 2], [1, 2]] });
  click("row-remove");
  expect(inputs()[0]).toMatchObject({ shape: [1, 2], data: [[1, 2]] });
});

test("a pasted table takes the place of the elements", () => {
  show(body({ shape: [1, 2], data: [1, 2] }));
  type(one("tensor-csv"), "a;b\n3;4\n5;6");
  click("tensor-csv-apply");
  expect(inputs()[0]).toMatchObject({ shape: [2, 2], data: [3, 4, 5, 6] });
  type(one("tensor-csv"), "1;2;3");
  click("tensor-csv-apply");
  expect(inputs()[0]).toMatchObject({ shape: [1, 3] });
});

test("a shape that is typed keeps the elements", () => {
  show(body({ shape: [1, 2], data: [1, 2] }));
  act(() => {
    one("tensor-shape").value = "2, 2";
    one("tensor-shape").dispatchEvent(new Event("change", { bubbles: true }));
  });
  expect(inputs()[0]).toMatchObject({ shape: [2, 2], data: [1, 2, 0, 0] });
});

test("outputs are asked for by name, unless they come anyway", () => {
  show(body({ shape: [1, 2], data: [1, 2] }));
  click("requested-output");
  expect(JSON.parse(text.value).outputs).toBeUndefined();
  act(() => all("requested-output")[1]?.click());
  expect(JSON.parse(text.value).outputs).toEqual([{ name: "predict" }, { name: "predict_proba" }]);
  act(() => all("requested-output")[1]?.click());
  expect(JSON.parse(text.value).outputs).toBeUndefined();
});

test("an input that is missing can be added", () => {
  const second = { name: "y", datatype: "BYTES" as const, shape: [-1] };
  show(body({ shape: [1, 2], data: [1, 2] }), { ...METADATA, inputs: [...METADATA.inputs, second] });
  click("tensor-add");
  expect(inputs()[1]).toEqual({ name: "y", shape: [1], datatype: "BYTES", data: [""] });
});

test("a file is announced, previewed, and can be text again", async () => {
  show('{"inputs": [{"name": "i", "shape": [1], "datatype": "BYTES", "data": [""]}]}',
    { ...METADATA, inputs: [{ name: "i", datatype: "BYTES", shape: [1] }] });
  const written = new Promise<void>((done) => {
    const stop = files.subscribe((now) => now["i"] && queueMicrotask(() => (stop(), done())));
  });
  Object.defineProperty(one("tensor-file"), "files", { value: [new File(["ab"], "a.png", { type: "image/png" })] });
  one("tensor-file").dispatchEvent(new Event("change", { bubbles: true }));
  await written;
  await act(() => undefined);
  expect(inputs()[0]).toEqual({ name: "i", shape: [1], datatype: "BYTES", parameters: { binary_data_size: 6 } });
  expect(one("tensor-preview").getAttribute("src")).toBe("data:image/png;base64,YWI=");
  click("tensor-file-remove");
  expect(inputs()[0]).toEqual({ name: "i", shape: [1], datatype: "BYTES", data: [""] });
});

test("many elements have no cells, and broken JSON no form", () => {
  show(body({ shape: [100, 4], data: Array.from({ length: 400 }, () => 0) }));
  expect(all("cell")).toHaveLength(0);
  expect(place.textContent).toContain("400 elements");
  act(() => {
    text.value = "{";
  });
  expect(place.textContent).toContain("The JSON has a mistake");
});
