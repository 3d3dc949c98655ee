import { useState } from "preact/hooks";
import { attach, pictureOf } from "../binary";
import type { Attached, TensorMetadata } from "../types";
import type { InputPlace } from "./document";
import { take } from "./paste";
import { pictureShape, pixels, type Range } from "./picture";

interface FileProps {
  input: InputPlace;
  announced: TensorMetadata | undefined;
  attached: Attached[] | undefined;
  fill: (literals: string[], shape: number[]) => void;
  put: (chosen: Attached[], shape: number[]) => void;
}

/** Files as a tensor: bytes as they are, a table of numbers, or a picture as numbers where the shape is one's. */
export function FileFields(props: FileProps) {
  const { input, announced, attached } = props;
  const [problem, setProblem] = useState<string>();
  const [over, setOver] = useState(false);
  const asPicture = input.datatype !== "BYTES" && !!pictureShape(announced?.shape ?? input.shape);
  const choose = (files: File[]) => {
    if (!files.length) return;
    setProblem(undefined);
    taken(files, props).catch((fault: unknown) => setProblem(fault instanceof Error ? fault.message : String(fault)));
  };
  return (
    <div class={`way way-file${over ? " over" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        choose([...(event.dataTransfer?.files ?? [])]);
      }}>
      <label>
        {input.datatype === "BYTES" ? "File or picture" : asPicture ? "Picture" : "CSV file"}{" "}
        <input type="file" data-testid="tensor-file" multiple={input.datatype === "BYTES" && announced?.shape[0] !== 1}
          accept={asPicture ? "image/*" : input.datatype === "BYTES" ? undefined : ".csv,.tsv,.txt,text/*"}
          onChange={(event) => choose([...(event.currentTarget.files ?? [])])} />
      </label>
      {problem && <p class="form-problem" role="alert">{problem}</p>}
      {attached?.map((file, index) => (
        <figure class="preview" key={index}>
          {pictureOf(file) && <img data-testid="tensor-preview" src={pictureOf(file)} alt={`Preview of ${file.name}`} />}
          <figcaption data-testid="tensor-file-name">{file.name}, {bytes(file)}</figcaption>
        </figure>
      ))}
      {attached && (
        <button type="button" class="plain small" data-testid="tensor-file-remove"
          onClick={() => props.fill(empty(input), input.shape)}>
          Write it as JSON instead
        </button>
      )}
    </div>
  );
}

async function taken(files: File[], { input, announced, fill, put }: FileProps): Promise<void> {
  const first = files[0] as File;
  if (input.datatype === "BYTES") {
    const attached = await Promise.all(files.map(attach));
    put(attached, filesShape(attached.length, announced?.shape));
    return;
  }
  const layout = first.type.startsWith("image/") ? pictureShape(announced?.shape ?? input.shape) : undefined;
  if (layout) {
    const picture = await pixels(first, layout, input.datatype, RANGES[input.datatype] ?? [0, 1]);
    put([picture.attached], picture.shape);
    return;
  }
  if (first.type.startsWith("image/")) throw new Error("this tensor has not the shape of a picture");
  const problem = take(await first.text(), input, announced, fill);
  if (problem) throw new Error(`${first.name}: ${problem}`);
}

/** Whole numbers are the pixels' own; floats are from 0 to 1, as most networks were trained. */
const RANGES: Record<string, Range> = Object.fromEntries(
  ["UINT8", "UINT16", "UINT32", "INT16", "INT32", "INT64", "UINT64"].map((name) => [name, [0, 255] as Range]));

/** One element a file, in as many dimensions as the model has. */
function filesShape(count: number, announced: number[] | undefined): number[] {
  const rank = announced?.length ?? 1;
  return rank ? [count, ...Array.from({ length: rank - 1 }, () => 1)] : [];
}

function empty(input: InputPlace): string[] {
  const elements = input.shape.reduce((product, size) => product * size, 1);
  return Array.from({ length: elements }, () => (input.datatype === "BYTES" ? '""' : "0"));
}

function bytes(file: Attached): string {
  const size = Math.floor((file.base64.length * 3) / 4);
  return size < 1000 ? `${size} bytes` : size < 1e6 ? `${(size / 1e3).toFixed(1)} kB` : `${(size / 1e6).toFixed(1)} MB`;
}
