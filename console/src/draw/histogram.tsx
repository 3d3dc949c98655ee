import { bins, percentile, short } from "./numbers";

const WIDTH = 320;
const HEIGHT = 80;

/** How often which values occur. */
export function Histogram({ name, values }: { name: string; values: number[] }) {
  const found = bins(values);
  const most = Math.max(...found.map((bin) => bin.count), 1);
  const step = WIDTH / Math.max(found.length, 1);
  const sorted = [...values].sort((a, b) => a - b);
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const facts: [string, number][] = [
    ["smallest", sorted[0] ?? Number.NaN],
    ["median", percentile(sorted, 0.5)],
    ["mean", mean],
    ["largest", sorted.at(-1) ?? Number.NaN],
  ];
  const words = facts.map(([word, value]) => `${word} ${short(value)}`).join(", ");
  return (
    <figure class="histogram" data-testid="drawn-histogram" data-output={name}>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img"
        aria-label={`Histogram of ${values.length} values: ${words}`}>
        {found.map((bin, at) => {
          const height = (bin.count / most) * HEIGHT;
          return (
            <rect key={at} x={at * step + 0.5} width={Math.max(step - 1, 1)} y={HEIGHT - height} height={height}>
              <title>{`${short(bin.from)} to ${short(bin.to)}: ${bin.count}`}</title>
            </rect>
          );
        })}
      </svg>
      <figcaption>{facts.map(([word, value]) => <span key={word}>{word} <b>{short(value)}</b></span>)}</figcaption>
    </figure>
  );
}
