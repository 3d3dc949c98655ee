"""Writes what the gRPC front loads from `open_inference.proto`: its descriptor and type stubs.

    python protos/generate.py

The messages are not generated as a `_pb2.py` module, because that would register the package `inference`
in protobuf's default pool, where every other client of the protocol registers it too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
GENERATED = PROTOS.parent / "oipserver" / "grpc" / "_generated"
DESCRIPTOR = "open_inference.binpb"
STUBS = "open_inference_pb2.pyi"
# The compiler writes a bare `Mapping` for parameters that may be messages or dicts.
STUBS_HEADER = "# Written by protos/generate.py; do not edit.\n# mypy: disable-error-code=type-arg\n"


def generate(target: Path) -> None:
    """Write DESCRIPTOR and STUBS into `target`; RuntimeError when the compiler refuses the file."""
    descriptor = target / DESCRIPTOR
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--descriptor_set_out={descriptor}",
            f"--pyi_out={target}",
            "open_inference.proto",
        ]
    )
    if status != 0:
        raise RuntimeError("protoc refused open_inference.proto")
    # A set of one file; the server shall not need the classes that take a set apart.
    (file,) = FileDescriptorSet.FromString(descriptor.read_bytes()).file
    descriptor.write_bytes(file.SerializeToString(deterministic=True))
    stubs = target / STUBS
    stubs.write_text(STUBS_HEADER + stubs.read_text())


if __name__ == "__main__":
    generate(GENERATED)
    sys.stdout.write(f"wrote {DESCRIPTOR} and {STUBS} to {GENERATED}\n")
