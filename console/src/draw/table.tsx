import { rowsOf } from "./kinds";
import { short } from "./numbers";
import type { Tensor } from "../types";

const MOST_ROWS = 100;
const MOST_COLUMNS = 32;

/** The elements as they are, the first of them where they are many. */
export function ValueTable({ output, names }: { output: Tensor; names?: string[] | undefined }) {
  if (!output.data) return <p class="form-note">Its elements came as bytes; they are in the raw answer.</p>;
  const rows = rowsOf(output);
  const columns = rows[0]?.length ?? 0;
  const wide = Math.min(columns, MOST_COLUMNS);
  if (!columns) return <p class="form-note">It has no elements.</p>;
  return (
    <div class="table-scroll" tabIndex={0} role="group" aria-label={`Values of ${output.name}`}>
      <table class="values" data-testid="drawn-table" data-output={output.name}>
        {columns > 1 && (
          <thead>
            <tr><td />{Array.from({ length: wide }, (_, at) => <th scope="col" key={at}>{names?.[at] ?? at}</th>)}</tr>
          </thead>
        )}
        <tbody>
          {rows.slice(0, MOST_ROWS).map((row, at) => (
            <tr key={at}>
              <th scope="row">{at}</th>
              {row.slice(0, wide).map((value, column) => (
                <td key={column} title={String(value)}>{typeof value === "number" ? short(value) : String(value)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {(rows.length > MOST_ROWS || columns > wide) && (
        <p class="form-note">
          The first {Math.min(rows.length, MOST_ROWS)} of {rows.length} rows, {wide} of {columns} columns.
        </p>
      )}
    </div>
  );
}
