import "./draw.css";

const WIDTH = 96;
const HEIGHT = 22;

/** A line without axes; `label` says in words what it shows. */
export function Sparkline({ values, label }: { values: number[]; label: string }) {
  if (!values.length) return null;
  const most = Math.max(...values, 1e-9);
  const step = values.length > 1 ? WIDTH / (values.length - 1) : 0;
  const points = values.map((value, at) =>
    [values.length > 1 ? at * step : WIDTH / 2, HEIGHT - 2 - (value / most) * (HEIGHT - 4)] as const);
  const [x, y] = points.at(-1) ?? [0, 0];
  return (
    <svg class="sparkline" data-testid="sparkline" viewBox={`-2 0 ${WIDTH + 4} ${HEIGHT}`} role="img" aria-label={label}>
      <title>{label}</title>
      <polyline points={points.map((point) => point.map((value) => value.toFixed(1)).join(",")).join(" ")} />
      <circle cx={x} cy={y} r="2" />
    </svg>
  );
}
