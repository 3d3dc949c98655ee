"""Every call, message, field and enum value that we declare is the one that Triton's clients know."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from oipserver.grpc._generated.open_inference_pb2 import DESCRIPTOR
from tests.clients.conftest import PATIENCE, interpreter

SCRIPT = Path(__file__).parent / "scripts" / "descriptors.py"
# Of the Open Inference Protocol; Triton does not have it.
OURS_ALONE = {"ModelMetadataResponse.properties", "ModelMetadataResponse.PropertiesEntry"}


def facts(file: FileDescriptorProto) -> Mapping[str, Any]:
    """Whatever travels, by its full name."""
    found: dict[str, Any] = {}
    for message in file.message_type:
        found |= dict(_of_message(message, ""))
    for enum in file.enum_type:
        found |= {f"{enum.name}.{value.name}": value.number for value in enum.value}
    for service in file.service:
        for call in service.method:
            streams = call.client_streaming, call.server_streaming
            found[f"{service.name}.{call.name}"] = (call.input_type, call.output_type, *streams)
    return found


def _of_message(message: DescriptorProto, outer: str) -> Iterator[tuple[str, Any]]:
    path = outer + message.name
    yield path, message.options.map_entry
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        yield f"{path}.{field.name}", (field.number, field.type, field.label, field.type_name, oneof)
    for enum in message.enum_type:
        yield from ((f"{path}.{enum.name}.{value.name}", value.number) for value in enum.value)
    for nested in message.nested_type:
        yield from _of_message(nested, f"{path}.")


@pytest.fixture(scope="module")
def theirs() -> Mapping[str, Any]:
    finished = subprocess.run(
        [interpreter("tritonclient_grpc"), SCRIPT],
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    found: dict[str, Any] = {}
    for line in finished.stdout.split():
        found |= facts(FileDescriptorProto.FromString(bytes.fromhex(line)))
    return found


@pytest.fixture(scope="module")
def ours() -> Mapping[str, Any]:
    file = descriptor_pb2.FileDescriptorProto()
    DESCRIPTOR.CopyToProto(file)
    return facts(file)


def test_what_is_declared_is_as_triton_numbers_it(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    declared = {
        name: fact for name, fact in ours.items() if not any(name.startswith(each) for each in OURS_ALONE)
    }
    assert len(declared) > 200
    assert declared == {name: theirs.get(name) for name in declared}


def test_every_call_but_those_of_triton_itself_is_declared(
    ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> None:
    calls = {name for name in theirs if name.startswith("GRPCInferenceService.")}
    missing = {f"GRPCInferenceService.{name}" for name in ("TraceSetting", "LogSettings")}
    assert calls - ours.keys() == missing
