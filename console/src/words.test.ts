import { expect, test } from "vitest";
import { failureOf, inWords, lost } from "./failures";
import { href, parse } from "./route";
import { fromIndex } from "./store";
import { parseTiming } from "./timing";

const fault = (code: string, error: string) => JSON.stringify({ error, error_code: code });

test.each([
  [401, fault("UNAUTHORIZED", "a key is needed"), {}, "The server wants an API key that it knows: a key is needed. Enter one in the field API key."],
  [429, fault("RATE_LIMIT", "too many requests"), { "retry-after": "3" }, "Too many requests with this key: too many requests. Try again in 3 s."],
  [503, fault("NOT_READY", "model 'm' is LOADING"), { "retry-after": "1" }, "Not ready: model 'm' is LOADING. Try again in 1 s."],
  [504, fault("TIMEOUT", "the deadline passed"), {}, "The deadline passed before there was an answer: the deadline passed."],
  [502, "<html>", {}, "The server answered 502."],
  [404, "", {}, "There is no such thing on the server."],
])("%i in words", (status, body, headers, words) => {
  expect(inWords(failureOf(status, new Headers(headers), body))).toBe(words);
});

test("a lost connection names the server", () => {
  expect(inWords(lost("http://here"))).toContain("http://here did not answer");
});

test("Server-Timing", () => {
  const header = 'decode;dur=0.280, queue;dur=0.100, compute;dur=0.135, encode;dur=0.031, batch;desc="12"';
  expect(parseTiming(header)).toEqual({ decode: 0.28, queue: 0.1, compute: 0.135, encode: 0.031, rows: 12 });
  expect(parseTiming(null)).toEqual({});
});

test.each([
  "#/",
  "#/server",
  "#/client?method=POST&path=%2Fhello%3Fa%3D1",
  "#/models/a%20b%2Fc/metadata",
  "#/models/iris/inference?version=2",
])("the address %s says what is shown", (hash) => {
  expect(href(parse(hash))).toBe(hash);
});

test("an unknown address shows the services, an unknown tab the inference", () => {
  expect(parse("#/nix")).toEqual({ page: "services" });
  expect(parse("#/models/m/nix")).toEqual({ page: "model", model: "m", tab: "inference" });
  expect(parse("#/models/%E0%A4%A/metadata")).toMatchObject({ page: "model" });
});

test("a model is as ready as the best of its versions", () => {
  const index = [
    { name: "m", version: "1", state: "UNAVAILABLE", reason: "no such file" },
    { name: "m", version: "2", state: "READY" },
    { name: "n", version: "1", state: "UNAVAILABLE", reason: "no such file" },
  ];
  expect(fromIndex(index).map(({ name, state, reason }) => [name, state, reason])).toEqual([
    ["m", "READY", ""],
    ["n", "UNAVAILABLE", "no such file"],
  ]);
});
