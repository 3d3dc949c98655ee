"""The gRPC front: the Open Inference Protocol's seven calls, health and reflection, in front of the core."""
