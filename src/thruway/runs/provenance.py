"""Provenance of results: versions, commit and hardware. No machine or person is named."""

import functools
import importlib.metadata
import os
import platform
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["commit", "hardware", "versions"]


def versions() -> dict[str, str]:
    """Return the versions of the software that results may depend on."""
    try:
        thruway = importlib.metadata.version("thruway")
    except importlib.metadata.PackageNotFoundError:
        thruway = "unknown"  # run from a source tree without installation
    return {
        "thruway": thruway,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
    }


@functools.cache  # the imported code does not change while the process runs
def commit() -> dict[str, Any] | None:
    """Return the commit of the checkout of this package and whether it has changes, or None outside a checkout."""
    here = Path(__file__).resolve()
    # This file must be tracked: the package may be installed inside another repository.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    head = _git(here.parent, "rev-parse", "HEAD")
    changes = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return None if head is None or changes is None else {"commit": head, "dirty": bool(changes)}


def hardware(device: str) -> dict[str, Any]:
    """Return processor, cores, threads and memory, and the GPUs if `device` is a CUDA device."""
    found: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory(),
    }
    # Not queried on the CPU, since it would initialise CUDA.
    if device.startswith("cuda") and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    # GIT_DIR, set inside a git hook, would select another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "--no-optional-locks", *arguments]
    try:
        answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode(errors="replace").strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
