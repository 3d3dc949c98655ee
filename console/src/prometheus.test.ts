import { expect, test } from "vitest";
import { growth, mean, parse, quantile, reading, total } from "./prometheus";
import { between } from "./watch";

test("samples have labels, escapes and all kinds of numbers", () => {
  expect(parse([
    "# HELP a text",
    'a{x="1",y="a\\"b\\\\c\\nd, }"} 1.5e3 1700000000',
    "b +Inf",
    "c NaN",
    "",
  ].join("\n"))).toEqual([
    { name: "a", labels: { x: "1", y: 'a"b\\c\nd, }' }, value: 1500 },
    { name: "b", labels: {}, value: Infinity },
    { name: "c", labels: {}, value: NaN },
  ]);
});

const histogram = (name: string, counts: number[], sum: number, model = "iris") =>
  ["0.001", "0.01", "+Inf"].map((le, at) => `${name}_bucket{le="${le}",model="${model}"} ${counts[at]}`).concat(
    `${name}_count{model="${model}"} ${counts.at(-1)}`, `${name}_sum{model="${model}"} ${sum}`).join("\n");

test("a quantile is of what came in between, by lines within the buckets", () => {
  const before = reading(histogram("t", [10, 10, 10], 0.01), 0);
  const after = reading(histogram("t", [10, 20, 20], 0.06), 2);
  expect(quantile(before, after, "t", 0.5)).toBeCloseTo(0.0055);
  expect(mean(before, after, "t")).toBeCloseTo(0.005);
  expect(quantile(before, before, "t", 0.5)).toBeUndefined();
  expect(mean(before, before, "t")).toBeUndefined();
});

test("above the last bound, it is the last bound", () => {
  const before = reading(histogram("t", [0, 0, 0], 0), 0);
  expect(quantile(before, reading(histogram("t", [0, 0, 9], 90), 2), "t", 0.95)).toBe(0.01);
});

test("a server that was started anew counts from zero", () => {
  expect(growth(reading("n 100", 0), reading("n 7", 2), "n")).toBe(7);
});

test("sums take the wanted labels alone", () => {
  const found = reading('n{model="a"} 1\nn{model="b"} 2', 0);
  expect(total(found, "n")).toBe(3);
  expect(total(found, "n", (labels) => labels["model"] === "b")).toBe(2);
  expect(total(found, "none")).toBe(0);
});

test("a point of the panel", () => {
  const text = (ok: number, bad: number, buckets: number[], rows: number) => [
    `oip_requests_total{code="OK",model="iris"} ${ok}`,
    `oip_requests_total{code="OVERLOADED",model="iris"} ${bad}`,
    `oip_requests_total{code="OK",model="other"} 1000`,
    'oip_queue_depth{model="iris"} 3',
    "oip_requests_in_flight 5",
    histogram("oip_request_duration_seconds", buckets, 1),
    histogram("oip_queue_duration_seconds", [0, 0, 0], 0),
    `oip_batch_rows_count{model="iris"} ${rows}`,
    `oip_batch_rows_sum{model="iris"} ${rows * 4}`,
  ].join("\n");
  const point = between(reading(text(0, 0, [0, 0, 0], 0), 10), reading(text(20, 4, [20, 20, 20], 5), 12),
    (labels) => labels["model"] === "iris");
  expect(point).toMatchObject({ rate: 12, errors: 2, queue: 3, inside: 5, rows: 4, wait: null });
  expect(point.p50).toBeCloseTo(0.5);
});
