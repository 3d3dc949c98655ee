"""Faults as statuses."""

from __future__ import annotations

import grpc
import pytest

from oipserver.core import errors as core
from oipserver.grpc import errors
from tests.support import faults


def test_every_kind_of_fault_has_a_status() -> None:
    codes = {kind.code for kind in faults()}
    assert len(codes) > 10
    assert codes - set(errors.STATUS) == set()


def test_no_fault_is_ok_or_unknown() -> None:
    assert not {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN} & set(errors.STATUS.values())


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (core.BadRequest, grpc.StatusCode.INVALID_ARGUMENT),
        (core.InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
        (core.Unsupported, grpc.StatusCode.UNIMPLEMENTED),
        (core.NotFound, grpc.StatusCode.NOT_FOUND),
        (core.PayloadTooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (core.NotReady, grpc.StatusCode.UNAVAILABLE),
        (core.Overloaded, grpc.StatusCode.UNAVAILABLE),
        (core.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
        (core.InferenceFailed, grpc.StatusCode.INTERNAL),
    ],
)
def test_status(fault: type[core.Fault], status: grpc.StatusCode) -> None:
    assert errors.STATUS[fault("x").code] is status


@pytest.mark.parametrize("text", ["x" * 5000, "\N{GRINNING FACE}" * 5000, "short"])
def test_details_fit_into_a_header(text: str) -> None:
    details = errors.details(core.BadRequest(text))
    assert len(details.encode()) <= errors.MAX_DETAILS
    assert text.startswith(details[:5])
