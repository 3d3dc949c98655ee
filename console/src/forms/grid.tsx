import { useEffect, useRef, useState } from "preact/hooks";
import type { TensorMetadata } from "../types";
import type { InputPlace } from "./document";
import { plain, shown, typed } from "./literals";

const MOST_CELLS = 240;
const MOST_COLUMNS = 40;

const columnsOf = (shape: number[]): number => (shape.length > 1 ? (shape.at(-1) ?? 1) : 1);

/** Rows of cells; of a tensor of one dimension each element is a row where the model takes any number of them. */
export function cellsFit(input: InputPlace): boolean {
  const elements = input.shape.reduce((product, size) => product * size, 1);
  return elements <= MOST_CELLS && columnsOf(input.shape) <= MOST_COLUMNS && elements === input.literals?.length;
}

export function Grid({ input, announced, fill }: {
  input: InputPlace;
  announced: TensorMetadata | undefined;
  fill: (literals: string[], shape: number[]) => void;
}) {
  const literals = input.literals ?? [];
  const { shape } = input;
  const rowsVary = shape.length > 0 && (!announced || (announced.shape[0] ?? 0) < 0);
  const flat = shape.length === 1 && !rowsVary;
  const columns = flat ? literals.length : columnsOf(shape);
  const rows = columns ? literals.length / columns : 0;
  // A row of the first dimension may be several lines of cells.
  const lines = shape.length > 1 && shape[0] ? rows / shape[0] : 1;
  const set = (at: number, literal: string) => fill(literals.map((old, one) => (one === at ? literal : old)), shape);
  const add = () => {
    const size = lines * (columns || 1);
    const last = literals.slice(-size);
    const row = last.length ? last : Array.from({ length: size }, () => plain(input.datatype));
    fill([...literals, ...row], [(shape[0] ?? 0) + 1, ...shape.slice(1)]);
  };
  const drop = (row: number) => {
    const size = lines * columns;
    const from = Math.floor(row / lines) * size;
    fill([...literals.slice(0, from), ...literals.slice(from + size)], [(shape[0] ?? 1) - 1, ...shape.slice(1)]);
  };
  const names = namesOf(announced, columns);
  return (
    <div class="grid-scroll">
      <table class={`grid${input.datatype === "BYTES" ? " grid-text" : ""}`}>
        {columns > 1 && (
          <thead>
            <tr>
              <td />
              {Array.from({ length: columns }, (_, column) => (
                <th scope="col" key={column}>{names?.[column] ?? column}</th>
              ))}
            </tr>
          </thead>
        )}
        <tbody>
          {Array.from({ length: rows }, (_, row) => (
            <tr key={row}>
              <th scope="row">{indexOf(row * columns, shape).slice(0, flat ? 0 : -1).join(",") || row}</th>
              {Array.from({ length: columns }, (_, column) => {
                const at = row * columns + column;
                const index = indexOf(at, shape).join(",");
                const label = `${input.name} ${index}`;
                return (
                  <td key={column}>
                    <Cell datatype={input.datatype} literal={literals[at] ?? "null"} index={index} label={label}
                      set={(literal) => set(at, literal)} />
                  </td>
                );
              })}
              {rowsVary && rows > lines && row % lines === 0 && (
                <td>
                  <button type="button" class="plain small" data-testid="row-remove" aria-label={`Remove row ${row / lines}`}
                    onClick={() => drop(row)}>
                    ×
                  </button>
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
      {rowsVary && (
        <button type="button" class="plain small grid-add" data-testid="row-add" onClick={add}>+ row</button>
      )}
    </div>
  );
}

interface CellProps {
  datatype: string;
  literal: string;
  index: string;
  label: string;
  set: (literal: string) => void;
}

function Cell(props: CellProps) {
  return props.datatype === "BOOL" ? <Truth {...props} /> : <Typed {...props} />;
}

function Truth({ literal, index, label, set }: CellProps) {
  return (
    <input type="checkbox" data-testid="cell" data-index={index} aria-label={label} checked={literal === "true"}
      onChange={(event) => set(String(event.currentTarget.checked))} />
  );
}

/** Writes what it can with each key; what cannot be an element stays in the cell, marked, until it can. */
function Typed({ datatype, literal, index, label, set }: CellProps) {
  const [draft, setDraft] = useState<string>();
  const field = useRef<HTMLInputElement & HTMLTextAreaElement>(null);
  useEffect(() => {
    if (globalThis.document.activeElement !== field.current) setDraft(undefined);
  }, [literal]);
  const value = draft ?? shown(literal);
  const problem = draft === undefined ? undefined : problemOf(datatype, draft);
  const attributes = {
    ref: field,
    value,
    title: problem,
    "data-testid": "cell",
    "data-index": index,
    "aria-label": label,
    "aria-invalid": problem !== undefined,
    onInput: (event: { currentTarget: { value: string } }) => {
      const now = event.currentTarget.value;
      setDraft(now);
      const next = typed(datatype, now);
      if ("literal" in next && next.literal !== literal) set(next.literal);
    },
    onBlur: () => problem === undefined && setDraft(undefined),
  };
  if (datatype === "BYTES") {
    return <textarea rows={Math.min(8, value.split("\n").length)} spellcheck={false} {...attributes} />;
  }
  return (
    <>
      <input type="text" inputMode="decimal" autocomplete="off" size={Math.max(6, value.length + 1)} {...attributes} />
      {problem && <span class="cell-problem" role="alert">{problem}</span>}
    </>
  );
}

function problemOf(datatype: string, text: string): string | undefined {
  const value = typed(datatype, text);
  return "problem" in value ? value.problem : undefined;
}

function indexOf(at: number, shape: number[]): number[] {
  const index: number[] = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis] || 1;
    index.unshift(at % size);
    at = Math.floor(at / size);
  }
  return index;
}

/** The columns' names, where the model knows them. */
function namesOf(announced: TensorMetadata | undefined, columns: number): string[] | undefined {
  const names = announced?.parameters?.["feature_names"] ?? announced?.parameters?.["columns"];
  return Array.isArray(names) && names.length === columns ? names.map(String) : undefined;
}
