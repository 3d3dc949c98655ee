"""Requests over HTTP that are nearly right, and what is known of their answers."""

from __future__ import annotations

import copy
import gzip
import json
import random
import struct
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz import mutations
from tests.fuzz.neighbour import right, same

Document = dict[str, Any]

_SAY: Document = {
    "inputs": [
        {"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": ["ab", "cd"]},
        {"name": "color", "datatype": "BYTES", "shape": [2, 1], "data": ["red", "green"]},
        {"name": "count", "datatype": "INT32", "shape": [2, 1], "data": [1, 2]},
        {"name": "loud", "datatype": "BOOL", "shape": [2, 1], "data": [True, False]},
    ],
    "outputs": [{"name": "said"}],
}
_TOTAL: Document = {
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [2, 3, 2], "data": [0.5] * 12}],
    "parameters": {"priority": 1},
}
_HALF: Document = {"inputs": [{"name": "h", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}

_LABELS = (
    "X-Request-Id",
    "X-REQUEST-ID",
    "traceparent",
    "Content-Type",
    "Accept",
    "Accept-Encoding",
    "X-Any",
)
_VALUES = (
    *(
        "abc",
        "a" * 64,
        "a" * 65,
        "",
        " ",
        "gzip",
        "gzip;q=0, *",
        "br",
        "application/json",
        "text/plain; x=\x7f",
    ),
    *(
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "\xff\xfe",
        "a,b",
        '"',
        "multipart/form-data",
    ),
)


@dataclass
class Sent:
    """A whole request and what it is.

    Attributes:
        data: head and body; the body is as long as the head says.
        name: the model's.
        document: the JSON, where it went unharmed.
        timed: it may ask for a deadline that passes at once.
    """

    data: bytes
    name: str
    document: Any = None
    timed: bool = False
    headers: list[tuple[str, str]] = field(default_factory=list)

    def check(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """The answer is one to this request; what the values must be is known where nothing is odd."""
        if status != 200 or "content-encoding" in headers or not isinstance(self.document, dict):
            return
        length = int(headers.get("inference-header-content-length", len(body)))
        answer = json.loads(body[:length])
        asked = self.document.get("id")
        if isinstance(asked, str) and asked:
            assert answer["id"] == asked, (self.document, answer)
        expected = self._expected()
        if expected is not None and "data" in (answer.get("outputs") or [{}])[0]:
            assert same(answer["outputs"][0]["data"], expected), (self.document, answer)

    def _expected(self) -> list[float] | None:
        inputs = self.document.get("inputs")
        if self.name not in ("sum", "double") or self.document.get("outputs") or not inputs:
            return None
        if not isinstance(inputs, list) or len(inputs) != 1 or inputs[0].get("datatype") != "FP64":
            return None
        values = flat(inputs[0].get("data"))
        if not values or not all(type(each) in (int, float) and abs(each) < 1e300 for each in values):
            return None
        width = 4 if self.name == "sum" else 2
        rows = [values[at : at + width] for at in range(0, len(values), width)]
        return [number for row in rows for number in right(self.name, row)]


def flat(value: Any) -> list[Any]:
    return [each for inner in value for each in flat(inner)] if isinstance(value, list) else [value]


def documents(chance: random.Random) -> tuple[str, Document]:
    """A model's name and a request that it answers."""
    name = chance.choice(("sum", "sum", "sum", "double", "double", "say", "total", "half"))
    fixed = {"say": _SAY, "total": _TOTAL, "half": _HALF}
    if name in fixed:
        return name, copy.deepcopy(fixed[name])
    width, rows = (4 if name == "sum" else 2), chance.choice((1, 1, 1, 2, 5, 40))
    values = [float(chance.randrange(10**6)) / 8 for _ in range(width * rows)]
    tensor = {"name": "x", "datatype": "FP64", "shape": [rows, width], "data": values}
    made: Document = {"inputs": [tensor]}
    if chance.random() < 0.5:
        made["id"] = f"fuzz-{chance.randrange(10**9)}"
    if chance.random() < 0.2:
        made["parameters"] = {"binary_data_output": chance.random() < 0.5}
    return name, made


def request(chance: random.Random) -> Sent:
    """One request with so many things wrong as it happens: none, often."""
    name, document = documents(chance)
    form = chance.choice(("json", "json", "json", "binary", "raw"))
    blob = b""
    if form != "json" and name in ("sum", "double"):
        blob = _to_blob(document)
    else:
        form = "json"
    for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
        document = mutations.document(document, chance)
    text = mutations.written(document, chance)
    known: Any = document if form == "json" else None
    if chance.random() < 0.25:
        text, known = mutations.scrambled(text, chance), None
    headers = _headers(chance)
    if form == "raw":
        headers.append(("Inference-Header-Content-Length", "0"))
        text = b""
    elif form == "binary":
        length = chance.choice((len(text),) * 4 + (0, 1, len(text) + len(blob), 10**18, 10**30))
        headers.append(("Inference-Header-Content-Length", str(length)))
    if blob and chance.random() < 0.3:
        blob = mutations.scrambled(blob, chance)
    body = text + blob
    if chance.random() < 0.1:
        body, known = _compressed(body, headers, chance), None
    path = _path(name, chance)
    headers.append(("Content-Length", str(len(body))))
    if any(label == "X-Request-Id" for label, _ in headers) or not path.endswith("/infer"):
        known = None
    lines = [f"POST {path} HTTP/1.1", "Host: fuzz", *(f"{label}: {value}" for label, value in headers)]
    data = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    return Sent(data, name, known, timed=b"timeout" in body or body[:2] == b"\x1f\x8b")


def good(name: str, values: list[float], identity: str) -> Sent:
    """One with nothing wrong."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, len(values)], "data": values}
    document = {"id": identity, "inputs": [tensor]}
    body = json.dumps(document).encode()
    head = f"POST /v2/models/{name}/infer HTTP/1.1\r\nHost: fuzz\r\nContent-Length: {len(body)}\r\n\r\n"
    return Sent(head.encode() + body, name, document)


def tampered(chance: random.Random) -> bytes:
    """A request whose framing is wrong, most likely."""
    head, _, body = request(chance).data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    kind = chance.randrange(9)
    if kind == 0:
        lines[0] = mutations.scrambled(lines[0], chance)
    elif kind == 1:
        lines.insert(chance.randrange(1, len(lines) + 1), chance.choice(_FRAMING))
    elif kind == 2:
        lines = [line for line in lines if not line.lower().startswith(b"content-length")]
        lines.append(b"Transfer-Encoding: chunked")
        body = chunks(body, chance)
    elif kind == 3:
        at = chance.randrange(1, len(lines))
        lines[at] = mutations.scrambled(lines[at], chance)
    elif kind == 4:
        lines += [b"X-%d: %d" % (at, at) for at in range(chance.choice((50, 99, 200)))]
    elif kind == 5:
        lines.append(b"X-Long: " + b"a" * chance.choice((1000, 60_000, 70_000)))
    elif kind == 6:
        lines[0] = b"POST /v2/models/%b/infer HTTP/1.1" % (b"a" * chance.choice((100, 8000, 9000)))
    else:
        return mutations.scrambled(b"\r\n".join(lines) + b"\r\n\r\n" + body, chance)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


_FRAMING = (
    *(
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
    ),
    *(
        b"Content-Length: 1, 1",
        b"Content-Length: 0x10",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: x",
    ),
    *(
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding : chunked",
        b" folded",
        b"\tfolded",
        b": none",
    ),
    *(b"Host: other", b"Expect: 100-continue", b"Connection: close", b"Connection: upgrade\r\nUpgrade: h2c"),
    *(
        b"\x00: a",
        b"A\x00: b",
        b"A: \x00",
        b"A: b\nC: d",
        b"A\r: b",
        b"nonsense",
        b"Trailer: x",
        b"TE: trailers",
    ),
)


def chunks(body: bytes, chance: random.Random) -> bytes:
    """A chunked body, often with something wrong."""
    size = chance.choice((1, 7, 4096))
    parts = [body[at : at + size] for at in range(0, len(body), size)][:500]
    text = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return text if chance.random() < 0.4 else mutations.scrambled(text, chance)


def _to_blob(document: Document) -> bytes:
    """Takes the data of the only input out of the document."""
    tensor = document["inputs"][0]
    values = tensor.pop("data")
    blob = struct.pack(f"<{len(values)}d", *values)
    tensor["parameters"] = {"binary_data_size": len(blob)}
    return blob


def _headers(chance: random.Random) -> list[tuple[str, str]]:
    labels = chance.sample(_LABELS, chance.choice((0, 0, 0, 1, 2)))
    return [(label, chance.choice(_VALUES)) for label in labels]


def _compressed(body: bytes, headers: list[tuple[str, str]], chance: random.Random) -> bytes:
    headers.append(("Content-Encoding", chance.choice(("gzip", "deflate", "zstd", "br", "gzip, gzip", ""))))
    packed = gzip.compress(chance.choice((body, body, b"\x00" * 10**6)))
    return packed if chance.random() < 0.6 else mutations.scrambled(packed, chance)


def _path(name: str, chance: random.Random) -> str:
    usual = f"/v2/models/{name}/infer"
    if chance.random() < 0.7:
        return usual
    return chance.choice(
        (
            *(
                f"/v2/models/{name}/versions/1/infer",
                f"/v2/models/{name}/versions/9/infer",
                f"{usual}/",
                f"{usual}?a=b",
            ),
            *(
                f"/v2/models/{name}/generate",
                "/v2/models/none/infer",
                "/v2/models//infer",
                "//v2/models/sum/infer",
            ),
            *(
                "/v2/models/%73um/infer",
                "/v2/models/..%2f..%2fetc/infer",
                "/v2/models/sum%00/infer",
                "*",
                "/",
            ),
            *(
                "http://other/v2/models/sum/infer",
                f"/V2/models/{name}/infer",
                "/v2/repository/models/sum/unload",
            ),
            *(
                "/v2/repository/index",
                "/v2/systemsharedmemory/region/a/register",
                "/v2/health/ready",
                "/invocations",
            ),
        )
    )
