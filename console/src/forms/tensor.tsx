import type { Signal } from "@preact/signals";
import { useId, useState } from "preact/hooks";
import { sizeOf } from "../binary";
import type { Attached, Datatype, Files, TensorMetadata } from "../types";
import { FileFields } from "./file";
import { change, data, indentOf, type Document, type InputPlace } from "./document";
import { Grid, cellsFit } from "./grid";
import { plain } from "./literals";
import { Paste } from "./paste";

export interface TensorProps {
  document: Document;
  input: InputPlace;
  /** What the model's metadata say of it. */
  announced: TensorMetadata | undefined;
  files: Signal<Files>;
  write: (text: string) => void;
}

/** One input: its name and shape, its elements in cells where they are few, and other ways to fill it. */
export function TensorFields({ document, input, announced, files, write }: TensorProps) {
  const id = useId();
  const attached = input.literals ? undefined : files.value[input.name];
  const fill = (literals: string[], shape: number[]) => write(filled(document, input, literals, shape));
  const put = (chosen: Attached[], shape: number[]) => {
    files.value = { ...files.value, [input.name]: chosen };
    write(change(document.text, input, announcing(input, chosen, shape)));
  };
  return (
    <section class="tensor" data-testid="tensor" data-tensor={input.name} aria-labelledby={id}>
      <header class="tensor-head">
        <h3 id={id}>{input.name}</h3>
        <span class="tensor-type">{input.datatype}</span>
        <Shape input={input} announced={announced} fill={fill} />
      </header>
      {input.literals && cellsFit(input) && <Grid input={input} announced={announced} fill={fill} />}
      {input.literals && !cellsFit(input) && (
        <p class="form-note">
          {input.literals.length.toLocaleString("en")} elements: too many for cells. They are in the JSON, and a table or
          a file replaces them.
        </p>
      )}
      <div class="tensor-ways">
        <Paste input={input} announced={announced} fill={fill} />
        <FileFields input={input} announced={announced} attached={attached} fill={fill} put={put} />
      </div>
    </section>
  );
}

/** The shape as text; elements are kept from the front, and what is new is zero or empty. */
function Shape({ input, announced, fill }: {
  input: InputPlace;
  announced: TensorMetadata | undefined;
  fill: (literals: string[], shape: number[]) => void;
}) {
  const [draft, setDraft] = useState<string>();
  const resize = (text: string) => {
    setDraft(undefined);
    const shape = text.split(/[\s,;x×[\]]+/).filter(Boolean).map(Number);
    const elements = shape.reduce((product, size) => product * size, 1);
    if (!input.literals || !shape.every((size) => Number.isInteger(size) && size >= 0) || elements > 1e6) return;
    const kept = input.literals;
    fill(Array.from({ length: elements }, (_, at) => kept[at] ?? plain(input.datatype)), shape);
  };
  const wanted = announced && `[${announced.shape.map((size) => (size < 0 ? "any" : size)).join(", ")}]`;
  return (
    <label class="tensor-shape">
      <span>shape</span>
      <input
        data-testid="tensor-shape"
        size={Math.max(4, input.shape.join(", ").length)}
        value={draft ?? input.shape.join(", ")}
        disabled={!input.literals}
        title={wanted && `The model takes ${wanted}`}
        onInput={(event) => setDraft(event.currentTarget.value)}
        onChange={(event) => resize(event.currentTarget.value)}
      />
      {wanted && <span class="tensor-wanted">of {wanted}</span>}
    </label>
  );
}

function filled(document: Document, input: InputPlace, literals: string[], shape: number[]): string {
  const { binary_data_size: _, ...parameters } = parametersOf(input);
  return change(document.text, input, {
    shape: `[${shape.join(", ")}]`,
    data: data(literals, shape, input.nested, indentOf(document.text, input)),
    parameters: Object.keys(parameters).length ? JSON.stringify(parameters) : undefined,
  });
}

function announcing(input: InputPlace, attached: Attached[], shape: number[]) {
  const size = sizeOf(input.datatype as Datatype, attached);
  return {
    shape: `[${shape.join(", ")}]`,
    data: undefined,
    parameters: JSON.stringify({ ...parametersOf(input), binary_data_size: size }),
  };
}

function parametersOf(input: InputPlace): Record<string, unknown> {
  const raw = input.members.find((member) => member.key === "parameters")?.raw;
  return raw ? (JSON.parse(raw) as Record<string, unknown>) ?? {} : {};
}
