"""Whether an object is of a class of scikit-learn, without importing that class.

Most of scikit-learn has nothing to do with the model at hand: its import would double the time that a small
model takes to load.
"""

from __future__ import annotations

import sys
from typing import Any


def is_a(estimator: Any, *classes: str) -> bool:
    """Whether `estimator` is an instance of one of `classes` ("sklearn.pipeline.Pipeline").

    Where the module was never imported, or is not yet imported to its end, there are no instances.
    """
    return isinstance(estimator, tuple(_imported(*name.rsplit(".", 1)) for name in classes))


def _imported(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, ())
