import { useState } from "preact/hooks";
import type { Share } from "./kinds";
import { percent, short } from "./numbers";

const IN_ORDER = 12;
const MOST = 10;

/** The classes of one row as bars: in their order where they are few, else the highest. */
export function Bars({ name, rows }: { name: string; rows: Share[][] }) {
  const [chosen, setChosen] = useState(0);
  const at = Math.min(chosen, rows.length - 1);
  const row = rows[at] ?? [];
  const best = row.reduce((most, share) => Math.max(most, share.value), -Infinity);
  const few = row.length <= IN_ORDER ? row : [...row].sort((a, b) => b.value - a.value).slice(0, MOST);
  const asShare = row.every((share) => share.value >= 0 && share.value <= 1);
  const full = asShare ? 1 : Math.max(...row.map((share) => Math.abs(share.value)), 1e-9);
  return (
    <div data-testid="drawn-bars" data-output={name}>
      {rows.length > 1 && (
        <label class="row-picker">
          Row{" "}
          <input type="number" min={0} max={rows.length - 1} value={at} data-testid="drawn-row"
            onInput={(event) => setChosen(Math.max(0, Math.trunc(Number(event.currentTarget.value) || 0)))} />{" "}
          of {rows.length}
        </label>
      )}
      <ul class="bars">
        {few.map((share) => (
          <li key={share.label} data-testid="drawn-bar" data-label={share.label} class={share.value === best ? "best" : ""}>
            <span class="bar-label" title={share.label}>{share.label}</span>
            <span class="bar"><span style={{ width: `${(Math.abs(share.value) / full) * 100}%` }} /></span>
            <span class="bar-value" title={String(share.value)}>
              {asShare ? percent(share.value) : short(share.value)}
            </span>
          </li>
        ))}
      </ul>
      {few.length < row.length && <p class="form-note">The highest {MOST} of {row.length}.</p>}
    </div>
  );
}
