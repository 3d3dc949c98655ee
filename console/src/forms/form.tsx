import { useComputed, type Signal } from "@preact/signals";
import type { Files, ModelMetadata, TensorMetadata } from "../types";
import { append, change, data, read, type Document } from "./document";
import { plain } from "./literals";
import { Requested } from "./requested";
import { TensorFields } from "./tensor";
import "./form.css";

/**
 * A form per tensor beside the JSON `text`, which both write.
 *
 * It shows the inputs that stand in the text; what the model takes beside them can be added.
 */
export function TensorForm({ text, files, metadata }: {
  text: Signal<string>;
  files: Signal<Files>;
  metadata: ModelMetadata;
}) {
  const found = useComputed(() => read(text.value));
  const document = found.value;
  const write = (next: string) => {
    text.value = next;
  };
  return (
    <div class="form" data-testid="form">
      {document
        ? <Fields document={document} files={files} metadata={metadata} write={write} />
        : <p class="form-note">The JSON has a mistake. The form is here again when it is mended.</p>}
    </div>
  );
}

function Fields({ document, files, metadata, write }: {
  document: Document;
  files: Signal<Files>;
  metadata: ModelMetadata;
  write: (text: string) => void;
}) {
  return (
    <>
      {document.inputs.map((input, index) => (
        <TensorFields
          key={index}
          document={document}
          input={input}
          announced={announcedFor(metadata, document, input.name)}
          files={files}
          write={write}
        />
      ))}
      <Missing document={document} metadata={metadata} write={write} />
      <Requested document={document} metadata={metadata} write={write} />
    </>
  );
}

/** Buttons for inputs that the model takes and the request does not have. */
function Missing({ document, metadata, write }: {
  document: Document;
  metadata: ModelMetadata;
  write: (text: string) => void;
}) {
  const absent = metadata.inputs.filter(
    (tensor) => !document.inputs.some((input) => announcedFor(metadata, document, input.name) === tensor));
  const named = document.inputs.some((input) => namedInputs(metadata).some((tensor) => tensor.name === input.name));
  if (!absent.length || named) return null;
  return (
    <p class="form-row">
      {absent.map((tensor) => (
        <button type="button" key={tensor.name} data-testid="tensor-add"
          onClick={() => write(append(document.text, plainest(tensor)))}>
          Add {tensor.name}
        </button>
      ))}
    </p>
  );
}

/** What the model says of an input; one that has no other input lets callers name it freely. */
function announcedFor(metadata: ModelMetadata, document: Document, name: string): TensorMetadata | undefined {
  const all = [...metadata.inputs, ...namedInputs(metadata)];
  const only = metadata.inputs.length === 1 && document.inputs.length === 1 ? metadata.inputs[0] : undefined;
  return all.find((tensor) => tensor.name === name) ?? only;
}

const namedInputs = (metadata: ModelMetadata): TensorMetadata[] => metadata.parameters?.named_inputs ?? [];

function plainest(tensor: TensorMetadata): string {
  const shape = tensor.shape.map((size) => Math.max(size, 1));
  const elements = shape.reduce((product, size) => product * size, 1);
  const empty = { from: 0, to: 2, members: [] };
  const written = /^(FP16|BF16)$/.test(tensor.datatype) ? "FP32" : tensor.datatype;
  return change("{}", empty, {
    name: JSON.stringify(tensor.name),
    shape: `[${shape.join(", ")}]`,
    datatype: JSON.stringify(written),
    data: data(Array.from({ length: elements }, () => plain(written)), shape, false),
  });
}
