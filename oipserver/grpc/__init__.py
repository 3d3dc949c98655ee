"""The gRPC front: the Open Inference Protocol's six calls, health and reflection, in front of the core."""
