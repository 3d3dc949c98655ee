/** The server's metrics over the last minutes, read while somebody looks. */
import { signal } from "@preact/signals";
import { send } from "./api";
import { growth, mean, quantile, reading, total, type Reading, type Wanted } from "./prometheus";
import type { Failure } from "./types";

/** Seconds. */
const EVERY = 2;
const KEPT = 150;

/** What happened between two readings. */
export interface Point {
  /** Seconds since 1970. */
  at: number;
  /** Requests a second. */
  rate: number;
  errors: number;
  /** Milliseconds; nothing where nothing was asked. */
  p50: number | null;
  p95: number | null;
  wait: number | null;
  /** Requests that wait now, and those inside the server. */
  queue: number;
  inside: number;
  /** Rows in one call of the model. */
  rows: number | null;
}

const readings = signal<Reading[]>([]);
export const watchFailure = signal<Failure | undefined>(undefined);

/** The models that the metrics name. */
export function watched(): string[] {
  const states = readings.value.at(-1)?.samples.get("oip_model_state") ?? [];
  return [...new Set(states.map(({ labels }) => labels["model"] ?? ""))].filter(Boolean).sort();
}

/** All models where none is named. */
export function points(model: string): Point[] {
  const wanted: Wanted = (labels) => !model || labels["model"] === model;
  return readings.value.slice(1).map((after, index) => between(readings.value[index] as Reading, after, wanted));
}

/** Reads until the returned function is called; rests while the page is hidden. */
export function watch(): () => void {
  const stop = new AbortController();
  void scrape(stop.signal);
  const timer = setInterval(() => document.hidden || void scrape(stop.signal), EVERY * 1000);
  return () => {
    clearInterval(timer);
    stop.abort();
  };
}

async function scrape(signal: AbortSignal): Promise<void> {
  const answer = await send({ method: "GET", path: "/metrics", headers: {} }, { signal, timeout: 10 });
  if (signal.aborted) return;
  watchFailure.value = answer.failure;
  if (!answer.failure) readings.value = [...readings.value, reading(answer.body, Date.now() / 1000)].slice(-KEPT);
}

export function between(before: Reading, after: Reading, wanted: Wanted): Point {
  const seconds = Math.max(after.at - before.at, 0.001);
  const time = (name: string, share: number) => milliseconds(quantile(before, after, name, share, wanted));
  const failed: Wanted = (labels) => wanted(labels) && labels["code"] !== "OK";
  return {
    at: after.at,
    rate: growth(before, after, "oip_requests_total", wanted) / seconds,
    errors: growth(before, after, "oip_requests_total", failed) / seconds,
    p50: time("oip_request_duration_seconds", 0.5),
    p95: time("oip_request_duration_seconds", 0.95),
    wait: time("oip_queue_duration_seconds", 0.95),
    queue: total(after, "oip_queue_depth", wanted),
    inside: total(after, "oip_requests_in_flight"),
    rows: mean(before, after, "oip_batch_rows", wanted) ?? null,
  };
}

const milliseconds = (seconds: number | undefined): number | null => (seconds === undefined ? null : seconds * 1000);
