"""oipserver: serve a trained model over the Open Inference Protocol v2, HTTP and gRPC.

What a runtime author needs is exported here; `import oipserver` loads no web stack.

    import oipserver

    oipserver.serve(estimator)      # blocks, like `oipserver --runtime sklearn --model-uri ...`
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from oipserver.apps.app import App
from oipserver.apps.files import File, Files
from oipserver.apps.models import Models
from oipserver.core.answers import as_declared
from oipserver.core.constraint import Constraint
from oipserver.core.cpus import cpu_quota
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
from oipserver.core.declare import Input, Output, declared
from oipserver.core.errors import BadRequest, Fault, InvalidInput, NotFound, UnsupportedMediaType
from oipserver.core.golden import GoldenRow
from oipserver.core.messages import Array, Arrays, Parameters, TensorMetadata
from oipserver.core.model import Model, Runtime, Scoring
from oipserver.core.model_config import DynamicBatching, InstanceGroup, ModelConfig
from oipserver.core.trust import require_trust
from oipserver.core.user_code import CodeUri, UserCode, import_code

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
    "App",
    "Array",
    "Arrays",
    "BadRequest",
    "CodeUri",
    "Constraint",
    "Datatype",
    "DynamicBatching",
    "Fault",
    "File",
    "Files",
    "GoldenRow",
    "Input",
    "InstanceGroup",
    "InvalidInput",
    "Model",
    "ModelConfig",
    "Models",
    "NotFound",
    "Output",
    "Parameters",
    "Runtime",
    "Scoring",
    "TensorMetadata",
    "UnsupportedMediaType",
    "UserCode",
    "as_declared",
    "cpu_quota",
    "datatype_of",
    "declared",
    "import_code",
    "read_golden",
    "require_trust",
    "serve",
    "write_golden",
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


def read_golden(path: Path, config: ModelConfig) -> Sequence[GoldenRow]:
    """The golden rows beside the model at `path`; none when it has no such file.  For a runtime's `load`.

    The server replays them in any case, before the version serves.

    Raises:
        FileNotFoundError: the file that the parameter `golden` names is not there.
        ValueError: it holds something else; the text says where.
    """
    from oipserver.artifacts import golden_file

    return golden_file.read_golden(path, config)


def write_golden(model: object, inputs: Arrays, path: str | PathLike[str]) -> None:
    """Write what a model answers to some rows, to be replayed each time before it serves.

        oipserver.write_golden(estimator, {"input-0": X[:100]}, "golden.json")

    Args:
        model: as for `serve`.
        inputs: by the names in the model's metadata; the first axis is the batch.
        path: of the file; beside the model it is called `golden.json`.

    Raises:
        Fault: the inputs are not what the model takes.
        TypeError: no installed runtime recognises the object.
    """
    from oipserver.artifacts import golden_file
    from oipserver.core import runtimes

    golden_file.write_golden(runtimes.wrap(model, ModelConfig("model", "")), inputs, Path(path))
