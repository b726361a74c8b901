"""Retention of freed memory, measured by page faults in a separate process; reuse of activation memory by an arena."""

import ctypes
import subprocess
import sys

import pytest
import torch

from thruway.nn.stack_autograd import highway_stack
from thruway.nn.stack_kernel import plain_highway_stack
from thruway.train import keep_freed_memory
from thruway.train.memory import Arena

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


EXACT = {"rtol": 1e-12, "atol": 1e-13}  # float64: the same sums in another order


def stack_inputs(members=1, depth=4, width=3, batch=5):
    rng = torch.Generator().manual_seed(2)
    shapes = (members, width, batch), (members, depth, 2 * width, width), (members, depth, 2 * width)
    return tuple(torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_() for shape in shapes)


@pytest.mark.parametrize("steps", [1, 3])
def test_an_arena_changes_no_number_and_is_reused(steps):
    tensors, arena = stack_inputs(members=2), Arena()
    fresh = torch.autograd.grad(highway_stack(*tensors, "tanh", None).square().sum(), tensors)
    for _ in range(steps):
        with arena.step():
            lent = torch.autograd.grad(highway_stack(*tensors, "tanh", None).square().sum(), tensors)
            lent = tuple(gradient.clone() for gradient in lent)
    assert all(torch.equal(a, b) for a, b in zip(fresh, lent, strict=True))
    assert sum(len(blocks) for blocks in arena._blocks.values()) == 4  # X, A and two gradients, however many steps


def test_two_passes_in_one_arena_step_do_not_share_memory():
    tensors = stack_inputs()
    with Arena().step():
        first, second = (highway_stack(*tensors, "tanh", None) for _ in range(2))
        (2 * first - second).sum().backward()
    expected = torch.autograd.grad(plain_highway_stack(*tensors, torch.tanh).sum(), tensors)
    torch.testing.assert_close(tuple(t.grad for t in tensors), expected, **EXACT)
