/** A request as a command or program that sends the same from elsewhere. */
import { base64Of, bytesOf, wire } from "./binary";
import { read, type Document, type InputPlace } from "./forms/document";
import { isFloat } from "./forms/literals";
import type { Attached, Files, Outgoing } from "./types";

/** `base` is the server's address, `key` the API key, only given when the user asked for it. */
export interface ExportOptions {
  base: string;
  key?: string;
  /** The server wants a key: without `key`, it is taken from the environment, as OIP_API_KEY. */
  keyed?: boolean;
}

/** Of the server; what it listens on is not part of its public API. */
const GRPC_PORT = 8081;
/** Longer files are read from where they are, by name. */
const EMBEDDED = 65_536;

// --- curl -----------------------------------------------------------------------------------------------

export function asCurl(request: Outgoing, options: ExportOptions): string {
  const { headers } = wire(request);
  const lines = [`curl -sS ${quoted(options.base + request.path)}`];
  if (request.method !== (request.body === undefined ? "GET" : "POST")) lines.push(`-X ${request.method}`);
  for (const [name, value] of Object.entries(headers)) lines.push(`-H ${quoted(`${name}: ${value}`)}`);
  const key = keyInShell(options);
  if (key) lines.push(`-H ${key}`);
  const parts = partsOf(request);
  if (request.body !== undefined) lines.push(`--data-binary ${parts.length ? "@-" : quoted(request.body)}`);
  const command = lines.join(" \\\n  ");
  return parts.length ? `{\n${[`printf %s ${quoted(request.body ?? "")}`, ...parts].join("\n")}\n} | ${command}` : command;
}

/** Shell commands that write the bytes behind the JSON. */
function partsOf({ body = "", files = {} }: Outgoing): string[] {
  const inputs = (read(body)?.inputs ?? []).filter((input) => !input.literals);
  return inputs.flatMap((input) => (files[input.name] ?? []).map((file) => bytesInShell(file, input.datatype)));
}

function bytesInShell(file: Attached, datatype: string): string {
  const content = bytesOf(file.base64);
  const prefix = new Uint8Array(datatype === "BYTES" ? 4 : 0);
  if (prefix.length) new DataView(prefix.buffer).setUint32(0, content.length, true);
  if (byName(file, datatype)) {
    const octal = [...prefix].map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
    return `printf '${octal}'; cat ${quoted(file.name)}`;
  }
  const all = new Uint8Array(prefix.length + content.length);
  all.set(prefix);
  all.set(content, prefix.length);
  return `base64 -d <<'END'\n${base64Of(all).replace(/.{1,76}/g, "$&\n")}END`;
}

/** Pixels that the browser worked out of a picture are in no file. */
const byName = (file: Attached, datatype: string): boolean =>
  datatype === "BYTES" && file.base64.length > EMBEDDED && !file.picture;

function keyInShell({ key, keyed }: ExportOptions, name = "Authorization"): string | undefined {
  if (key) return quoted(`${name}: Bearer ${key}`);
  return keyed ? `"${name}: Bearer $OIP_API_KEY"` : undefined;
}

/** As one word of a POSIX shell. */
function quoted(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// --- Python ---------------------------------------------------------------------------------------------

const NUMPY: Record<string, string> = {
  BOOL: "bool", BYTES: "object_", FP16: "float16", BF16: "float32", FP32: "float32", FP64: "float64",
};

export function asPython(request: Outgoing, options: ExportOptions): string {
  const model = modelIn(request.path);
  const document = read(request.body ?? "");
  if (!model || !document) return withUrllib(request, options);
  const files = request.files ?? {};
  const imports = ["import numpy as np", "import tritonclient.http as http  # pip install tritonclient[http]"];
  const lines = [`client = http.InferenceServerClient(${address(options.base)})`, "inputs = ["];
  for (const input of document.inputs) {
    lines.push(`    http.InferInput(${python(input.name)}, [${input.shape.join(", ")}], ${python(input.datatype)}),`);
  }
  lines.push("]");
  document.inputs.forEach((input, at) => {
    lines.push(`inputs[${at}].set_data_from_numpy(${arrayOf(input, files)})`);
  });
  const call = ["    " + [python(model.name), "inputs"].join(", ")];
  if (model.version) call.push(`    model_version=${python(model.version)}`);
  call.push(...callArguments(document));
  const key = keyInPython(options);
  if (key) call.push(`    headers={"Authorization": ${key}}`);
  lines.push("answer = client.infer(", ...call.map((line) => `${line},`), ")");
  lines.push('for output in answer.get_response()["outputs"]:', '    print(output["name"], answer.as_numpy(output["name"]))');
  const code = lines.join("\n");
  if (code.includes("base64.")) imports.unshift("import base64\n");
  if (code.includes("os.environ")) imports.unshift("import os");
  return `${imports.join("\n")}\n\n${code}\n`;
}

function address(base: string): string {
  const { protocol } = new URL(base);
  const place = python(base.replace(/^https?:\/\//, ""));
  return protocol === "https:" ? `${place}, ssl=True` : place;
}

function arrayOf(input: InputPlace, files: Files): string {
  const numpy = NUMPY[input.datatype] ?? input.datatype.toLowerCase();
  const dtype = `np.${numpy}`;
  const shape = `[${input.shape.join(", ")}]`;
  if (input.literals) return `np.array([${input.literals.map(literal).join(", ")}], ${dtype}).reshape(${shape})`;
  const contents = (files[input.name] ?? []).map((file) => contentOf(file, input.datatype));
  if (input.datatype === "BYTES") return `np.array([${contents.join(", ")}], ${dtype}).reshape(${shape})`;
  return `np.frombuffer(${contents.join(" + ") || 'b""'}, ${dtype}).reshape(${shape})`;
}

function contentOf(file: Attached, datatype: string): string {
  return byName(file, datatype) ? `open(${python(file.name)}, "rb").read()` : `base64.b64decode("${file.base64}")`;
}

/** An element of JSON in Python's words. */
function literal(word: string): string {
  if (word.startsWith('"')) return python(JSON.parse(word) as string);
  return { true: "True", false: "False", null: "np.nan" }[word] ?? word;
}

const python = (text: string): string => JSON.stringify(text);

function callArguments(document: Document): string[] {
  const members = membersOf(document);
  const { priority, timeout, ...parameters } = (members["parameters"] ?? {}) as Record<string, unknown>;
  const outputs = (members["outputs"] ?? []) as { name: string; parameters?: { classification?: number } }[];
  const said: string[] = [];
  if (outputs.length) {
    const asked = outputs.map(({ name, parameters: { classification } = {} }) =>
      `http.InferRequestedOutput(${python(name)}${classification ? `, class_count=${classification}` : ""})`);
    said.push(`    outputs=[${asked.join(", ")}]`);
  }
  if (members["id"]) said.push(`    request_id=${python(String(members["id"]))}`);
  if (priority !== undefined) said.push(`    priority=${Number(priority)}`);
  if (timeout !== undefined) said.push(`    timeout=${Number(timeout)}`);
  const others = Object.entries(parameters).map(([name, value]) => `${python(name)}: ${literal(JSON.stringify(value))}`);
  if (others.length) said.push(`    parameters={${others.join(", ")}}`);
  return said;
}

/** `parameters`, `outputs` and `id` of the request; none of them has tensors in it. */
function membersOf(document: Document): Record<string, unknown> {
  const others = document.body.members.filter(({ key }) => key !== "inputs");
  return Object.fromEntries(others.map(({ key, raw }) => [key, (JSON.parse(raw) as unknown) ?? undefined]));
}

function keyInPython({ key, keyed }: ExportOptions): string | undefined {
  if (key) return python(`Bearer ${key}`);
  return keyed ? '"Bearer " + os.environ["OIP_API_KEY"]' : undefined;
}

/** What is no infer request. */
function withUrllib(request: Outgoing, options: ExportOptions): string {
  const key = keyInPython(options);
  const headers = Object.entries(request.headers).map(([name, value]) => `    ${python(name)}: ${python(value)},`);
  if (key) headers.push(`    "Authorization": ${key},`);
  const lines = ["from urllib.request import Request, urlopen", ""];
  if (key?.includes("os.environ")) lines.unshift("import os");
  lines.push(headers.length ? `headers = {\n${headers.join("\n")}\n}` : "headers = {}");
  const body = request.body === undefined ? "None" : `${python(request.body)}.encode()`;
  lines.push(`request = Request(${python(options.base + request.path)}, ${body}, headers, method="${request.method}")`);
  lines.push("print(urlopen(request).read().decode())");
  return `${lines.join("\n")}\n`;
}

// --- grpcurl --------------------------------------------------------------------------------------------

const CONTENTS: Record<string, string> = {
  BOOL: "bool_contents", BYTES: "bytes_contents", FP32: "fp32_contents", FP64: "fp64_contents",
  INT8: "int_contents", INT16: "int_contents", INT32: "int_contents", INT64: "int64_contents",
  UINT8: "uint_contents", UINT16: "uint_contents", UINT32: "uint_contents", UINT64: "uint64_contents",
};

/** Through the server's reflection, so that it needs no .proto file. */
export function asGrpcurl(request: Outgoing, options: ExportOptions): string {
  const url = new URL(options.base);
  const model = modelIn(request.path);
  const document = read(request.body ?? "");
  const words = ["grpcurl", ...(url.protocol === "http:" ? ["-plaintext"] : [])];
  const key = keyInShell(options, "authorization");
  if (key) words.push(`-H ${key}`);
  const place = `${url.hostname}:${GRPC_PORT}`;
  const note = `# ${GRPC_PORT} is the port that gRPC has by default\n`;
  if (!model) return `${note}${[...words, place, "inference.GRPCInferenceService/ServerMetadata"].join(" ")}\n`;
  if (!document) {
    const asked = JSON.stringify({ name: model.name, ...(model.version && { version: model.version }) });
    return `${note}${[...words, `-d ${quoted(asked)}`, place, "inference.GRPCInferenceService/ModelMetadata"].join(" ")}\n`;
  }
  words.push("-d @", place, "inference.GRPCInferenceService/ModelInfer");
  return `${note}${words.join(" ")} <<'END'\n${message(document, model, request.files ?? {})}\nEND\n`;
}

/** A ModelInferRequest in protobuf's JSON; digits stay as they are written. */
function message(document: Document, model: Model, files: Files): string {
  const members = membersOf(document);
  const lines = [`"model_name": ${JSON.stringify(model.name)}`];
  if (model.version) lines.push(`"model_version": ${JSON.stringify(model.version)}`);
  if (members["id"]) lines.push(`"id": ${JSON.stringify(members["id"])}`);
  if (members["parameters"]) lines.push(`"parameters": ${JSON.stringify(inferParameters(members["parameters"]))}`);
  const inputs = document.inputs.map((input) => `    ${tensor(input, files)}`);
  lines.push(`"inputs": [\n${inputs.join(",\n")}\n  ]`);
  const outputs = (members["outputs"] ?? []) as { name: string; parameters?: unknown }[];
  if (outputs.length) {
    lines.push(`"outputs": ${JSON.stringify(outputs.map(({ name, parameters }) =>
      ({ name, ...(parameters ? { parameters: inferParameters(parameters) } : {}) })))}`);
  }
  return `{\n${lines.map((line) => `  ${line}`).join(",\n")}\n}`;
}

function tensor(input: InputPlace, files: Files): string {
  // FP16 and BF16 have no field of their own; the server casts from FP32.
  const datatype = input.datatype in CONTENTS ? input.datatype : "FP32";
  const elements = input.literals
    ? input.literals.map((word) => element(word, datatype))
    : (files[input.name] ?? []).flatMap((file) => elementsOf(file, datatype));
  const shape = input.shape.map((size) => `"${size}"`).join(", ");
  const contents = `{"${CONTENTS[datatype]}": [${elements.join(", ")}]}`;
  return `{"name": ${JSON.stringify(input.name)}, "datatype": "${datatype}", "shape": [${shape}], "contents": ${contents}}`;
}

function element(word: string, datatype: string): string {
  if (datatype === "BYTES") return `"${base64Of(new TextEncoder().encode(JSON.parse(word) as string))}"`;
  if (word === "null" && isFloat(datatype)) return '"NaN"';
  return datatype.endsWith("INT64") ? `"${word}"` : word;
}

const READERS: Record<string, (buffer: ArrayBuffer) => ArrayLike<number | bigint>> = {
  UINT8: (buffer) => new Uint8Array(buffer),
  UINT16: (buffer) => new Uint16Array(buffer),
  UINT32: (buffer) => new Uint32Array(buffer),
  UINT64: (buffer) => new BigUint64Array(buffer),
  INT8: (buffer) => new Int8Array(buffer),
  INT16: (buffer) => new Int16Array(buffer),
  INT32: (buffer) => new Int32Array(buffer),
  INT64: (buffer) => new BigInt64Array(buffer),
  FP32: (buffer) => new Float32Array(buffer),
  FP64: (buffer) => new Float64Array(buffer),
};

/** Bytes of a file as an element, raw numbers as they are; browsers run on little-endian machines alone. */
function elementsOf(file: Attached, datatype: string): string[] {
  if (datatype === "BYTES") return [`"${file.base64}"`];
  const numbers = READERS[datatype]?.(bytesOf(file.base64).buffer) ?? [];
  return Array.from(numbers, (value) => element(String(value), datatype));
}

function inferParameters(parameters: unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(parameters as object).map(([name, value]) => [name, inferParameter(value)]));
}

function inferParameter(value: unknown): Record<string, unknown> {
  if (typeof value === "boolean") return { bool_param: value };
  if (typeof value === "number") return Number.isInteger(value) ? { int64_param: String(value) } : { double_param: value };
  return { string_param: String(value) };
}

// --- paths ----------------------------------------------------------------------------------------------

interface Model {
  name: string;
  version?: string;
}

function modelIn(path: string): Model | undefined {
  const match = /\/v2\/models\/([^/?]+)(?:\/versions\/([^/?]+))?(?:\/infer)?$/.exec(path);
  if (!match?.[1]) return undefined;
  const name = decodeURIComponent(match[1]);
  return match[2] ? { name, version: decodeURIComponent(match[2]) } : { name };
}
