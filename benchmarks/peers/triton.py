"""NVIDIA Triton for CPUs, as the nvidia-pytriton wheel carries it: Python backend, dynamic batching.

The wheel's Python front is not used: `tritonserver` serves a model repository, as in NVIDIA's container.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks import models as models_py
from benchmarks.models import CANCER, IRIS, MLP
from benchmarks.peers.launch import APPS, HOST, Place, Program, run_once

# It takes the datatype that it was told, and no other.
DATATYPES = {IRIS: "FP64", CANCER: "FP64", MLP: "FP32"}
# datatype of the answer, features, numbers of an answer
_ANSWERS = {IRIS: ("INT64", 4, 1), CANCER: ("INT64", 30, 1), MLP: ("FP32", 784, 10)}

_CONFIG = """\
name: "{model}"
backend: "python"
max_batch_size: 1024
input {{ name: "input-0" data_type: TYPE_{datatype} dims: {features} }}
output {{ name: "predict" data_type: TYPE_{answer} dims: {width} }}
dynamic_batching {{ }}
instance_group {{ count: 1 kind: KIND_CPU }}
parameters {{ key: "joblib" value {{ string_value: {file} }} }}
"""

# What the backend's process, which embeds Python, has to be told of the environment.
_ABOUT = """
import json, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
print(json.dumps([version, sysconfig.get_path("purelib"), sysconfig.get_config_var("LIBDIR")]))
"""


def train_own(environment: Path, models: Path) -> None:
    """The same models, trained in the environment: its numpy cannot read what a newer one has saved."""
    run_once(models / "triton", [str(environment / "bin" / "python"), models_py.__file__], environment)


def program(place: Place) -> Program:
    """`tritonserver` with a repository of the models."""
    version, packages, libraries = json.loads(
        subprocess.run([place.python, "-c", _ABOUT], capture_output=True, check=True).stdout
    )
    wheel = Path(packages) / "pytriton" / "tritonserver"
    backends = _backends(wheel, version, place.directory / "backends")
    repository = place.directory / "repository"
    for model in DATATYPES:
        _write_model(repository / model, model, place.models / "triton" / f"{model}.joblib")
    command = [
        str(wheel / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--http-address={HOST}",
        f"--http-port={place.http_port}",
        f"--grpc-address={HOST}",
        f"--grpc-port={place.grpc_port}",
        "--allow-metrics=false",
        "--disable-auto-complete-config",
        "--exit-timeout-secs=5",
    ]
    # The embedded Python finds its environment by the first `python3` on PATH, which is the environment's.
    wanted = [
        libraries,
        f"{packages}/nvidia_pytriton.libs",
        *filter(None, [os.environ.get("LD_LIBRARY_PATH")]),
    ]
    return Program(command, {"LD_LIBRARY_PATH": ":".join(wanted)})


def _backends(wheel: Path, version: str, directory: Path) -> Path:
    """The Python backend beside its helper for this version of Python, as the server looks for them."""
    python = directory / "python"
    python.mkdir(parents=True)
    helper = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    for file in (*(wheel / "backends" / "python").iterdir(), helper):
        (python / file.name).symlink_to(file)
    return directory


def _write_model(directory: Path, model: str, file: Path) -> None:
    answer, features, width = _ANSWERS[model]
    version = directory / "1"
    version.mkdir(parents=True)
    shutil.copy(APPS / "triton_model.py", version / "model.py")
    (directory / "config.pbtxt").write_text(
        _CONFIG.format(
            model=model,
            datatype=DATATYPES[model],
            features=features,
            answer=answer,
            width=width,
            file=json.dumps(str(file.resolve())),
        )
    )
