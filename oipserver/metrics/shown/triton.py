"""Triton's names for what is counted here, for dashboards and autoscalers that were made for it.

Source of names, labels and reasons: the page "Metrics" of Triton's user guide.  Its counters do not end in
`_total`, as OpenMetrics demands of counters, so their type is "unknown" here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily

from oipserver.metrics.counted import AtDoor, Counted, InModel

_REASONS = {
    "TIMEOUT": "REJECTED",
    "OVERLOADED": "REJECTED",
    "CANCELLED": "CANCELED",
    "INFERENCE_FAILED": "BACKEND",
}
_ALL_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
_LABELS = ("model", "version")
_TEXTS = {
    "nv_inference_request_success": "Infer requests that were answered.",
    "nv_inference_count": "Rows that were computed.",
    "nv_inference_exec_count": "Calls of the model.",
    "nv_inference_request_duration_us": "Time of answered requests from admission to the encoded answer.",
    "nv_inference_queue_duration_us": "Time that requests waited.",
    "nv_inference_compute_input_duration_us": "Time to decode requests.",
    "nv_inference_compute_infer_duration_us": "Time of the model's calls, counted for each request in them.",
    "nv_inference_compute_output_duration_us": "Time to encode answers.",
}


def families(counted: Counted, depths: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    """Triton's metrics by (model, version).

    Args:
        depths: how many requests wait for each version that there is.
    """
    numbers: dict[str, defaultdict[tuple[str, str], float]] = {name: defaultdict(float) for name in _TEXTS}
    failures: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    pending = GaugeMetricFamily(
        "nv_inference_pending_request_count", "Requests waiting for the model.", labels=_LABELS
    )
    for key, depth in depths.items():
        pending.add_metric(key, depth)
        for values in numbers.values():
            values[key] += 0
        failures |= {(*key, reason): 0 for reason in _ALL_REASONS}
    for (_, *names), door in counted.doors.items():
        if names[0]:  # the others named no known model
            _add_door(numbers, failures, (names[0], names[1]), door)
    for key, model in counted.models.items():
        _add_model(numbers, key, model)
    for name, text in _TEXTS.items():
        found = UnknownMetricFamily(name, text, labels=_LABELS)
        for key, value in numbers[name].items():
            found.add_metric(key, value)
        yield found
    failed = UnknownMetricFamily(
        "nv_inference_request_failure", "Infer requests that failed.", labels=(*_LABELS, "reason")
    )
    for labels, count in failures.items():
        failed.add_metric(labels, count)
    yield failed
    yield pending


def _add_door(
    numbers: Mapping[str, defaultdict[tuple[str, str], float]],
    failures: defaultdict[tuple[str, str, str], int],
    key: tuple[str, str],
    door: AtDoor,
) -> None:
    numbers["nv_inference_request_success"][key] += door.codes.get("OK", 0)
    numbers["nv_inference_request_duration_us"][key] += _us(door.answered_seconds)
    numbers["nv_inference_compute_input_duration_us"][key] += _us(door.decode.sum)
    numbers["nv_inference_compute_output_duration_us"][key] += _us(door.encode.sum)
    for code, count in door.codes.items():
        if code != "OK":
            failures[(*key, _REASONS.get(code, "OTHER"))] += count


def _add_model(
    numbers: Mapping[str, defaultdict[tuple[str, str], float]], key: tuple[str, str], model: InModel
) -> None:
    numbers["nv_inference_count"][key] += model.rows.sum
    numbers["nv_inference_exec_count"][key] += model.rows.count
    numbers["nv_inference_queue_duration_us"][key] += _us(model.queue.sum)
    numbers["nv_inference_compute_infer_duration_us"][key] += _us(model.request_seconds)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
