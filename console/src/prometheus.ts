/** Prometheus' text format, and what two readings of a counter or histogram tell about the time between them. */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPED: Record<string, string> = { n: "\n", '"': '"', "\\": "\\" };

export function parse(text: string): Sample[] {
  return text.split("\n").flatMap((line) => {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) return [];
    const [, name = "", inside = "", value = ""] = match;
    return [{ name, labels: labelsOf(inside), value: numberOf(value) }];
  });
}

/** One scrape: its samples by name, and when it was taken in seconds. */
export interface Reading {
  at: number;
  samples: Map<string, Sample[]>;
}

export function reading(text: string, at: number): Reading {
  const samples = new Map<string, Sample[]>();
  for (const sample of parse(text)) {
    const same = samples.get(sample.name);
    if (same) same.push(sample);
    else samples.set(sample.name, [sample]);
  }
  return { at, samples };
}

export type Wanted = (labels: Record<string, string>) => boolean;

/** The sum of a family's samples. */
export function total(from: Reading, name: string, wanted: Wanted = () => true): number {
  return (from.samples.get(name) ?? []).reduce((sum, { labels, value }) => (wanted(labels) ? sum + value : sum), 0);
}

/** How much a counter grew; of a server that was started anew it is all that it has. */
export function growth(before: Reading, after: Reading, name: string, wanted?: Wanted): number {
  const grown = total(after, name, wanted) - total(before, name, wanted);
  return grown < 0 ? total(after, name, wanted) : grown;
}

/**
 * A quantile of what a histogram took in between two readings, by straight lines within its buckets as in PromQL's
 * `histogram_quantile`.  Nothing when it took in nothing; the last finite bound where it lies above.
 */
export function quantile(before: Reading, after: Reading, name: string, share: number, wanted?: Wanted):
number | undefined {
  const bounds = buckets(before, after, name, wanted);
  const count = bounds.at(-1)?.count ?? 0;
  if (count <= 0) return undefined;
  const rank = share * count;
  let [low, below] = [0, 0];
  for (const { bound, count: upTo } of bounds) {
    if (upTo >= rank) {
      if (!Number.isFinite(bound)) return low;
      return upTo > below ? low + ((bound - low) * (rank - below)) / (upTo - below) : bound;
    }
    [low, below] = [bound, upTo];
  }
  return low;
}

/** The mean of what a histogram took in between two readings. */
export function mean(before: Reading, after: Reading, name: string, wanted?: Wanted): number | undefined {
  const count = growth(before, after, `${name}_count`, wanted);
  return count > 0 ? growth(before, after, `${name}_sum`, wanted) / count : undefined;
}

function buckets(before: Reading, after: Reading, name: string, wanted: Wanted = () => true) {
  const bounds = new Set((after.samples.get(`${name}_bucket`) ?? []).map(({ labels }) => labels["le"] ?? ""));
  return [...bounds]
    .map((le) => ({
      bound: numberOf(le),
      count: growth(before, after, `${name}_bucket`, (labels) => labels["le"] === le && wanted(labels)),
    }))
    .sort((a, b) => a.bound - b.bound);
}

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [, name = "", value = ""] of text.matchAll(LABEL)) {
    labels[name] = value.replace(/\\(.)/g, (_, letter: string) => ESCAPED[letter] ?? letter);
  }
  return labels;
}

function numberOf(word: string): number {
  if (word === "+Inf") return Infinity;
  return word === "-Inf" ? -Infinity : Number(word);
}
