"""The messages: generated as committed, and out of the way of every other client."""

from __future__ import annotations

import gc
import runpy
import weakref
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from oipserver.grpc._generated import open_inference_pb2
from oipserver.grpc._generated.open_inference_pb2 import (
    DESCRIPTOR,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
)

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "oipserver" / "grpc" / "_generated"


@pytest.mark.parametrize("name", ["open_inference.binpb", "open_inference_pb2.pyi"])
def test_generating_again_gives_the_committed_bytes(tmp_path: Path, name: str) -> None:
    runpy.run_path(str(ROOT / "protos" / "generate.py"))["generate"](tmp_path)
    assert (tmp_path / name).read_bytes() == (GENERATED / name).read_bytes()


def test_every_message_of_the_stubs_exists() -> None:
    stubs = (GENERATED / "open_inference_pb2.pyi").read_text().splitlines()
    names = [line.split("(")[0].removeprefix("class ") for line in stubs if line.startswith("class ")]
    declared = {*DESCRIPTOR.message_types_by_name, *DESCRIPTOR.enum_types_by_name}
    assert declared == set(names) > {"ModelInferRequest", "DataType"}
    assert all(hasattr(open_inference_pb2, name) for name in names)


def test_another_client_may_register_the_same_package() -> None:
    # As tritonclient's generated module does: other fields, the same full names, the default pool.
    file = descriptor_pb2.FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
    message = file.message_type.add(name="ModelInferRequest")
    message.field.add(name="another_field", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
    pool = descriptor_pool.Default()
    theirs = pool.AddSerializedFile(file.SerializeToString())
    request = message_factory.GetMessageClass(theirs.message_types_by_name["ModelInferRequest"])
    assert (
        request(another_field="x").SerializeToString()
        == ModelInferRequest(model_name="x").SerializeToString()
    )
    assert DESCRIPTOR.pool is not pool


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("ModelReadyRequest", "name version"),
        ("ModelMetadataResponse", "name versions platform inputs outputs properties"),
        ("InferParameter", "bool_param int64_param string_param double_param uint64_param"),
        (
            "InferTensorContents",
            "bool_contents int_contents int64_contents uint_contents uint64_contents fp32_contents "
            "fp64_contents bytes_contents",
        ),
        (
            "ModelInferRequest",
            "model_name model_version id parameters inputs outputs raw_input_contents",
        ),
        ("ModelInferResponse", "model_name model_version id parameters outputs raw_output_contents"),
        ("ModelStreamInferResponse", "error_message infer_response"),
    ],
)
def test_field_numbers_are_the_protocols(message: str, names: str) -> None:
    fields = DESCRIPTOR.message_types_by_name[message].fields
    assert {field.number: field.name for field in fields} == dict(enumerate(names.split(), start=1))


def test_the_classes_of_nested_messages_are_never_collected() -> None:
    """A class that is collected while another thread reads one of its messages crashes the process."""
    nested = (
        lambda: ModelInferRequest().inputs.add(),
        lambda: ModelInferRequest().outputs.add(),
        lambda: ModelInferResponse().outputs.add(),
        lambda: ModelMetadataResponse().inputs.add(),
    )
    kept = [weakref.ref(type(make())) for make in nested]
    gc.collect()
    assert all(one() is not None for one in kept)
