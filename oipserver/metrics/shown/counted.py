"""What was counted, as the client library wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, Metric

from oipserver.metrics.counted import AtDoor, Counted, InModel
from oipserver.metrics.histogram import Series
from oipserver.metrics.shown.histogram import family

K = TypeVar("K", bound=tuple[str, ...])
C = TypeVar("C")

_MODEL = ("model", "version")
_DOOR = ("front", *_MODEL)


def families(counted: Counted) -> Iterator[Metric]:
    """Counters and histograms of all requests."""
    yield _outcomes(counted)
    yield _bytes(counted)
    yield from _histograms(counted)
    yield _controls(counted)


def _outcomes(counted: Counted) -> Metric:
    found = CounterMetricFamily(
        "oip_requests",
        "Infer requests by front and outcome; model is empty when the request named no known one.",
        labels=(*_DOOR, "code"),
    )
    for labels, door in counted.doors.items():
        for code, count in door.codes.items():
            found.add_metric((*labels, code), count)
    return found


def _bytes(counted: Counted) -> Metric:
    found = CounterMetricFamily("oip_request_bytes", "Bytes of the bodies of infer requests.", labels=_DOOR)
    for labels, door in counted.doors.items():
        found.add_metric(labels, door.bytes)
    return found


def _controls(counted: Counted) -> Metric:
    found = CounterMetricFamily(
        "oip_control_requests",
        "Requests that ask for no inference, by route and outcome.",
        labels=("front", "route", "code"),
    )
    for labels, count in counted.control.items():
        found.add_metric(labels, count)
    return found


def _histograms(counted: Counted) -> Iterator[Metric]:
    def at_door(name: str, text: str, pick: Callable[[AtDoor], Series]) -> Metric:
        return family(name, text, _DOOR, _picked(counted.doors, pick))

    def in_model(name: str, text: str, pick: Callable[[InModel], Series]) -> Metric:
        return family(name, text, _MODEL, _picked(counted.models, pick))

    yield at_door(
        "oip_request_duration_seconds", "From admission to the encoded answer.", lambda door: door.request
    )
    yield at_door("oip_decode_duration_seconds", "Bytes to checked tensors.", lambda door: door.decode)
    yield in_model(
        "oip_queue_duration_seconds", "From the queue to the start of the batch.", lambda each: each.queue
    )
    yield in_model("oip_compute_duration_seconds", "One call of the model.", lambda each: each.compute)
    yield at_door("oip_encode_duration_seconds", "Arrays to bytes.", lambda door: door.encode)
    yield in_model("oip_batch_rows", "Rows in one call of the model.", lambda each: each.rows)


def _picked(things: Mapping[K, C], pick: Callable[[C], Series]) -> dict[tuple[str, ...], Series]:
    return {labels: pick(thing) for labels, thing in things.items()}
