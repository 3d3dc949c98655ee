"""How outputs are answered that are not to be answered as they are: as classes, or into shared memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from oipserver.core.classification import Classification
from oipserver.core.errors import BadRequest, Fault, InternalError, printable
from oipserver.core.messages import Deliveries, Delivery, InferenceResponse
from oipserver.core.shared_memory import Regions, SharedOutput, read_place

logger = logging.getLogger("oipserver.delivery")


def read_delivery(parameters: Mapping[str, Any], output: str, regions: Regions) -> Delivery | None:
    """What the parameters of a requested output ask for; None when it is answered as it is.

    Raises:
        BadRequest: a parameter is wrong, or two of them exclude each other.
        NotFound: there is no such region.
        Unsupported: shared memory is off.
    """
    count = parameters.get("classification")
    place = read_place(parameters, output, regions)
    if place is not None:
        for other in ("classification", "binary_data"):
            if parameters.get(other):
                raise BadRequest(
                    f"output '{printable(output)}': {other} and shared_memory_region exclude each other"
                )
        return SharedOutput(regions, place, output)
    if count is None:
        return None
    if type(count) is not int or count < 1:
        raise BadRequest(
            f"output '{printable(output)}': classification must be a number from 1, got '{printable(count)}'"
        )
    return Classification(count)


def delivered(response: InferenceResponse, deliveries: Deliveries) -> InferenceResponse:
    """The answer with its outputs as they were asked for.

    Raises:
        BadRequest: an output cannot go where it should.
    """
    outputs = [
        deliveries[tensor.name].deliver(tensor) if tensor.name in deliveries else tensor
        for tensor in response.outputs
    ]
    return replace(response, outputs=outputs)


def delivered_or_fault(response: InferenceResponse, deliveries: Deliveries) -> InferenceResponse | Fault:
    """As `delivered`, for where nothing may be raised."""
    try:
        return delivered(response, deliveries)
    except Fault as fault:
        return fault
    except Exception:
        logger.exception("an answer could not be delivered")
        return InternalError("internal error")
