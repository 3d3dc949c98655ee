"""HTTP load by wrk, where it is installed: a cross-check of our own load client."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{body}]==]
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{{"answers":%d,"seconds":%f,"p50":%f,"p99":%f,"errors":%d}}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class WrkSummary:
    """What wrk found; it compares statuses, not bodies.  Latencies are in seconds."""

    answers: int
    seconds: float
    p50: float
    p99: float
    errors: int


def load_wrk(port: int, path: str, body: bytes, callers: int, seconds: float) -> WrkSummary:
    """Load 127.0.0.1:`port`; wrk knows whole seconds only, at least one."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.format(body=body.decode()))
        script.flush()
        duration = f"-d{max(1, round(seconds))}s"
        command = [
            "wrk",
            "-t1",
            f"-c{callers}",
            duration,
            "-s",
            script.name,
            f"http://127.0.0.1:{port}{path}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 + seconds)
    return WrkSummary(**json.loads(done.stdout[done.stdout.rindex("{") :]))
