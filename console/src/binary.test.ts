import { expect, test } from "vitest";
import { base64Of, bytesOf, filesSent, pictureOf, sizeOf, wire } from "./binary";
import type { Attached, Outgoing } from "./types";

const file = (text: string, type = "image/png"): Attached => ({ name: "a.png", type, base64: btoa(text) });

const BODY = JSON.stringify({
  inputs: [
    { name: "é", shape: [2], datatype: "BYTES", parameters: { binary_data_size: 12 } },
    { name: "json", shape: [1], datatype: "FP32", data: [1] },
    { name: "numbers", shape: [2], datatype: "UINT8", parameters: { binary_data_size: 2 } },
  ],
});

test("the bytes stand behind the JSON, in its order, those of BYTES behind their lengths", async () => {
  const request: Outgoing = {
    method: "POST", path: "/", headers: { "X-Mine": "1" }, body: BODY,
    files: { numbers: [file("\u0007\u0008")], "é": [file("ab"), file("cd")], json: [file("unused")] },
  };
  const { body, headers } = wire(request);
  const bytes = new Uint8Array(await (body as Blob).arrayBuffer());
  const head = new TextEncoder().encode(BODY).length;
  expect(headers).toMatchObject({ "X-Mine": "1", "Inference-Header-Content-Length": String(head) });
  expect(new TextDecoder().decode(bytes.slice(0, head))).toBe(BODY);
  expect([...bytes.slice(head)]).toEqual([2, 0, 0, 0, 97, 98, 2, 0, 0, 0, 99, 100, 7, 8]);
});

test.each([BODY, "{", undefined])("without files %j is sent as it is", (body) => {
  const request: Outgoing = { method: "POST", path: "/", headers: {}, ...(body && { body }) };
  expect(wire(request)).toEqual({ body, headers: {} });
});

test("files that the text does not announce stay behind", () => {
  expect(Object.keys(filesSent(BODY, { json: [file("a")], "é": [file("b")] }))).toEqual(["é"]);
  expect(filesSent("no JSON", { a: [file("a")] })).toEqual({});
});

test("the size counts the lengths in front of elements", () => {
  expect(sizeOf("BYTES", [file("ab"), file("")])).toBe(10);
  expect(sizeOf("FP32", [file("abcd")])).toBe(4);
});

test("base64 of many bytes", () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, at) => at % 256);
  expect(bytesOf(base64Of(bytes))).toEqual(bytes);
});

test("only pictures are shown", () => {
  expect(pictureOf(file("a"))).toBe("data:image/png;base64,YQ==");
  expect(pictureOf(file("a", "text/plain"))).toBeUndefined();
});
