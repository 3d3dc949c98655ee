"""Multipart forms."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from oipserver import App, File, Files
from oipserver.apps.loading import AppError
from tests.apps.running import MAX_BODY, AppServer

app = App()
BOUNDARY = "xxBOUNDARYxx"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@app.post("/upload")
def upload(files: Files) -> Any:
    return [[part.name, part.filename, part.content_type, len(part.data)] for part in files]


@app.post("/upload-on-the-loop")
async def upload_on_the_loop(files: Files) -> Any:
    return [[part.name, part.filename, part.content_type, len(part.data)] for part in files]


@app.post("/image")
def image(files: Files) -> Any:
    return {"size": len(files["image"].data), "all": len(files.all("image"))}


@pytest.fixture(scope="module")
def server() -> Iterator[AppServer]:
    with AppServer(app) as server:
        yield server


def form(*parts: tuple[str, str, bytes], end: bool = True) -> bytes:
    """The body of a form; each part is a name, a filename ("" for a plain field) and its bytes."""
    text = b""
    for name, filename, data in parts:
        file = f'; filename="{filename}"\r\nContent-Type: image/png' if filename else ""
        text += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        text += data + b"\r\n"
    return text + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


@pytest.mark.parametrize("path", ["/upload", "/upload-on-the-loop"])
def test_the_parts_of_a_form_arrive(server: AppServer, path: str) -> None:
    body = form(("kind", "", b"cat"), ("image", "../a b.png", bytes(200_000)), ("image", "b.png", b""))
    assert server.ask("POST", path, body, FORM).json == [
        ["kind", "", "", 3],
        ["image", "../a b.png", "image/png", 200_000],
        ["image", "b.png", "image/png", 0],
    ]


def test_parts_by_name(server: AppServer) -> None:
    body = form(("image", "a.png", b"12345"), ("image", "b.png", b"1"))
    assert server.ask("POST", "/image", body, FORM).json == {"size": 5, "all": 2}
    answer = server.ask("POST", "/image", form(("picture", "a.png", b"1")), FORM)
    assert answer.fault == (400, "BAD_REQUEST", "the form has no part 'image'; it has 'picture'")


@pytest.mark.parametrize(
    ("body", "headers", "fault"),
    [
        (
            b"{}",
            {"Content-Type": "application/json"},
            (415, "UNSUPPORTED_MEDIA_TYPE", "expected Content-Type"),
        ),
        (b"{}", {}, (415, "UNSUPPORTED_MEDIA_TYPE", "expected Content-Type multipart/form-data, got ''")),
        (b"x", {**FORM, "Content-Encoding": "gzip"}, (415, "UNSUPPORTED_MEDIA_TYPE", "a form with")),
        (b"x", {"Content-Type": "multipart/form-data"}, (400, "BAD_REQUEST", "the form cannot be read")),
        (b"no form at all", FORM, (400, "BAD_REQUEST", "the form cannot be read")),
        (form(("a", "a.png", bytes(MAX_BODY))), FORM, (413, "PAYLOAD_TOO_LARGE", "the body has more than")),
        (
            iter([form(("a", "a.png", bytes(MAX_BODY)))]),
            FORM,
            (413, "PAYLOAD_TOO_LARGE", "the body has more"),
        ),
        (form(*[("a", "", b"")] * 1500), FORM, (400, "BAD_REQUEST", "the form cannot be read: Too many")),
    ],
)
def test_what_is_no_form_is_the_callers_mistake(
    server: AppServer, body: Any, headers: dict[str, str], fault: tuple[int, str, str]
) -> None:
    status, code, text = server.ask("POST", "/upload", body, headers).fault
    assert (status, code) == fault[:2]
    assert text.startswith(fault[2])


def test_files_are_found_by_name() -> None:
    files = Files([File("a", "", "", b"1"), File("b", "", "", b"2"), File("a", "", "", b"3")])
    assert [part.data for part in files.all("a")] == [b"1", b"3"]
    assert (len(files), "b" in files, "c" in files, files.all("c")) == (3, True, False, [])


def test_a_missing_library_is_told_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    with pytest.raises(AppError, match=r"app0.py: route /upload: .*pip install \"oipserver\[uploads\]\""):
        AppServer(app)
