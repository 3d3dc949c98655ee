/** The Server-Timing header (W3C Server Timing): a list of `name;dur=milliseconds;desc="text"`. */
import type { Timing } from "./types";

export function parseTiming(header: string | null): Timing {
  const timing: Timing = {};
  for (const [, name, rest] of (header ?? "").matchAll(/([\w-]+)((?:\s*;\s*\w+=(?:"[^"]*"|[^;,]*))*)/g)) {
    if (!name || !rest) continue;
    const duration = /;\s*dur=([\d.]+)/.exec(rest)?.[1];
    const description = /;\s*desc="?([^";,]*)/.exec(rest)?.[1];
    if (duration !== undefined) timing[name] = Number(duration);
    // The batch describes itself by its rows.
    if (name === "batch" && description !== undefined) timing.rows = Number(description);
  }
  return timing;
}
