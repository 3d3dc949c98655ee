/** Everything that is asked of the server goes through here: its public API, at the origin of this page. */
import { base64Of, wire } from "./binary";
import { failureOf, lost, stopped, timedOut } from "./failures";
import { apiKey } from "./key";
import { parseTiming } from "./timing";
import type { Answer, Failure, Outgoing } from "./types";

/** What lies in front of /console, for proxies that put the server below a path of theirs. */
export const base = location.pathname.replace(/\/console(\/.*)?$/, "").replace(/\/$/, "");

/** The server's address, for what is copied. */
export const origin = (): string => location.origin + base;

/** The server's own deadline is 60 seconds by default. */
const SECONDS = 75;

export interface SendOptions {
  /** Seconds. */
  timeout?: number;
  signal?: AbortSignal;
}

/** Sends, and never throws: what goes wrong is the answer's `failure`. */
export async function send(request: Outgoing, options: SendOptions = {}): Promise<Answer> {
  const seconds = options.timeout ?? SECONDS;
  const timer = AbortSignal.timeout(seconds * 1000);
  const signal = options.signal ? AbortSignal.any([timer, options.signal]) : timer;
  const began = performance.now();
  try {
    const { body, headers } = wire(request);
    const response = await fetch(base + request.path, {
      method: request.method,
      headers: withKey(headers),
      signal,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "follow",
      ...(body === undefined || bodiless(request.method) ? {} : { body }),
    });
    return await read(response, began);
  } catch (error) {
    const failure = timer.aborted ? timedOut(seconds) : options.signal?.aborted ? stopped() : unsent(error);
    return { status: 0, statusText: "", headers: {}, body: "", elapsed: performance.now() - began, timing: {}, failure };
  }
}

export type Got<T> = { value: T; failure?: undefined } | { value?: undefined; failure: Failure };

/** A JSON document of the server.  What the console asks by itself waits when the key has asked too often. */
export async function get<T>(path: string, method = "GET", seconds = 10, tries = 4): Promise<Got<T>> {
  const answer = await send({ method, path, headers: {} }, { timeout: seconds });
  if (answer.failure?.code === "RATE_LIMIT" && tries > 1) {
    await new Promise((resolve) => setTimeout(resolve, (answer.failure?.retryAfter ?? 1) * 1000));
    return get(path, method, seconds, tries - 1);
  }
  if (answer.failure) return { failure: answer.failure };
  try {
    return { value: JSON.parse(answer.body) as T };
  } catch {
    return { failure: { code: "NOT_JSON", title: "The answer is no JSON", detail: path } };
  }
}

/** The path of a model, or of one of its versions. */
export function modelPath(model: string, version?: string): string {
  const path = `/v2/models/${encodeURIComponent(model)}`;
  return version ? `${path}/versions/${encodeURIComponent(version)}` : path;
}

const bodiless = (method: string): boolean => method === "GET" || method === "HEAD";

function withKey(headers: Record<string, string>): Record<string, string> {
  const named = Object.keys(headers).some((name) => name.toLowerCase() === "authorization");
  return apiKey.value && !named ? { ...headers, Authorization: `Bearer ${apiKey.value}` } : headers;
}

/** fetch says the same of a server that is gone and of a request that it would not send; the words tell. */
function unsent(error: unknown): Failure {
  const words = error instanceof Error ? error.message : String(error);
  const refused = error instanceof TypeError && /header|method|URL|ByteString|ISO-8859-1/i.test(words);
  return refused ? { code: "UNSENT", title: "The browser cannot send this", detail: words } : lost(origin());
}

async function read(response: Response, began: number): Promise<Answer> {
  const headers = Object.fromEntries(response.headers);
  const binary = !isText(headers["content-type"] ?? "");
  const body = binary ? base64Of(new Uint8Array(await response.arrayBuffer())) : await response.text();
  const answer: Answer = {
    status: response.status,
    statusText: response.statusText,
    headers,
    body,
    elapsed: performance.now() - began,
    timing: parseTiming(response.headers.get("server-timing")),
  };
  if (binary) answer.encoding = "base64";
  const id = response.headers.get("x-request-id");
  if (id) answer.requestId = id;
  if (!response.ok) answer.failure = failureOf(response.status, response.headers, binary ? "" : body);
  return answer;
}

const isText = (type: string): boolean =>
  type === "" || /^text\/|json|xml|javascript|x-www-form-urlencoded|yaml/i.test(type);
