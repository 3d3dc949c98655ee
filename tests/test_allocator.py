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


def run(what: str, **environ: str) -> list[str]:
    """The lines that the program prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, what],
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
