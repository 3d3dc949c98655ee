"""KServe's clients, beyond what every client is asked."""

from __future__ import annotations

import pytest

from tests.clients.conftest import Clients
from tests.clients.test_every_client import ANSWER


@pytest.mark.parametrize(
    ("client", "form"), [("kserve_rest", "dictionary"), ("kserve_rest", "binary"), ("kserve_grpc", "raw")]
)
def test_other_forms_of_the_document(clients: Clients, client: str, form: str) -> None:
    assert clients.report(client)[form] == ANSWER


def test_rest_reads_our_error(clients: Clients) -> None:
    status, text = clients.report("kserve_rest")["unknown"]
    assert status == 404
    assert text.startswith("no model 'nobody', '404 Not Found' for url ")


def test_grpc_reads_our_error(clients: Clients) -> None:
    assert clients.report("kserve_grpc")["unknown"] == ["NOT_FOUND", "no model 'nobody'"]
