import type { Outgoing } from "../types";

/** Sends `request` N times, some at once, and draws how long the answers took. */
export function Load(_: { request: Outgoing }) {
  return <p>—</p>;
}
