"""Memory of large requests is used again, instead of given back and taken anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from oipserver.allocator import keep_large_blocks

# What a request of 7 MB needs: its pieces, the whole, and the numbers in it; sizes that glibc does not know
# yet.  Printed is how many pages the system had to give for the last ten.
PROGRAM = """
import resource, sys
from oipserver.allocator import keep_large_blocks

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def request():
    pieces = [bytes(2**18) for _ in range(28)]
    whole = b"".join(pieces)
    numbers = bytearray(len(whole))

print(keep_large_blocks() if sys.argv[1] == "keep" else "")
for _ in range(3):
    request()
before = faults()
for _ in range(10):
    request()
print(faults() - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")


def run(what: str, program: str = PROGRAM, **environ: str) -> list[str]:
    """The lines that the program prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return subprocess.run(
        [sys.executable, "-c", program, what],
        env={**inherited, **environ},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()


@glibc
def test_large_requests_cause_few_page_faults() -> None:
    kept, usual = run("keep"), run("")
    assert kept[0] == "True"
    assert int(kept[1]) < 1000 < 5000 < int(usual[1])


@glibc
@pytest.mark.parametrize(
    "environ",
    [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}],
)
def test_what_the_environment_says_stays(environ: dict[str, str]) -> None:
    assert not keep_large_blocks(environ)
    assert run("keep", **environ)[0] == "False"


# Ten models are taken and given back, each by another thread and so in another arena; then, printed is how
# much of the process stays.
MODELS = """
import os, sys, threading
from contextlib import nullcontext
from oipserver.allocator import for_a_model, give_back, keep_large_blocks

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def load():
    with for_a_model() if sys.argv[1] == "keep" else nullcontext():
        models.append([bytes(2**20) for _ in range(8)])

keep_large_blocks()
before = resident()
for _ in range(10):
    models = []
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del models
give_back()
print(resident() - before)
"""


@glibc
def test_what_models_have_taken_goes_back() -> None:
    assert int(run("keep", MODELS)[0]) < 2**20 * 4 < int(run("", MODELS)[0])
