import { pictureOf } from "../binary";
import type { Files, InferAnswer, InferBody, ModelMetadata, Tensor } from "../types";
import { Bars } from "./bars";
import { Boxes } from "./boxes";
import { Histogram } from "./histogram";
import { boxes, classesOf, numbers, shares } from "./kinds";
import { ValueTable } from "./table";
import "./draw.css";

interface DrawnProps {
  answer: InferAnswer;
  request?: InferBody | undefined;
  files?: Files | undefined;
  metadata?: ModelMetadata | undefined;
}

/** The outputs as pictures: bars, boxes over the image, tables, histograms. */
export function Drawn({ answer, files, metadata }: DrawnProps) {
  const found = boxes(answer);
  const others = answer.outputs.filter((output) => !found?.used.includes(output.name));
  return (
    <div class="drawn" data-testid="drawn">
      {found && <Boxes found={found} picture={pictureIn(files)} />}
      {others.map((output) => <Output key={output.name} output={output} metadata={metadata} />)}
      {!answer.outputs.length && <p class="form-note">The answer has no outputs.</p>}
    </div>
  );
}

const SPREAD = 24;

function Output({ output, metadata }: { output: Tensor; metadata: ModelMetadata | undefined }) {
  const rows = shares(output, metadata);
  const values = numbers(output);
  const many = !rows && values && values.length >= SPREAD ? values : undefined;
  return (
    <section class="drawn-output" aria-label={output.name}>
      <header class="tensor-head">
        <h3>{output.name}</h3>
        <span class="tensor-type">{output.datatype} [{output.shape.join(", ")}]</span>
      </header>
      {rows && <Bars name={output.name} rows={rows} />}
      {many && <Histogram name={output.name} values={many} />}
      {!rows && <ValueTable output={output} names={classesOf(output.name, output.shape.at(-1) ?? 0, metadata)} />}
    </section>
  );
}

function pictureIn(files: Files | undefined): string | undefined {
  return Object.values(files ?? {}).flat().map(pictureOf).find(Boolean);
}
