import { useState } from "preact/hooks";
import type { Box, Found } from "./kinds";
import { percent, short } from "./numbers";

type Order = "corners" | "size" | "rows";
type Rectangle = { left: number; top: number; width: number; height: number };

const ORDERS: Record<Order, string> = {
  corners: "left, top, right, bottom",
  size: "left, top, width, height",
  rows: "top, left, bottom, right",
};
const COLOURS = 6;

/** The boxes over the picture that was sent, or alone where none was. */
export function Boxes({ found, picture }: { found: Found; picture: string | undefined }) {
  const [order, setOrder] = useState<Order>("corners");
  const [natural, setNatural] = useState<[number, number]>();
  const [lit, setLit] = useState<number>();
  const rectangles = found.boxes.map((box) => rectangle(box.corners, order));
  const [width, height] = (picture && natural) || extent(rectangles);
  // Coordinates from 0 to 1 are parts of the picture.
  const parts = found.boxes.length > 0 && found.boxes.every((box) => box.corners.every((value) => value >= 0 && value <= 1));
  const [x, y] = parts ? [width, height] : [1, 1];
  const letter = width / 24;
  const labels = [...new Set(found.boxes.map((box) => box.label))];
  const colour = (box: Box) => `box-${labels.indexOf(box.label) % COLOURS}`;
  return (
    <section class="drawn-output" data-testid="drawn-boxes" data-output={found.output} aria-label={found.output}>
      <header class="tensor-head">
        <h3>{found.output}</h3>
        <label class="row-picker">
          <span>numbers are</span>{" "}
          <select value={order} onChange={(event) => setOrder(event.currentTarget.value as Order)}>
            {Object.entries(ORDERS).map(([key, words]) => <option key={key} value={key}>{words}</option>)}
          </select>
        </label>
      </header>
      <div class="boxes">
        <div class="picture">
          {picture && (
            <img src={picture} alt="The picture that was sent"
              onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => setNatural([naturalWidth, naturalHeight])} />
          )}
          <svg class={picture ? "over" : "alone"} viewBox={`0 0 ${width} ${height}`} role="img"
            aria-label={`${found.boxes.length} boxes`}>
            {rectangles.map((box, at) => (
              <g key={at} data-testid="drawn-box" data-label={found.boxes[at]?.label}
                class={`${colour(found.boxes[at] as Box)}${lit === at ? " lit" : ""}`}>
                <title>{words(found.boxes[at] as Box)}</title>
                <rect class="halo" x={box.left * x} y={box.top * y} width={box.width * x} height={box.height * y} />
                <rect x={box.left * x} y={box.top * y} width={box.width * x} height={box.height * y} />
                <text x={box.left * x} y={Math.max(box.top * y - letter * 0.3, letter)} font-size={letter}>
                  {found.boxes[at]?.label}
                </text>
              </g>
            ))}
          </svg>
        </div>
        <div class="table-scroll" tabIndex={0} role="group" aria-label="Boxes in numbers">
          <table class="values" data-testid="drawn-table" data-output={found.output}>
            <thead><tr><th scope="col">Label</th><th scope="col">Score</th><th scope="col">Box</th></tr></thead>
            <tbody>
              {found.boxes.map((box, at) => (
                <tr key={at} class={lit === at ? "lit" : ""} onMouseEnter={() => setLit(at)} onMouseLeave={() => setLit(undefined)}>
                  <td><span class={`swatch ${colour(box)}`} /> {box.label ?? at}</td>
                  <td>{box.score === undefined ? "" : percent(box.score)}</td>
                  <td>{box.corners.map(short).join(", ")}</td>
                </tr>
              ))}
            </tbody>
          </table>
          {!found.boxes.length && <p class="form-note">Nothing was found.</p>}
        </div>
      </div>
    </section>
  );
}

function rectangle([a, b, c, d]: Box["corners"], order: Order): Rectangle {
  if (order === "size") return { left: a, top: b, width: Math.max(0, c), height: Math.max(0, d) };
  const [left, top, right, bottom] = order === "rows" ? [b, a, d, c] : [a, b, c, d];
  return { left, top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
}

/** Room for all boxes, where no picture says how much there is. */
function extent(all: Rectangle[]): [number, number] {
  const width = Math.max(1, ...all.map((box) => box.left + box.width));
  const height = Math.max(1, ...all.map((box) => box.top + box.height));
  return [width, height];
}

const words = (box: Box): string => [box.label, box.score !== undefined && percent(box.score)].filter(Boolean).join(" ");
