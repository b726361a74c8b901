"""Retention of freed memory, measured by page faults in a separate process."""

import ctypes
import subprocess
import sys

import pytest

from thruway.train import keep_freed_memory

SCRIPT = """
import resource, sys, torch
from thruway.train import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
def step():
    for megabytes in (40, 16, 8, 70):
        torch.ones(megabytes * 2**18)
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5)
"""


def faults(*arguments):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_a_step_causes_hardly_any_page_faults():
    # 70 MB are 17,920 pages of 4 KB; the interpreter itself may touch a few new ones.
    assert faults() > 10_000
    assert faults("keep") < 200


def test_other_c_libraries_are_not_changed(monkeypatch):
    class Other:
        pass

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Other())
    assert keep_freed_memory() is False
