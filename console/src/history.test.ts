import { beforeEach, expect, test } from "vitest";
import { clear, exported, historyOf, pin, RECENT, record, remove, search } from "./history";
import type { Answer, Outgoing } from "./types";

const request = (body: string): Outgoing => ({ method: "POST", path: "/v2/models/m/infer", headers: {}, body });
const answer = (body: string, status = 200): Answer => ({
  status,
  statusText: "",
  headers: {},
  body,
  elapsed: 1,
  timing: {},
});
let next = 0;
let history = historyOf("");
const kept = () => JSON.parse(localStorage.getItem(`oipserver.history.${history.model}`) ?? "[]") as { id: string }[];

beforeEach(() => {
  localStorage.clear();
  history = historyOf(`model ${next++}`);
});

test("the ten most recent stay, the newest first", () => {
  for (let at = 0; at < RECENT + 3; at++) record(history, request(`${at}`), answer(""));
  expect(history.entries.value.map((entry) => entry.request.body)).toEqual(
    ["12", "11", "10", "9", "8", "7", "6", "5", "4", "3"],
  );
  expect(kept()).toHaveLength(RECENT);
});

test("a pinned one stays besides, and outlives a clearing", () => {
  const first = record(history, request("first"), answer(""));
  pin(history, first.id);
  for (let at = 0; at < RECENT + 3; at++) record(history, request(`${at}`), answer(""));
  expect(history.entries.value).toHaveLength(RECENT + 1);
  clear(history);
  expect(history.entries.value.map((entry) => entry.id)).toEqual([first.id]);
  remove(history, first.id);
  expect(history.entries.value).toEqual([]);
  expect(kept()).toEqual([]);
});

test("responses are kept with their requests", () => {
  record(history, request("asked"), answer("answered"));
  expect(kept()).toMatchObject([{ request: { body: "asked" }, answer: { body: "answered" } }]);
});

test("search looks at requests, answers and status, for all words", () => {
  record(history, request("iris one"), answer("virginica"));
  record(history, request("iris two"), answer("", 429));
  const found = (words: string) => search(history.entries.value, words).map((entry) => entry.request.body);
  expect(found("IRIS")).toHaveLength(2);
  expect(found("iris virginica")).toEqual(["iris one"]);
  expect(found("429")).toEqual(["iris two"]);
  expect(found("rose")).toEqual([]);
});

test("no key comes into the history or into what is exported", () => {
  const headers = { Authorization: "Bearer oip_secret", "X-Api-Key": "oip_secret", Accept: "*/*" };
  record(history, { ...request(""), headers }, answer(""));
  expect(exported(history)).not.toContain("oip_secret");
  expect(localStorage.getItem(`oipserver.history.${history.model}`)).not.toContain("oip_secret");
  expect(history.entries.value[0]?.request.headers).toEqual({ Accept: "*/*" });
});

test("what is too large to keep is there until the page is closed, and counted", () => {
  record(history, request("x".repeat(1_500_000)), answer(""));
  record(history, request("small"), answer(""));
  expect(history.entries.value).toHaveLength(2);
  expect(kept()).toHaveLength(1);
  expect(history.unkept.value).toBe(1);
});
