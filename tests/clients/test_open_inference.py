"""The clients generated from the specification, beyond what every client is asked."""

from __future__ import annotations

import pytest

from tests.clients.conftest import Clients


@pytest.mark.parametrize("client", ["open_inference_openapi", "open_inference_grpc"])
def test_a_version_is_asked(clients: Clients, client: str) -> None:
    assert clients.report(client)["version"] == ["0", ["setosa", "setosa"]]
