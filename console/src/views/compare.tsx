import type { Entry } from "../types";

/** Two answers of the history beside each other. */
export function Compare(_: { entries: Entry[] }) {
  return <p>—</p>;
}
