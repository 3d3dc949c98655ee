"""What the server does for the console: its files, their headers, the way to them, and the list of apps."""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from oipserver.http.console import STATIC
from tests.conformance.wires import Answer, Connection, ask, message
from tests.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
MOST_GZIPPED = 300_000


def get(
    server: ServerProcess, target: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> Answer:
    return ask(server.http_port, method, target, headers=headers)


class Page(HTMLParser):
    """Addresses that a page loads, and whatever of it would need 'unsafe-inline'."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        given = dict(attrs)
        self.loads += [value for name in ("src", "href") if (value := given.get(name))]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style") and data.strip():
            self.inline.append(data)


def built() -> list[str]:
    return sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())


def test_root_leads_a_browser_to_the_console(server: ServerProcess) -> None:
    answer = get(server, "/", HTML)
    assert (answer.status, answer.headers["location"], answer.headers["vary"]) == (307, "console/", "accept")
    assert get(server, "/console", HTML).headers["location"] == "console/"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_root_is_nothing_to_others(server: ServerProcess, method: str) -> None:
    assert get(server, "/", {"Accept": "application/json"}, method).status == 404


def test_page_loads_its_own_files_alone_and_has_nothing_inline(server: ServerProcess) -> None:
    answer = get(server, "/console/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.body.decode())
    assert page.inline == []
    assert page.loads
    for address in page.loads:
        assert address.startswith("./"), "relative, for a proxy with a prefix"
        assert get(server, f"/console/{address[2:]}").status == 200


@pytest.mark.parametrize("name", built())
def test_each_file_is_served_as_it_is(server: ServerProcess, name: str) -> None:
    answer = get(server, f"/console/{name}")
    assert answer.body == (STATIC / name).read_bytes()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    head = get(server, f"/console/{name}", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("name", built())
def test_a_file_is_kept_by_the_browser(server: ServerProcess, name: str) -> None:
    answer = get(server, f"/console/{name}")
    hashed = re.search(r"-[A-Za-z0-9_-]{8}\.\w+$", name)
    assert ("immutable" in answer.headers["cache-control"]) == bool(hashed)
    again = get(server, f"/console/{name}", {"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    other = get(server, f"/console/{name}", {"If-None-Match": 'W/"0"'})
    assert other.status == 200


def test_files_are_compressed_for_those_who_take_it(server: ServerProcess) -> None:
    for name in built():
        answer = get(server, f"/console/{name}", {"Accept-Encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(answer.body) == (STATIC / name).read_bytes()


def test_the_console_is_small() -> None:
    assert 0 < sum(len(gzip.compress((STATIC / name).read_bytes())) for name in built()) < MOST_GZIPPED


@pytest.mark.parametrize(
    "path", ["nothing.js", "../console.py", "..%2f..%2fserver.py", "%2e%2e/server.py", "assets", "assets/.."]
)
def test_no_other_file_is_served(server: ServerProcess, path: str) -> None:
    with Connection(server.http_port) as connection:
        connection.ask(message("GET", f"/console/{path}")).error("NOT_FOUND")


def test_no_built_file_has_an_address_of_elsewhere_to_load() -> None:
    """Names of specifications aside, which nobody asks for."""
    names = ("http://www.w3.org/",)
    for name in built():
        text = (STATIC / name).read_text(errors="replace")
        found = re.findall(r"(?:src|href|url|fetch|import)\W{1,4}(https?://[^\s\"'`)]+)", text)
        assert [one for one in found if not one.startswith(names)] == []


def test_apps_are_listed_with_their_routes(server: ServerProcess) -> None:
    (app,) = get(server, "/v2/apps").json()["apps"]
    assert app["name"].endswith("shop.py")
    assert app["ready"] is True
    greet = {"path": "/greet/{name}", "methods": ["GET"], "summary": "Greets."}
    assert greet in app["routes"]
    assert app["mounts"] == ["/legacy"]


def test_it_is_not_there_when_it_is_switched_off(console_off: ServerProcess) -> None:
    for target in ("/", "/console", "/console/", "/console/index.html"):
        get(console_off, target, HTML).error("NOT_FOUND")
    assert get(console_off, "/v2/docs").status == 200


def test_with_keys_the_files_are_open_like_the_documents_page(keyed: ServerProcess) -> None:
    assert get(keyed, "/console/").status == 200
    assert get(keyed, "/", HTML).status == 307
    get(keyed, "/v2/apps").error("UNAUTHORIZED")
    get(keyed, "/v2/models").error("UNAUTHORIZED")
