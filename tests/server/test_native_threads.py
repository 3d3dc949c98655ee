"""Native thread pools of a real process, held to the CPUs that it may use."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.server_process import ServerProcess

POOLS = """
import os, numpy
from oipserver.core.cpus import Cpus
from oipserver.native_threads import VARIABLES, held_to
from threadpoolctl import threadpool_info
def seen():
    return [pool["num_threads"] for pool in threadpool_info()], [os.environ.get(name) for name in VARIABLES]
before = seen()
with held_to(Cpus(affinity=16, quota=1.5)):
    print(seen())
    import sklearn.cluster  # brings its own OpenMP
    print({pool["num_threads"] for pool in threadpool_info()})
assert seen()[1] == before[1]
with held_to(Cpus(affinity=16, quota=None)):
    assert seen()[1] == before[1]
"""


def test_cpus_are_told_at_the_start() -> None:
    """`taskset` is what an orchestrator with pinned CPUs does."""
    one = str(min(os.sched_getaffinity(0)))
    program = [
        "-c",
        "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); from oipserver.cli import "
        "main; sys.exit(main(['demo', '--http-port=0', '--grpc-port=off', '--shutdown-lame-duck=0']))",
        one,
    ]
    with ServerProcess(program=program) as server:
        server.wait_for(r"CPUs: 1 \(affinity 1, ")
        server.wait_for(r"threads of one call: at most 1 \(.*openblas")


def test_pools_that_are_there_and_pools_to_come_are_held() -> None:
    unset = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", POOLS], env=unset, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["([1], ['1', '1', '1'])", "{1}"], done.stderr


def test_what_the_user_has_set_stays() -> None:
    program = POOLS.partition("    import sklearn")[0]
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["([2], ['2', '2', '2'])"], done.stderr
