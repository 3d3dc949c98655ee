"""The protocol's messages, built from the serialized descriptor beside this file.

Rule: they live in a pool of their own.  Every client of the protocol registers the package `inference` in
protobuf's default pool, and model code must be able to import any of them in this process.

The names and types stand in the generated `.pyi`.
"""

from collections.abc import Iterator
from importlib import resources

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

DESCRIPTOR = descriptor_pool.DescriptorPool().AddSerializedFile(
    resources.files(__package__).joinpath("open_inference.binpb").read_bytes()
)
globals().update(
    (name, message_factory.GetMessageClass(descriptor))
    for name, descriptor in DESCRIPTOR.message_types_by_name.items()
)
globals().update((name, EnumTypeWrapper(enum)) for name, enum in DESCRIPTOR.enum_types_by_name.items())


def _nested(descriptor: Descriptor) -> Iterator[type[Message]]:
    for inner in descriptor.nested_types:
        yield message_factory.GetMessageClass(inner)
        yield from _nested(inner)


# protobuf itself holds classes weakly.  A nested one that nobody holds is collected and built again while
# the server runs, and a thread that reads a message of it meanwhile can crash the process.
_KEPT = [one for descriptor in DESCRIPTOR.message_types_by_name.values() for one in _nested(descriptor)]
