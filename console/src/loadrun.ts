/** Many equal requests, some at once: the times they took, as they come in. */
import { send } from "./api";
import { percentile } from "./draw/numbers";
import type { Answer, Outgoing } from "./types";

export interface Shot {
  /** Milliseconds from the start of the run to the answer. */
  at: number;
  elapsed: number;
  /** Milliseconds of it that the server accounts for (Server-Timing). */
  served?: number;
  /** The failure in words, for what was no good answer. */
  failed?: string;
}

export interface Summary {
  count: number;
  errors: number;
  /** Of good answers alone, in milliseconds; a refusal that comes at once would make them look better. */
  p50: number;
  p95: number;
  p99: number;
  most: number;
  /** The median of what the server accounts for. */
  served: number;
  /** Good answers a second. */
  rate: number;
}

export interface Plan {
  requests: number;
  concurrency: number;
  signal: AbortSignal;
  /** After each answer. */
  onShot: (shot: Shot) => void;
}

/** Ends with the last answer, or soon after the signal. */
export async function run(request: Outgoing, plan: Plan): Promise<void> {
  const began = performance.now();
  let left = plan.requests;
  const worker = async () => {
    while (left > 0 && !plan.signal.aborted) {
      left -= 1;
      const answer = await send(request, { signal: plan.signal });
      if (!plan.signal.aborted) plan.onShot(shotOf(answer, performance.now() - began));
    }
  };
  await Promise.all(Array.from({ length: Math.min(plan.concurrency, plan.requests) }, worker));
}

export function summary(shots: Shot[]): Summary {
  const answers = shots.filter((shot) => !shot.failed);
  const good = ascending(answers.map((shot) => shot.elapsed));
  const seconds = shots.reduce((latest, shot) => Math.max(latest, shot.at), 0) / 1000;
  return {
    count: shots.length,
    errors: shots.length - good.length,
    p50: percentile(good, 0.5),
    p95: percentile(good, 0.95),
    p99: percentile(good, 0.99),
    most: good.at(-1) ?? Number.NaN,
    served: percentile(ascending(answers.flatMap((shot) => shot.served ?? [])), 0.5),
    rate: seconds ? good.length / seconds : 0,
  };
}

/** Failures in words, and how often each. */
export function failures(shots: Shot[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const { failed } of shots) if (failed) counts.set(failed, (counts.get(failed) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

function shotOf(answer: Answer, at: number): Shot {
  const { failure, status, elapsed, timing } = answer;
  const { decode, queue, compute, encode } = timing;
  const parts = [decode, queue, compute, encode].filter((part) => part !== undefined);
  if (!failure) return { at, elapsed, ...(parts.length && { served: parts.reduce((a, b) => a + b, 0) }) };
  return { at, elapsed, failed: [status || "", failure.title].join(" ").trim() };
}

const ascending = (values: number[]): number[] => values.sort((a, b) => a - b);
