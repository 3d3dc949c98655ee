"""The HTTP front: bytes to an `InferenceRequest` and faults to status numbers.  Knows no gRPC."""
