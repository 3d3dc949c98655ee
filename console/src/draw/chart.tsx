import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

export interface Line {
  label: string;
  /** A custom property of CSS. */
  colour: string;
  values: (number | null)[];
  /** Points instead of a line. */
  points?: boolean;
}

interface ChartProps {
  /** What it shows, in words. */
  label: string;
  x: number[];
  lines: Line[];
  /** What a value is called on the axis. */
  format: (value: number) => string;
  formatX?: (value: number) => string;
  height?: number;
}

/** Lines or points over time, in the colours of the theme. */
export function Chart(props: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const { x, lines } = props;
  const table = [x, ...lines.map((line) => line.values)] as uPlot.AlignedData;
  const latest = useRef(props);
  latest.current = props;
  const kind = lines.map((line) => line.label + (line.points ?? "")).join("\n");

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(latest.current, element), tableOf(latest.current), element);
    };
    draw();
    const sized = new ResizeObserver(() =>
      plot.current?.setSize({ width: element.clientWidth, height: latest.current.height ?? HEIGHT }));
    sized.observe(element);
    const themed = new MutationObserver(draw);
    themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    return () => {
      sized.disconnect();
      themed.disconnect();
      dark.removeEventListener("change", draw);
      plot.current?.destroy();
      plot.current = undefined;
    };
  }, [kind]);

  useEffect(() => plot.current?.setData(table), [x, ...lines.map((line) => line.values)]);

  return <div class="chart" ref={place} role="img" aria-label={props.label} />;
}

const HEIGHT = 140;

const tableOf = ({ x, lines }: ChartProps): uPlot.AlignedData =>
  [x, ...lines.map((line) => line.values)] as uPlot.AlignedData;

function options(props: ChartProps, element: HTMLElement): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim() || style.color;
  const axis = {
    stroke: colour("--faint"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1, size: 4 },
    font: `11px ${style.fontFamily}`,
  };
  const { format, formatX, lines } = props;
  return {
    width: element.clientWidth,
    height: props.height ?? HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 20, 0, 0],
    scales: { x: { time: false }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
    axes: [
      { ...axis, size: 24, values: (_, ticks) => ticks.map((tick) => formatX?.(tick) ?? String(tick)) },
      { ...axis, size: 60, values: (_, ticks) => ticks.map(format) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: line.points ? 0 : 1.5,
        ...(line.points && { paths: () => null }),
        // Of lines, too: a value between two moments without one is no line.
        points: { show: true, size: 3, fill: colour(line.colour) },
        spanGaps: false,
      })),
    ],
  };
}
