"""Logging for the process: plain lines on stderr, in UTC."""

from __future__ import annotations

import logging
import sys
import time


def configure(level: str) -> None:
    """Send everything from `level` on to stderr.

    Args:
        level: "debug", "info", "warning" or "error".
    """
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logger = logging.getLogger("oipserver")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False  # an application that embeds the server keeps its own root logger
