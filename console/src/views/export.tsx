/** The request as a command or a program, to copy. */
import { useEffect, useRef, useState } from "preact/hooks";
import { origin } from "../api";
import { asCurl, asGrpcurl, asPython, type ExportOptions } from "../exports";
import { apiKey } from "../key";
import { Copy } from "../parts";
import type { Outgoing } from "../types";
import "./panels.css";

const WAYS = { curl: asCurl, python: asPython, grpcurl: asGrpcurl };
const NAMES = { curl: "curl", python: "Python", grpcurl: "grpcurl" };
type Way = keyof typeof WAYS;

export function ExportButton({ request }: { request: () => Outgoing }) {
  const [shown, setShown] = useState<Outgoing>();
  return (
    <>
      <button type="button" data-testid="export-open" onClick={() => setShown(request())}>Export</button>
      {shown && <ExportDialog request={shown} onClose={() => setShown(undefined)} />}
    </>
  );
}

function ExportDialog({ request, onClose }: { request: Outgoing; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [way, setWay] = useState<Way>("curl");
  // Asked for anew each time: a key that is shown is a key that is seen.
  const [withKey, setWithKey] = useState(false);
  useEffect(() => dialog.current?.showModal(), []);
  const keyed = apiKey.value !== "";
  const options: ExportOptions = { base: origin(), keyed, ...(withKey && keyed && { key: apiKey.value }) };
  const text = WAYS[way](request, options);
  return (
    <dialog ref={dialog} class="export" aria-labelledby="export-title" onClose={onClose}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}>
      <div class="dialog-inside">
        <header class="dialog-head">
          <h2 id="export-title">Export the request</h2>
          <div class="choice" role="group" aria-label="Export as">
            {(Object.keys(WAYS) as Way[]).map((one) => (
              <button type="button" key={one} data-testid={`export-${one}`} aria-pressed={way === one}
                onClick={() => setWay(one)}>
                {NAMES[one]}
              </button>
            ))}
          </div>
          <span class="grow" />
          <Copy text={text} label="Copy the export" testid="export-copy" />
          <button type="button" class="plain" data-testid="export-close" aria-label="Close"
            onClick={() => dialog.current?.close()}>
            ✕
          </button>
        </header>
        <pre data-testid="export-text" tabIndex={0}>{text}</pre>
        {keyed && (
          <label class="with-key">
            <input type="checkbox" data-testid="export-with-key" checked={withKey}
              onChange={(event) => setWithKey(event.currentTarget.checked)} />{" "}
            with the API key in it; otherwise it is taken from the environment, as OIP_API_KEY
          </label>
        )}
      </div>
    </dialog>
  );
}
