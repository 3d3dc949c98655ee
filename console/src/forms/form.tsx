import type { Signal } from "@preact/signals";
import type { Files, ModelMetadata } from "../types";

/** A form per tensor beside the JSON `text`, which both write. */
export function TensorForm(_: { text: Signal<string>; files: Signal<Files>; metadata: ModelMetadata }) {
  return <p>—</p>;
}
