import { expect, test } from "vitest";
import { differences } from "./difference";

const answer = (data: string, name = "y", shape = "[1, 3]") =>
  `{"outputs": [{"name": "${name}", "shape": ${shape}, "datatype": "FP64", "data": ${data}}]}`;

test("elements that differ, where and by how much", () => {
  expect(differences(answer("[1, 2, 3]"), answer("[1.0, 2.5, 3]"), "outputs")).toEqual([
    { name: "y", count: 1, elements: 3, most: 0.5, first: [{ index: "[0, 1]", left: "2", right: "2.5" }] }]);
});

test("integers that JavaScript cannot tell apart are told apart", () => {
  const found = differences(answer("[9007199254740992]", "y", "[1]"), answer("[9007199254740993]", "y", "[1]"), "outputs");
  expect(found?.[0]?.count).toBe(1);
});

test("texts and missing numbers", () => {
  const found = differences(answer('["a", null, 1]'), answer('["b", 1, 1]'), "outputs");
  expect(found?.[0]).toMatchObject({ count: 2, most: 0 });
});

test("tensors of one side, or of another shape, are a difference each", () => {
  const found = differences(answer("[1, 2, 3]", "y"), answer("[1, 2, 3]", "z"), "outputs");
  expect(found?.map(({ name, other, count }) => [name, other, count])).toEqual([["y", "only left", 1], ["z", "only right", 1]]);
  expect(differences(answer("[1]", "y", "[1]"), answer("[1]", "y", "[1, 1]"), "outputs")?.[0]?.other).toBe(
    "FP64 [1] left, FP64 [1, 1] right");
});

test("what has no tensors is not compared by elements", () => {
  expect(differences('{"error": "a"}', answer("[1]"), "outputs")).toBeUndefined();
});
