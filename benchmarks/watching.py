"""Benchmarks of watching: time per step, unchanged results, and host synchronisations.

A watched and a bare net of equal weights alternate step by step. When every 10th step is recorded, the ratio is that of
ten steps together, one of which is recorded. watching_comparison.py compares with other tools, and watching_memory.py
measures the memory over 10,000 steps of a thousand layers.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.measure import interleaved, ratio
from benchmarks.stack import Row, verdict
from benchmarks.watching_nets import CASES, Case, Twin
from thruway.watching import Trace, watch

FREQUENCIES = (1, 10)
EVERY_TENTH_TARGET = 1.05


def in_groups(seconds: list[float], size: int) -> list[float]:
    """Return sums over groups of `size` consecutive values; an incomplete group at the end is dropped."""
    return [sum(seconds[i : i + size]) for i in range(0, len(seconds) - size + 1, size)]


def how_often(every: int) -> str:
    return "every step" if every == 1 else f"every {every}th step"


def spread(found: tuple[float, float, float]) -> str:
    """Format the median and quartiles of a ratio."""
    return f"{found[1]:.3f}x ({found[0]:.3f}-{found[2]:.3f})"


def check_alive(trace: Trace, steps: int) -> None:
    """Raise RuntimeError if watching ended early, which would make it look fast."""
    if trace.failure is not None or not trace.sites:
        raise RuntimeError(f"watching has failed during the benchmark: {trace!r}, {trace.failure!r}.")
    if len(trace.steps) * trace.kept_every < steps:
        raise RuntimeError(f"{steps} steps should have been recorded, the trace has {len(trace.steps)}.")


def step_ratios(case: Case, rounds: int = 200) -> Iterator[Row]:
    """Watched compared with bare steps, with default quantities of all outputs and their gradients."""
    warm_up = max(FREQUENCIES)
    bare, *watched = case.twins(1 + len(FREQUENCIES))
    with contextlib.ExitStack() as block:
        traces = [block.enter_context(watch(t.net, e)) for t, e in zip(watched, FREQUENCIES, strict=True)]
        steps = {"bare": bare.step} | {how_often(e): t.step for t, e in zip(watched, FREQUENCIES, strict=True)}
        seconds = interleaved(steps, rounds, warm_up)
    for every, trace in zip(FREQUENCIES, traces, strict=True):
        check_alive(trace, (rounds + warm_up) // every)
        found = ratio(in_groups(seconds[how_often(every)], every), in_groups(seconds["bare"], every))
        target = case.target if every == 1 else EVERY_TENTH_TARGET
        aim = f", aim {case.aim}x" if every == 1 and case.aim else ""
        name = f"watched / bare step, {how_often(every)}, {case.what} ({len(trace.sites)} sites)"
        yield name, f"<= {target}x{aim}", spread(found), verdict(found[1] <= target)


# Unchanged results


def state(twin: Twin) -> list[Tensor]:
    """Return parameters, their gradients, buffers and momenta."""
    gradients = [p.grad for p in twin.net.parameters() if p.grad is not None]
    momenta = [s["momentum_buffer"] for s in twin.optimizer.state.values()]
    return [*twin.net.parameters(), *gradients, *twin.net.buffers(), *momenta]


def differing(a: list[Tensor], b: list[Tensor]) -> int:
    """Return the number of tensors that differ in any bit."""

    def is_same(x: Tensor, y: Tensor) -> bool:
        return (x.dtype, x.shape) == (y.dtype, y.shape) and torch.equal(x.view(torch.uint8), y.view(torch.uint8))

    return sum(not is_same(x.detach().reshape(-1), y.detach().reshape(-1)) for x, y in zip(a, b, strict=True))


def unchanged(steps: int = 50) -> Iterator[Row]:
    """State of two equal nets after `steps` steps, one of them watched with all quantities."""
    differ = tensors = 0
    rng = torch.get_rng_state()
    for case in CASES.values():
        bare, watched = case.twins(2)
        with watch(watched.net, optimizer=watched.optimizer) as trace:
            for _ in range(steps):
                watched.step()
        check_alive(trace, steps)
        for _ in range(steps):
            bare.step()
        differ += differing(state(bare), state(watched))
        tensors += len(state(bare))
    differ += differing([rng], [torch.get_rng_state()])
    yield (
        f"parameters, gradients, buffers, momenta and the random state after {steps} steps, the four nets: "
        "tensors in which watching changed a bit",
        "0",
        f"{differ} of {tensors + 1}",
        verdict(differ == 0),
    )


# Host synchronisations

_WAITS = ("cpu", "item", "tolist", "nonzero", "__bool__", "__float__", "__int__", "__index__")


@contextlib.contextmanager
def host_reads() -> Iterator[list[str]]:
    """Record calls of tensor methods, on any device, that return values to Python."""
    calls: list[str] = []

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            calls.append(name)
            return method(*arguments, **keywords)

        return call

    with contextlib.ExitStack() as block:
        for name in _WAITS:
            block.enter_context(mock.patch.object(Tensor, name, counted(name, getattr(Tensor, name))))
        yield calls


@contextlib.contextmanager
def cuda_waits() -> Iterator[list[str]]:
    """Record operations that synchronise with the GPU, as reported by CUDA's sync debug mode."""
    calls: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield calls
        finally:
            torch.cuda.set_sync_debug_mode("default")
            calls += [str(w.message) for w in caught if "synchronizing" in str(w.message)]


def waits_per_step(case: Case, device: str, steps: int = 10) -> float:
    """Return host synchronisations per recorded step beyond those of a bare step, with all quantities."""
    bare, watched = case.twins(2, device)
    counting = cuda_waits if device == "cuda" else host_reads
    counts = []
    watcher = watch(watched.net, optimizer=watched.optimizer)
    # On the CPU, reading values is free and watching does so; this selects the code path of CUDA.
    watcher._collector._careful = True
    with watcher as trace:
        for twin in (bare, watched):
            twin.step()  # excludes one-time setup
            with counting() as calls:
                for _ in range(steps):
                    twin.step()
            counts.append(len(calls))
    check_alive(trace, steps)
    return (counts[1] - counts[0]) / steps


def waits() -> Iterator[Row]:
    """Host synchronisations per recorded step."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    counts = {name: waits_per_step(case, device) for name, case in CASES.items()}
    how = (
        "counted by torch.cuda's synchronisation warnings"
        if device == "cuda"
        else "no GPU available: calls that return values to Python, counted on the CPU with the code path of CUDA"
    )
    found = ", ".join(f"{count:g} ({name})" for name, count in counts.items())
    yield f"host synchronisations per recorded step ({how})", "1", found, verdict(all(c == 1 for c in counts.values()))


BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {
    **{f"watching_{name}": partial(step_ratios, case) for name, case in CASES.items()},
    "watching_unchanged": unchanged,
    "watching_waits": waits,
}
