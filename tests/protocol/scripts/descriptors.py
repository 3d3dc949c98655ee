"""Prints the definitions that tritonclient.grpc was generated from, serialized, in hexadecimal."""

import sys

from tritonclient.grpc import model_config_pb2, service_pb2

for module in (service_pb2, model_config_pb2):
    sys.stdout.write(module.DESCRIPTOR.serialized_pb.hex() + "\n")
