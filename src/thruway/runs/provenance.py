"""Where numbers come from: versions, commit, hardware. Nothing here names a machine or a person."""

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
    """The versions a number may depend on."""
    try:
        thruway = importlib.metadata.version("thruway")
    except importlib.metadata.PackageNotFoundError:
        thruway = "unknown"  # run from a source tree that was never installed
    return {
        "thruway": thruway,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
    }


@functools.cache  # the code that was imported does not change while it runs
def commit() -> dict[str, Any] | None:
    """Commit of the checkout this package lies in, and whether tracked files differ; None if it lies in none."""
    here = Path(__file__).resolve()
    # An environment inside someone's repository is not a checkout of Thruway: the file must be tracked.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    head = _git(here.parent, "rev-parse", "HEAD")
    changes = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return None if head is None or changes is None else {"commit": head, "dirty": bool(changes)}


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores, threads and memory, and the GPUs if `device` is one."""
    found: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory(),
    }
    # Asking starts CUDA, so a run on the CPU does not.
    if device.startswith("cuda") and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    # A hook's GIT_DIR would answer for another repository.
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
