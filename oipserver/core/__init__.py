"""Every decision about tensors, models, versions and batches.

Imports numpy and the standard library only; knows no HTTP, no gRPC, no scikit-learn, no Prometheus.
"""
