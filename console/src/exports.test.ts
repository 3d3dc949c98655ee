import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { asCurl, asGrpcurl, asPython } from "./exports";
import type { Outgoing } from "./types";

const BASE = { base: "http://localhost:8080" };
const BODY = `{
  "id": "it's",
  "parameters": {"priority": 1, "mine": true},
  "inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [9007199254740993, 2]}],
  "outputs": [{"name": "y", "parameters": {"classification": 3}}]
}`;
const INFER: Outgoing = {
  method: "POST", path: "/v2/models/my%20model/versions/2/infer", headers: { "Content-Type": "application/json" }, body: BODY,
};
const PICTURE: Outgoing = {
  method: "POST", path: "/v2/models/d/infer", headers: {},
  body: '{"inputs": [{"name": "i", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 7}}]}',
  files: { i: [{ name: "a.png", type: "image/png", base64: btoa("\u00ff\u0000'") }] },
};

/** What a shell makes of the command: the arguments of curl, and what it reads. */
function inShell(command: string): { words: string[]; input: string } {
  const script = `curl() { for word; do printf 'W%s\\0' "$word"; done; case "$*" in *@-*) printf I; base64 -w0;; esac; }\n${command}`;
  const parts = execFileSync("sh", ["-c", script]).toString("utf8").split("\0");
  return { words: parts.slice(0, -1).map((part) => part.slice(1)), input: parts.at(-1)?.slice(1) ?? "" };
}

test("curl sends the text as it is", () => {
  const { words } = inShell(asCurl(INFER, BASE));
  expect(words).toEqual(["-sS", "http://localhost:8080/v2/models/my%20model/versions/2/infer",
    "-H", "Content-Type: application/json", "--data-binary", BODY]);
});

test("curl sends the bytes of files", () => {
  const { words, input } = inShell(asCurl(PICTURE, BASE));
  expect(words).toContain(`Inference-Header-Content-Length: ${PICTURE.body?.length}`);
  expect(atob(input)).toBe(`${PICTURE.body}\u0003\u0000\u0000\u0000\u00ff\u0000'`);
});

test("curl names other methods", () => {
  expect(asCurl({ method: "GET", path: "/v2", headers: {} }, BASE)).toBe("curl -sS http://localhost:8080/v2");
  expect(asCurl({ method: "DELETE", path: "/x", headers: {} }, BASE)).toContain("-X DELETE");
});

test.each([asCurl, asPython, asGrpcurl])("the key is in it when it was asked for", (way) => {
  expect(way(INFER, { ...BASE, keyed: true })).toContain("OIP_API_KEY");
  expect(way(INFER, { ...BASE, keyed: true, key: "secret" })).toContain("Bearer secret");
  expect(way(INFER, BASE)).not.toMatch(/authorization/i);
});

test("Python has arrays of the tensors' types, and digits as they are", () => {
  const code = asPython(INFER, BASE);
  for (const line of [
    'client = http.InferenceServerClient("localhost:8080")',
    'http.InferInput("x", [1, 2], "INT64")',
    "inputs[0].set_data_from_numpy(np.array([9007199254740993, 2], np.int64).reshape([1, 2]))",
    'outputs=[http.InferRequestedOutput("y", class_count=3)]',
    'model_version="2"', "priority=1", 'parameters={"mine": True}', 'request_id="it\'s"',
  ]) expect(code).toContain(line);
  expect(asPython(INFER, { base: "https://a/b" })).toContain('InferenceServerClient("a/b", ssl=True)');
});

test("Python reads files from base64, or from where they are when they are long", () => {
  expect(asPython(PICTURE, BASE)).toContain(`np.array([base64.b64decode("${btoa("\u00ff\u0000'")}")], np.object_)`);
  const long = { ...PICTURE, files: { i: [{ name: "a.png", type: "image/png", base64: "A".repeat(80_000) }] } };
  expect(asPython(long, BASE)).toContain('open("a.png", "rb").read()');
  expect(asCurl(long, BASE)).toContain("printf '\\140\\352\\000\\000'; cat a.png");
});

test("other requests are sent by Python's own library", () => {
  const code = asPython({ method: "PUT", path: "/x", headers: { A: "1" }, body: "é" }, BASE);
  expect(code).toContain('Request("http://localhost:8080/x", "é".encode(), headers, method="PUT")');
});

test("grpcurl sends the message in protobuf's JSON", () => {
  const text = asGrpcurl(INFER, BASE);
  expect(text).toContain("grpcurl -plaintext -d @ localhost:8081 inference.GRPCInferenceService/ModelInfer <<'END'");
  expect(JSON.parse(/\n(\{[^]*\})\nEND/.exec(text)?.[1] ?? "")).toEqual({
    model_name: "my model", model_version: "2", id: "it's",
    parameters: { priority: { int64_param: "1" }, mine: { bool_param: true } },
    inputs: [{ name: "x", datatype: "INT64", shape: ["1", "2"], contents: { int64_contents: ["9007199254740993", "2"] } }],
    outputs: [{ name: "y", parameters: { classification: { int64_param: "3" } } }],
  });
  expect(asGrpcurl(PICTURE, BASE)).toContain(`{"bytes_contents": ["${btoa("\u00ff\u0000'")}"]}`);
});

test("grpcurl reads numbers of files", () => {
  const body = '{"inputs": [{"name": "x", "shape": [2], "datatype": "UINT16", "parameters": {"binary_data_size": 4}}]}';
  const files = { x: [{ name: "p", type: "", base64: btoa("\u0001\u0000\u0000\u0001") }] };
  expect(asGrpcurl({ ...INFER, body, files }, BASE)).toContain('{"uint_contents": [1, 256]}');
});

test("what is no infer request has its nearest call", () => {
  expect(asGrpcurl({ method: "GET", path: "/v2/models/m", headers: {} }, BASE)).toContain("ModelMetadata");
  expect(asGrpcurl({ method: "GET", path: "/v2", headers: {} }, BASE)).toContain("ServerMetadata");
});
