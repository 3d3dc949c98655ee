/** Tables as people paste them: comma, semicolon or tab between the values, quotes where a value has one of these. */
import { typed } from "./literals";

export type Table = { literals: string[]; rows: number; columns: number } | { problem: string };

/** Rows of cells; empty lines do not count (RFC 4180, with the separator of the first line). */
export function cells(text: string): string[][] {
  const separator = separatorOf(text);
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let quoted = false;
  const endCell = () => {
    row.push(cell);
    cell = "";
  };
  const endRow = () => {
    endCell();
    if (row.length > 1 || row[0]?.trim()) rows.push(row);
    row = [];
  };
  for (let at = 0; at < text.length; at++) {
    const letter = text[at] as string;
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') cell += text[at++];
      else quoted = false;
    } else if (letter === '"' && !cell.trim()) {
      quoted = true;
      cell = "";
    } else if (letter === separator) endCell();
    else if (letter === "\n") endRow();
    else if (letter !== "\r") cell += letter;
  }
  endRow();
  return rows;
}

/** Cells as elements of a datatype. A first line of words above numbers is a heading, and left out. */
export function table(text: string, datatype: string): Table {
  const all = cells(text);
  const rows = datatype !== "BYTES" && all.length > 1 && isHeading(all[0] ?? [], datatype) ? all.slice(1) : all;
  const columns = rows[0]?.length ?? 0;
  if (!columns) return { problem: "there are no values in it" };
  const first = all.length - rows.length + 1;
  const literals: string[] = [];
  for (const [index, row] of rows.entries()) {
    if (row.length !== columns) {
      return { problem: `line ${first + index} has ${row.length} values, the first has ${columns}` };
    }
    for (const [column, cell] of row.entries()) {
      const value = typed(datatype, cell);
      if ("problem" in value) {
        return { problem: `line ${first + index}, value ${column + 1}: ${value.problem}, got "${cell.trim()}"` };
      }
      literals.push(value.literal);
    }
  }
  return { literals, rows: rows.length, columns };
}

/**
 * The shape of a pasted table, as near to the model's as it goes.
 *
 * Args: announced: -1 is a dimension of any size; undefined is nothing known.
 */
export function shapeFor(rows: number, columns: number, announced: number[] | undefined): number[] {
  if (!announced || announced.length === 2) return [rows, columns];
  const elements = rows * columns;
  if (announced.length < 2) return announced.length ? [elements] : [];
  const known = announced.slice(1).filter((size) => size >= 0).reduce((product, size) => product * size, 1);
  const free = announced.slice(1).filter((size) => size < 0).length;
  if (free > 1 || (announced[0] === 1 && !free)) return announced.map((size) => Math.max(size, 1));
  return [rows, ...announced.slice(1).map((size) => (size < 0 ? columns / known : size))];
}

function isHeading(row: string[], datatype: string): boolean {
  return row.every((cell) => "problem" in typed(datatype, cell) && cell.trim() !== "");
}

function separatorOf(text: string): string {
  const line = text.split("\n").find((one) => one.trim()) ?? "";
  return ["\t", ";", ","].find((separator) => line.includes(separator)) ?? ",";
}
