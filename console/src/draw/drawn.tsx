import type { Files, InferAnswer, InferBody, ModelMetadata } from "../types";

/** The outputs as pictures: bars, boxes over the image, tables, histograms. */
export function Drawn(_: { answer: InferAnswer; request?: InferBody; files?: Files; metadata?: ModelMetadata }) {
  return <p>—</p>;
}
