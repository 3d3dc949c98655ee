import { useState } from "preact/hooks";
import type { TensorMetadata } from "../types";
import { shapeFor, table } from "./csv";
import type { InputPlace } from "./document";

/** Why a pasted table cannot be the tensor; nothing when it was taken. */
export function take(text: string, input: InputPlace, announced: TensorMetadata | undefined,
  fill: (literals: string[], shape: number[]) => void): string | undefined {
  const found = table(text, input.datatype);
  if ("problem" in found) return found.problem;
  const shape = shapeFor(found.rows, found.columns, announced?.shape);
  const elements = shape.reduce((product, size) => product * size, 1);
  if (elements !== found.literals.length) {
    return `${found.rows} × ${found.columns} values do not fill [${announced?.shape.join(", ")}]`;
  }
  fill(found.literals, shape);
  return undefined;
}

/** A table from a spreadsheet or a CSV file, pasted as text. */
export function Paste({ input, announced, fill }: {
  input: InputPlace;
  announced: TensorMetadata | undefined;
  fill: (literals: string[], shape: number[]) => void;
}) {
  const [text, setText] = useState("");
  const [said, setSaid] = useState<{ problem?: string }>();
  const apply = () => {
    const problem = take(text, input, announced, fill);
    setSaid(problem ? { problem } : {});
    if (!problem) setText("");
  };
  return (
    <details class="way">
      <summary>Paste a table</summary>
      <textarea
        data-testid="tensor-csv"
        aria-label={`Table for ${input.name}`}
        rows={4}
        spellcheck={false}
        placeholder={"One row a line; comma, semicolon or tab between values"}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setSaid(undefined);
        }}
      />
      <p class="form-row">
        <button type="button" data-testid="tensor-csv-apply" disabled={!text.trim()} onClick={apply}>Fill in</button>
        <span role="status">{said && (said.problem ?? "Filled in.")}</span>
      </p>
    </details>
  );
}
