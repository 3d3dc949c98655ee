import type { Outgoing } from "./types";

/** `base` is the server's address, `key` the API key, only given when the user asked for it. */
export interface ExportOptions {
  base: string;
  key?: string;
}

export function asCurl(_request: Outgoing, _options: ExportOptions): string {
  return "";
}

export function asPython(_request: Outgoing, _options: ExportOptions): string {
  return "";
}

export function asGrpcurl(_request: Outgoing, _options: ExportOptions): string {
  return "";
}
