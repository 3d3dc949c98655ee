/** GET of the model's metadata, as tables. */
import { useState } from "preact/hooks";
import { modelPath, origin } from "../api";
import { Viewer } from "../editor/editor";
import { pretty } from "../format";
import { open } from "../infer";
import { Copy, FailureNote } from "../parts";
import type { Session } from "../store";
import type { TensorMetadata } from "../types";

export function Metadata({ session, version }: { session: Session; version?: string | undefined }) {
  const [raw, setRaw] = useState(false);
  const metadata = session.metadata.value;
  const failure = session.metadataFailure.value;
  const url = origin() + modelPath(session.model, version);
  return (
    <section class="pane" aria-label="Metadata" data-testid="metadata">
      <header>
        <span class="method" data-testid="metadata-method">
          GET
        </span>
        <span class="url grow" data-testid="metadata-url" title={url}>
          {url}
        </span>
        <Copy text={url} label="Copy the URL" />
        <button type="button" data-testid="metadata-send" onClick={() => void open(session, version)}>
          Send
        </button>
        <button type="button" aria-pressed={raw} data-testid="metadata-raw" onClick={() => setRaw(!raw)}>
          JSON
        </button>
      </header>
      {failure && <FailureNote failure={failure} testid="metadata-error" />}
      {metadata && raw && <Viewer text={pretty(metadata)} label="Metadata as JSON" />}
      {metadata && !raw && (
        <div class="body column">
          <dl class="about">
            <dt>Name</dt>
            <dd data-testid="metadata-name">{metadata.name}</dd>
            <dt>Version</dt>
            <dd data-testid="metadata-version">{metadata.versions.join(", ")}</dd>
            <dt>Platform</dt>
            <dd data-testid="metadata-platform">{metadata.platform}</dd>
            {Object.entries(metadata.parameters ?? {})
              .filter(([name]) => name !== "optional_outputs" && name !== "named_inputs")
              .map(([name, value]) => (
                <>
                  <dt>{name}</dt>
                  <dd class="mono">{typeof value === "string" ? value : JSON.stringify(value)}</dd>
                </>
              ))}
          </dl>
          <Tensors title="Inputs" tensors={metadata.inputs} testid="metadata-input" />
          <Tensors title="Inputs by name, in place of those" tensors={metadata.parameters?.named_inputs} />
          <Tensors title="Outputs" tensors={metadata.outputs} testid="metadata-output" />
          <Tensors title="Outputs on request" tensors={metadata.parameters?.optional_outputs} />
        </div>
      )}
      {!metadata && !failure && <p class="empty">Asking the server.</p>}
    </section>
  );
}

function Tensors({ title, tensors, testid }: { title: string; tensors?: TensorMetadata[] | undefined; testid?: string }) {
  if (!tensors?.length) return null;
  const more = tensors.some((tensor) => tensor.parameters);
  return (
    <div>
      <h2 class="small muted">{title}</h2>
      <div class="scroll" role="region" aria-label={title} tabIndex={0}>
        <table class="tensors">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Datatype</th>
              <th scope="col">Shape</th>
              {more && <th scope="col">Parameters</th>}
            </tr>
          </thead>
          <tbody>
            {tensors.map((tensor) => (
              <tr key={tensor.name} data-testid={testid} data-tensor={tensor.name}>
                <td class="mono">{tensor.name}</td>
                <td class="mono">{tensor.datatype}</td>
                <td class="mono" title="-1 is any size">
                  [{tensor.shape.join(", ")}]
                </td>
                {more && <td class="mono small">{tensor.parameters ? JSON.stringify(tensor.parameters) : ""}</td>}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
