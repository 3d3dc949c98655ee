"""What holds for the whole suite."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, not what the code does.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Native threads wait asleep, here and in the processes that tests start: those that wait spinning (OpenMP's,
# and OpenBLAS's for 2^26 cycles) take the processor from what they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
