"""HTTP load by wrk, where it is installed: a cross-check of our own load client."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass

from benchmarks.questions import HttpQuestion

_SCRIPT = """
wrk.method = "POST"
{headers}
local bodies = {{{bodies}}}
local number = 0
function request()
  number = number % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[number])
end
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


def load_wrk(port: int, question: HttpQuestion, callers: int, seconds: float) -> WrkSummary:
    """Load 127.0.0.1:`port` with a question of text; wrk knows whole seconds only, at least one."""
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in question.headers.items())
    address = f"http://127.0.0.1:{port}{question.path}"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        bodies = ", ".join(f"[==[{body.decode()}]==]" for body in (question.body, *question.others))
        script.write(_SCRIPT.format(headers=headers, bodies=bodies))
        script.flush()
        command = ["wrk", "-t1", f"-c{callers}", f"-d{max(1, round(seconds))}s", "-s", script.name, address]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 + seconds)
    return WrkSummary(**json.loads(done.stdout[done.stdout.rindex("{") :]))
