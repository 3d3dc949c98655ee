"""What the connection relies upon in uvicorn and httptools is there; a hook may vanish without a sound."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import httptools
import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from oipserver.http.cycle import Cycle
from oipserver.http.flow import Flow
from oipserver.http.protocol import LimitedProtocol
from tests.http.echo import Echo

OWN = {
    LimitedProtocol: {"expects_more", "rest_is_small"},
    Cycle: {"lose"},
    Flow: {"listened", "hold", "release"},
}
BASES: dict[type, type] = {LimitedProtocol: HttpToolsProtocol, Cycle: RequestResponseCycle, Flow: FlowControl}


def overrides() -> Iterator[tuple[type, str]]:
    for ours, own in OWN.items():
        for name, member in vars(ours).items():
            if inspect.isfunction(member) and not name.startswith("_") and name not in own:
                yield ours, name


@pytest.mark.parametrize(
    ("ours", "name"), list(overrides()), ids=lambda value: getattr(value, "__name__", value)
)
def test_every_override_overrides_something_with_the_same_parameters(ours: type, name: str) -> None:
    theirs = vars(BASES[ours]).get(name)
    assert theirs is not None, f"uvicorn has no {BASES[ours].__name__}.{name} any more"
    assert list(inspect.signature(getattr(ours, name)).parameters) == list(
        inspect.signature(theirs).parameters
    )


def test_uvicorns_protocol_has_the_state_that_we_read() -> None:
    loop = uvloop.new_event_loop()
    loop.close()
    protocol = HttpToolsProtocol(uvicorn.Config(Echo(), log_config=None), ServerState(), {}, loop)
    for name in ("app", "connections", "cycle", "loop", "parser", "pipeline", "root_path", "server_state"):
        assert hasattr(protocol, name), name
    protocol.on_message_begin()
    assert (protocol.url, protocol.headers) == (b"", [])
    assert protocol.scope["headers"] is protocol.headers


def test_uvicorn_starts_a_request_by_the_method_that_we_call() -> None:
    assert list(inspect.signature(HttpToolsProtocol._start_asgi_task).parameters) == ["self", "cycle", "app"]


def test_httptools_hands_over_what_a_callback_raised() -> None:
    class Refuses:
        def on_url(self, url: bytes) -> None:
            raise LookupError("mine")

    with pytest.raises(httptools.HttpParserCallbackError) as caught:
        httptools.HttpRequestParser(Refuses()).feed_data(b"GET / HTTP/1.1\r\n")
    assert isinstance(caught.value.__context__, LookupError)
