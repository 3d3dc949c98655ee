import type { ModelMetadata } from "../types";
import { change, type Document } from "./document";

/** Which outputs the request asks for; those that the model gives anyway need not be asked for. */
export function Requested({ document, metadata, write }: {
  document: Document;
  metadata: ModelMetadata;
  write: (text: string) => void;
}) {
  const usual = metadata.outputs.map((tensor) => tensor.name);
  const names = [...usual, ...(metadata.parameters?.optional_outputs ?? []).map((tensor) => tensor.name)];
  if (names.length < 2) return null;
  const asked = askedFor(document);
  const chosen = asked.length ? asked.map((output) => output.name) : usual;
  const toggle = (name: string) => {
    const next = names.filter((one) => (one === name ? !chosen.includes(one) : chosen.includes(one)));
    if (!next.length) return;
    const same = next.length === usual.length && next.every((one) => usual.includes(one));
    const outputs = next.map((one) => JSON.stringify(asked.find((output) => output.name === one) ?? { name: one }));
    write(change(document.text, document.body, { outputs: same ? undefined : `[${outputs.join(", ")}]` }));
  };
  return (
    <fieldset class="form-outputs">
      <legend>Outputs</legend>
      {names.map((name) => (
        <label key={name}>
          <input type="checkbox" data-testid="requested-output" data-output={name} checked={chosen.includes(name)}
            onChange={() => toggle(name)} />
          {name}
        </label>
      ))}
    </fieldset>
  );
}

function askedFor(document: Document): { name: string }[] {
  const raw = document.body.members.find((member) => member.key === "outputs")?.raw;
  const list: unknown = raw && JSON.parse(raw);
  return Array.isArray(list) ? (list as { name: string }[]).filter((output) => typeof output?.name === "string") : [];
}
