"""oipserver: serve a trained model over the Open Inference Protocol v2, HTTP and gRPC.

What a runtime author needs is exported here; `import oipserver` loads no web stack.

    import oipserver

    oipserver.serve(estimator)      # blocks, like `oipserver --runtime sklearn --model-uri ...`
"""

from __future__ import annotations

from typing import Any

from oipserver.core.constraint import Constraint
from oipserver.core.datatypes import (
    BF16,
    BOOL,
    BYTES,
    FP16,
    FP32,
    FP64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Datatype,
    datatype_of,
)
from oipserver.core.errors import Fault, InvalidInput
from oipserver.core.messages import Array, Arrays, Parameters, TensorMetadata
from oipserver.core.model import Model, Runtime
from oipserver.core.model_config import DynamicBatching, InstanceGroup, ModelConfig

__version__ = "0.1.0"

__all__ = [
    "BF16",
    "BOOL",
    "BYTES",
    "FP16",
    "FP32",
    "FP64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "Array",
    "Arrays",
    "Constraint",
    "Datatype",
    "DynamicBatching",
    "Fault",
    "InstanceGroup",
    "InvalidInput",
    "Model",
    "ModelConfig",
    "Parameters",
    "Runtime",
    "TensorMetadata",
    "datatype_of",
    "serve",
]


def serve(model: object, *, name: str = "model", **options: Any) -> None:
    """Serve a model that is already in memory, until Ctrl-C or SIGTERM.

    Args:
        model: a fitted scikit-learn estimator, or any object that an installed runtime recognises.
        name: the model's name in URLs.
        options: as on the command line with underscores, e.g. `http_port=9000`, `max_batch_size=256`.

    Raises:
        TypeError: when no installed runtime recognises the object.
        oipserver.config.ConfigError: when an option is wrong; it lists each of them.
        RuntimeError: when the server cannot start, as with a port that is taken.
    """
    from oipserver import config, server

    if server.run_model(model, config.for_model(name, options)):
        raise RuntimeError("the server could not start; its last line says why")
