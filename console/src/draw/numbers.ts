/** Numbers for people to read. */

/** Four digits that matter; whole numbers whole. */
export function short(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  const size = Math.abs(value);
  if (size && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export function percent(share: number): string {
  const value = share * 100;
  return `${value >= 99.95 || value === 0 ? value.toFixed(0) : value < 0.1 ? "< 0.1" : value.toFixed(1)} %`;
}

/** The smallest value that at least this share of the values does not exceed (nearest rank). */
export function percentile(sorted: number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

export interface Bin {
  from: number;
  to: number;
  count: number;
}

/** Bins of one width from the smallest to the largest value; equal values are one bin. */
export function bins(values: number[], most = 24): Bin[] {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!(high > low)) return values.length ? [{ from: low, to: low, count: values.length }] : [];
  const count = Math.min(most, Math.max(5, Math.ceil(Math.sqrt(values.length))));
  const width = (high - low) / count;
  const found = Array.from({ length: count }, (_, at) => ({ from: low + at * width, to: low + (at + 1) * width, count: 0 }));
  for (const value of values) {
    const bin = found[Math.min(count - 1, Math.floor((value - low) / width))];
    if (bin) bin.count += 1;
  }
  return found;
}
