"""What the observer counts, and that both text formats say it: read back by the client library's parsers."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Callable, Iterable

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from oipserver.core.errors import Fault
from oipserver.core.observer import Ended, Phases
from oipserver.metrics import Metrics
from oipserver.metrics.counted import SECONDS
from oipserver.metrics.histogram import Series
from oipserver.metrics.shown.exposition import OPEN_TYPE, PLAIN_TYPE, wants_openmetrics
from oipserver.metrics.shown.histogram import buckets
from oipserver.metrics.slo import BROKEN
from tests.support import faults

OPEN = "application/openmetrics-text; version=1.0.0"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,*/*;q=0.1"
)

Parse = Callable[[str], Iterable[Metric]]


def ended(*seconds: float, code: str = "OK", front: str = "http", model: str = "m", **rest: object) -> Ended:
    version = "1" if model else ""
    return Ended(front, "/infer", model, version, code, seconds, **rest)  # type: ignore[arg-type]


def exposed(metrics: Metrics, accept: str = "") -> str:
    return asyncio.run(metrics.exposition(accept))[1].decode()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum over the samples of this name with these labels."""
    found = [
        sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert found, f"no {name} with {labels}"
    return sum(found)


# --- histograms ---


@pytest.mark.parametrize("seed", range(3))
def test_a_bucket_holds_what_is_not_above_its_bound(seed: int) -> None:
    numbers = random.Random(seed)
    values = [10 ** numbers.uniform(-6, 3) for _ in range(200)] + list(SECONDS)
    series = Series(SECONDS)
    series.observe_all(values[:100])
    for each in values[100:]:
        series.observe(each)
    for bound, count, *_ in buckets(series):
        assert count == sum(1 for each in values if each <= float(bound))
    assert series.count == len(values)
    assert series.sum == pytest.approx(sum(values))


def test_many_equal_values_count_as_so_many() -> None:
    one_by_one, together = Series(SECONDS), Series(SECONDS)
    for _ in range(64):
        one_by_one.observe(0.003)
    together.observe_equal(0.003, 64)
    assert together.counts == one_by_one.counts
    assert together.sum == pytest.approx(one_by_one.sum)


# --- what is counted ---


def test_requests_are_counted_by_front_model_and_code() -> None:
    metrics = Metrics()
    metrics.requests(ended(0.001, 0.002, 0.3))
    metrics.requests(ended(0.001, front="grpc"))
    metrics.requests(ended(0.5, code="TIMEOUT"))
    metrics.requests(ended(0.0001, code="NOT_FOUND", model=""))
    assert value(metrics, "oip_requests_total", front="http", model="m", version="1", code="OK") == 3
    assert value(metrics, "oip_requests_total", front="grpc", code="OK") == 1
    assert value(metrics, "oip_requests_total", code="TIMEOUT") == 1
    assert value(metrics, "oip_requests_total", model="", version="", code="NOT_FOUND") == 1
    assert value(metrics, "oip_request_duration_seconds_count", front="http", model="m") == 4
    assert value(metrics, "oip_request_duration_seconds_bucket", front="http", model="m", le="0.0025") == 2
    assert value(metrics, "oip_request_duration_seconds_sum", front="http", model="m") == pytest.approx(0.803)


def test_phases_that_several_share_count_for_each() -> None:
    metrics = Metrics()
    metrics.requests(ended(0.1, 0.1, phases=Phases(decode=0.00002, encode=0.0002), sizes=(100, 5000)))
    metrics.requests(ended(0.1, code="BAD_REQUEST"))
    assert value(metrics, "oip_decode_duration_seconds_count") == 2
    assert value(metrics, "oip_decode_duration_seconds_bucket", le="2.5e-05") == 2
    assert value(metrics, "oip_encode_duration_seconds_sum") == pytest.approx(0.0004)
    assert value(metrics, "oip_request_bytes_total", front="http") == 5100


def test_calls_of_the_model_are_counted() -> None:
    metrics = Metrics()
    metrics.batch("m", "1", rows=5, compute_seconds=0.02, queue_seconds=(0.001, 0.002, 0.003))
    metrics.batch("m", "1", rows=1, compute_seconds=0.01, queue_seconds=(0.0,))
    assert value(metrics, "oip_queue_duration_seconds_count", model="m") == 4
    assert value(metrics, "oip_compute_duration_seconds_count", model="m") == 2
    assert value(metrics, "oip_compute_duration_seconds_sum", model="m") == pytest.approx(0.03)
    assert value(metrics, "oip_batch_rows_sum", model="m") == 6
    assert value(metrics, "oip_batch_rows_bucket", model="m", le="4.0") == 1


def test_what_asks_for_no_inference_is_counted_by_route_and_code() -> None:
    metrics = Metrics()
    for code in ("OK", "OK", "UNAUTHORIZED"):
        metrics.control(Ended("http", "/v2/models/{model}", "", "", code, (0.001,)))
    assert value(metrics, "oip_control_requests_total", route="/v2/models/{model}", code="OK") == 2
    assert value(metrics, "oip_control_requests_total", front="http", code="UNAUTHORIZED") == 1


def test_every_broken_promise_is_a_fault_of_the_product() -> None:
    assert {fault.code for fault in faults(Fault)} >= BROKEN


# --- text ---


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain; version=0.0.4", False),
        (OPEN, True),
        (PROMETHEUS, True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", False),
        ("application/openmetrics-text;q=junk", False),
        ("Application/OpenMetrics-Text ; Q=0.9 , text/plain;q=0.1", True),
        (",;,;;q=,", False),
    ],
)
def test_the_scraper_chooses_the_format(accept: str, expected: bool) -> None:
    assert wants_openmetrics(accept) is expected
    media_type, text = asyncio.run(Metrics().exposition(accept))
    assert media_type == (OPEN_TYPE if expected else PLAIN_TYPE)
    assert text.endswith(b"# EOF\n") is expected


@pytest.mark.parametrize(("accept", "parse"), [("", parse_plain), (OPEN, parse_open)], ids=["plain", "open"])
def test_the_parser_reads_what_was_counted(accept: str, parse: Parse) -> None:
    metrics = Metrics(triton_names=True)
    for seconds in (0.00005, 0.02, 1000.0):
        metrics.requests(ended(seconds, ids=["a-1"], phases=Phases(0.1, 0.2, 0.3, 0.4, 5)))
        metrics.batch("m", "1", 3, seconds, (seconds,))
    read = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(exposed(metrics, accept))
        for sample in family.samples
    }
    for family in metrics.collect():
        for sample in family.samples:
            assert read[sample.name, tuple(sorted(sample.labels.items()))] == sample.value
    assert ("process_resident_memory_bytes", ()) in read
    assert read["oip_threads", ()] >= 1


# --- exemplars ---


def exemplars(metrics: Metrics) -> dict[str, tuple[dict[str, str], float]]:
    """Labels and values of those in OpenMetrics, by the bound of their bucket."""
    return {
        sample.labels["le"]: (sample.exemplar.labels, sample.exemplar.value)
        for family in parse_open(exposed(metrics, OPEN))  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar
    }


def test_each_bucket_shows_the_last_request_that_fell_into_it() -> None:
    metrics = Metrics()
    for number, seconds in enumerate((0.003, 0.004, 0.3)):
        metrics.requests(ended(seconds, ids=[f"id-{number}"]))
    assert exemplars(metrics) == {
        "0.005": ({"request_id": "id-1"}, 0.004),
        "0.5": ({"request_id": "id-2"}, 0.3),
    }
    assert "id-1" not in exposed(metrics)


def test_a_trace_is_a_better_exemplar_than_an_id() -> None:
    metrics = Metrics()
    trace = "0af7651916cd43dd8448eb211c80319c"
    metrics.requests(ended(0.3, ids=["mine"], traces=[f"00-{trace}-b7ad6b7169203331-01"]))
    assert exemplars(metrics) == {"0.5": ({"trace_id": trace}, 0.3)}


@pytest.mark.parametrize("strange", ['"}', "\n# EOF\n", "ü", "\\", 'a" b', ""])
def test_a_strange_id_is_not_shown(strange: str) -> None:
    metrics = Metrics()
    metrics.requests(ended(0.3, ids=[strange]))
    assert exemplars(metrics) == {}


def test_ids_can_neither_grow_the_text_nor_be_too_long_for_it() -> None:
    metrics = Metrics()
    metrics.requests(ended(0.3, ids=["long" * 1000]))
    assert exemplars(metrics) == {}
    for number in range(2000):
        metrics.requests(ended(10 ** (number / 400 - 4), ids=[f"{number:036}"]))
    assert len(exemplars(metrics)) == len({bisect_left(SECONDS, 10 ** (n / 400 - 4)) for n in range(2000)})


# --- Triton's names ---


def triton(metrics: Metrics, name: str, **labels: str) -> float:
    return value(metrics, f"nv_inference_{name}", **labels)


def test_triton_names_tell_the_same() -> None:
    metrics = Metrics(triton_names=True)
    metrics.requests(ended(0.01, 0.03, phases=Phases(decode=0.001, encode=0.002)))
    metrics.requests(ended(0.02, front="grpc"))
    metrics.requests(ended(9.0, code="INFERENCE_FAILED"))
    metrics.batch("m", "1", rows=7, compute_seconds=0.005, queue_seconds=(0.001, 0.002))
    of = {"model": "m", "version": "1"}
    assert triton(metrics, "request_success", **of) == 3
    assert triton(metrics, "count", **of) == 7
    assert triton(metrics, "exec_count", **of) == 1
    assert triton(metrics, "request_duration_us", **of) == 60_000
    assert triton(metrics, "queue_duration_us", **of) == 3_000
    assert triton(metrics, "compute_input_duration_us", **of) == 2_000
    assert triton(metrics, "compute_infer_duration_us", **of) == 10_000
    assert triton(metrics, "compute_output_duration_us", **of) == 4_000


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("OVERLOADED", "REJECTED"),
        ("TIMEOUT", "REJECTED"),
        ("CANCELLED", "CANCELED"),
        ("INFERENCE_FAILED", "BACKEND"),
        ("BAD_REQUEST", "OTHER"),
    ],
)
def test_triton_names_tell_failures_by_reason(code: str, reason: str) -> None:
    metrics = Metrics(triton_names=True)
    metrics.requests(ended(0.1, code=code))
    assert triton(metrics, "request_failure", reason=reason) == 1


def test_triton_names_are_there_only_on_demand_and_for_known_models() -> None:
    silent, loud = Metrics(), Metrics(triton_names=True)
    for metrics in (silent, loud):
        metrics.requests(ended(0.1, code="NOT_FOUND", model=""))
    assert "nv_" not in exposed(silent)
    assert 'model=""' not in "".join(line for line in exposed(loud).splitlines() if line.startswith("nv_"))
