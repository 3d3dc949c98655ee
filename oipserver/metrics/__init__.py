"""Prometheus metrics: the observer that counts, and what is read when somebody looks."""

from oipserver.metrics.listener import Metrics

__all__ = ["Metrics"]
