import { afterEach, expect, test, vi } from "vitest";
import { failures, run, summary, type Shot } from "./loadrun";
import type { Outgoing } from "./types";

const REQUEST: Outgoing = { method: "POST", path: "/v2/models/m/infer", headers: {}, body: "{}" };

afterEach(() => vi.unstubAllGlobals());

/** Answers like a server, and counts how many were under way at once. */
function server(answer: (count: number) => Response) {
  const seen = { count: 0, inside: 0, most: 0 };
  vi.stubGlobal("fetch", async () => {
    seen.count += 1;
    seen.inside += 1;
    seen.most = Math.max(seen.most, seen.inside);
    await Promise.resolve();
    seen.inside -= 1;
    return answer(seen.count);
  });
  return seen;
}

test("as many as wanted, not more at once", async () => {
  const seen = server(() => new Response("{}", { headers: { "server-timing": "queue;dur=1, compute;dur=2.5" } }));
  const shots: Shot[] = [];
  await run(REQUEST, { requests: 20, concurrency: 3, signal: new AbortController().signal, onShot: (shot) => shots.push(shot) });
  expect(seen).toMatchObject({ count: 20, most: 3 });
  expect(summary(shots)).toMatchObject({ count: 20, errors: 0, served: 3.5 });
});

test("a stop ends it", async () => {
  const stop = new AbortController();
  const seen = server((count) => {
    if (count === 2) stop.abort();
    return new Response("{}");
  });
  await run(REQUEST, { requests: 1000, concurrency: 1, signal: stop.signal, onShot: () => undefined });
  expect(seen.count).toBe(2);
});

test("refusals count as errors, in words, and not as fast answers", async () => {
  server((count) => (count % 2 ? new Response("{}") : new Response('{"error": "full"}', { status: 503 })));
  const shots: Shot[] = [];
  await run(REQUEST, { requests: 4, concurrency: 1, signal: new AbortController().signal, onShot: (shot) => shots.push(shot) });
  expect(summary(shots).errors).toBe(2);
  expect(failures(shots)).toEqual([[expect.stringMatching(/^503 ./), 2]]);
});

test("percentiles of good answers", () => {
  const shots = Array.from({ length: 100 }, (_, at) => ({ at: at * 10, elapsed: 100 - at }));
  expect(summary(shots)).toMatchObject({ p50: 50, p95: 95, p99: 99, most: 100 });
  expect(summary([]).p50).toBeNaN();
});
