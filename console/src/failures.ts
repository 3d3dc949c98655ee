/** Why a request failed, in words for a person: what the server said, and what to do about it. */
import type { Failure } from "./types";

const TITLES: Record<string, string> = {
  BAD_REQUEST: "The request is not valid",
  UNPROCESSABLE: "The model does not take a value of the request",
  UNAUTHORIZED: "The server wants an API key that it knows",
  FORBIDDEN: "This key may not do that",
  NOT_FOUND: "There is no such thing on the server",
  METHOD_NOT_ALLOWED: "This address does not take that method",
  REQUEST_TIMEOUT: "The request arrived too slowly",
  CONFLICT: "The idempotency key was used for another request",
  UNSUPPORTED: "The server does not do that",
  PAYLOAD_TOO_LARGE: "The request is too large",
  URI_TOO_LONG: "The address is too long",
  HEADERS_TOO_LARGE: "The headers are too large",
  UNSUPPORTED_MEDIA_TYPE: "The server does not take that encoding",
  RATE_LIMIT: "Too many requests with this key",
  INFERENCE_FAILED: "The model failed",
  INTERNAL: "The server failed",
  NOT_READY: "Not ready",
  OVERLOADED: "The server has too much to do",
  TIMEOUT: "The deadline passed before there was an answer",
};

/** For answers that carry no `error_code`, such as those of a proxy or of a custom route. */
const CODES: Record<number, string> = {
  400: "BAD_REQUEST",
  401: "UNAUTHORIZED",
  403: "FORBIDDEN",
  404: "NOT_FOUND",
  405: "METHOD_NOT_ALLOWED",
  408: "REQUEST_TIMEOUT",
  409: "CONFLICT",
  413: "PAYLOAD_TOO_LARGE",
  414: "URI_TOO_LONG",
  415: "UNSUPPORTED_MEDIA_TYPE",
  422: "UNPROCESSABLE",
  429: "RATE_LIMIT",
  431: "HEADERS_TOO_LARGE",
  500: "INTERNAL",
  503: "OVERLOADED",
  504: "TIMEOUT",
};

const ADVICE: Record<string, string> = {
  UNAUTHORIZED: "Enter one in the field API key.",
  INFERENCE_FAILED: "Its own words are in the server's log, under the request id.",
  INTERNAL: "The details are in the server's log, under the request id.",
};

/** What an answer that is not 2xx means. */
export function failureOf(status: number, headers: Headers, body: string): Failure {
  const said = saidBy(body);
  const code = said.code ?? CODES[status] ?? `HTTP_${status}`;
  const failure: Failure = {
    code,
    title: TITLES[code] ?? `The server answered ${status}`,
    detail: [said.sentence, ADVICE[code]].filter(Boolean).join(". ").replace(/\.\. /g, ". "),
  };
  const seconds = secondsOf(headers.get("retry-after"));
  if (seconds !== undefined) failure.retryAfter = seconds;
  return failure;
}

export const lost = (where: string): Failure => ({
  code: "LOST",
  title: "No connection to the server",
  detail: `${where} did not answer: it may have been stopped, or the network is down.`,
});

export const timedOut = (seconds: number): Failure => ({
  code: "TIMED_OUT",
  title: "No answer in time",
  detail: `Nothing came within ${seconds} seconds, so the console stopped waiting.`,
});

export const stopped = (): Failure => ({ code: "STOPPED", title: "Stopped", detail: "You stopped waiting." });

/** In one line. */
export function inWords(failure: Failure): string {
  const retry = failure.retryAfter === undefined ? "" : ` Try again in ${failure.retryAfter} s.`;
  const detail = failure.detail && !/[.!?]$/.test(failure.detail) ? `${failure.detail}.` : failure.detail;
  return `${failure.title}: ${detail}${retry}`.replace(/: $/, ".").trim();
}

/** The error object of the protocol, with the members that this server adds. */
function saidBy(body: string): { sentence: string; code?: string } {
  try {
    const document: unknown = JSON.parse(body);
    if (document && typeof document === "object") {
      const { error, error_code: code } = document as Record<string, unknown>;
      if (typeof error === "string") return typeof code === "string" ? { sentence: error, code } : { sentence: error };
    }
  } catch {
    // Not JSON: shown as it is in the response's body.
  }
  return { sentence: "" };
}

function secondsOf(header: string | null): number | undefined {
  const seconds = header === null ? Number.NaN : Number(header);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}
