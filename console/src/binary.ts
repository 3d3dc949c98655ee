/** The binary tensor extension: bytes stand behind the JSON, which says how many of them each tensor has. */
import type { Attached, Datatype, Files, Outgoing } from "./types";

/** In front of each element of a BYTES tensor, four bytes say its length. */
const PREFIX = 4;

/** What `binary_data_size` of a tensor has to say. */
export function sizeOf(datatype: Datatype, attached: Attached[]): number {
  return tensorBytes(datatype, attached).reduce((sum, part) => sum + part.length, 0);
}

/**
 * What leaves the browser: the text as it is, and behind it the bytes that it announces.
 *
 * A text that announces nothing, or is no JSON, is sent unchanged; what is wrong with it is for the server to say.
 */
export function wire(request: Outgoing): { body: BodyInit | undefined; headers: Record<string, string> } {
  const announced = request.files ? announcedInputs(request.body ?? "") : [];
  const parts = announced.flatMap((input) => tensorBytes(input.datatype, request.files?.[input.name] ?? []));
  if (!parts.length) return { body: request.body, headers: request.headers };
  const head = new TextEncoder().encode(request.body);
  return {
    body: new Blob([head, ...parts]),
    headers: {
      ...request.headers,
      "Content-Type": "application/octet-stream",
      "Inference-Header-Content-Length": String(head.length),
    },
  };
}

/** The files that the text really sends: one that was chosen, and then replaced by `data`, stays behind. */
export function filesSent(body: string, files: Files): Files {
  const names = announcedInputs(body).map((input) => input.name);
  return Object.fromEntries(names.flatMap((name) => (files[name] ? [[name, files[name]]] : [])));
}

interface Announced {
  name: string;
  datatype: Datatype;
  parameters?: { binary_data_size?: unknown };
}

/** In the order of the text, which is the order of the bytes. */
function announcedInputs(body: string): Announced[] {
  try {
    const inputs: unknown = (JSON.parse(body) as { inputs?: unknown }).inputs;
    if (!Array.isArray(inputs)) return [];
    return (inputs as Announced[]).filter((input) => input?.parameters?.binary_data_size !== undefined);
  } catch {
    return [];
  }
}

function tensorBytes(datatype: Datatype, attached: Attached[]): Uint8Array<ArrayBuffer>[] {
  const contents = attached.map((file) => bytesOf(file.base64));
  return datatype === "BYTES" ? contents.flatMap((content) => [lengthOf(content), content]) : contents;
}

function lengthOf(content: Uint8Array): Uint8Array<ArrayBuffer> {
  const prefix = new Uint8Array(PREFIX);
  new DataView(prefix.buffer).setUint32(0, content.length, true);
  return prefix;
}

export function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

/** In pieces, as a function takes only so many arguments. */
export function base64Of(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text);
}

export async function attach(file: File): Promise<Attached> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  return { name: file.name, type: file.type || "application/octet-stream", base64: base64Of(bytes) };
}

/** An address for an image, where there is something to see. */
export function pictureOf(file: Attached): string | undefined {
  return file.picture ?? (file.type.startsWith("image/") ? `data:${file.type};base64,${file.base64}` : undefined);
}
