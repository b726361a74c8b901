"""Measurement functions: interleaved timings, peak memory, import time, and the name of the processor."""

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def interleaved(steps: Mapping[str, Callable[[], None]], rounds: int = 40, warm_up: int = 5) -> dict[str, list[float]]:
    """Time the candidates in strict alternation, so that noise affects all alike; returns the seconds of each call."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warm_up + rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> tuple[float, float, float]:
    """Return (lower quartile, median, upper quartile) of slow/fast per round."""
    pairs = sorted(s / f for s, f in zip(slow, fast, strict=True))
    low, middle, high = statistics.quantiles(pairs, n=4)
    return low, middle, high


def peak_bytes(step: Callable[[], None], standing: int) -> int:
    """Return the peak of allocated tensor bytes during one step; `standing` bytes were allocated before it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    alive = peak = standing
    for _, change in changes:
        alive += change
        peak = max(peak, alive)
    return peak


def import_seconds(statement: str, runs: int = 7) -> float:
    """Return the median seconds that `statement` takes in a new interpreter."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(runs)
    )


def cpu() -> str:
    """Return the model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown CPU"
