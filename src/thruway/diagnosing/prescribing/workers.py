"""Training of the runs of a trial in forked processes, each with one thread.

With small models, most of the time of a step is spent in Python, which uses one thread per process. Forked processes
share the models, batches and functions of their parent without pickling. Only results are pickled and sent back.
"""

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, cast

import torch
from torch import nn

__all__ = ["in_processes", "possible_processes"]

_BETWEEN_MESSAGES = 0.1  # seconds

Work = Callable[[int, Callable[[int], None]], Any]


def possible_processes(models: Iterable[nn.Module]) -> int:
    """Return the number of PyTorch's threads, or 1 if a process cannot be forked safely.

    A forked process cannot use a GPU that its parent has used, and daemonic processes must not start others.
    """
    can_fork = sys.platform == "linux" and not multiprocessing.current_process().daemon
    if not can_fork or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return 1
    on_cpu = all(tensor.device.type == "cpu" for model in models for tensor in model.parameters())
    return torch.get_num_threads() if on_cpu else 1


def in_processes(processes: int, tasks: int, work: Work, advance: Callable[[int], None]) -> list[Any]:
    """Return [work(0, ...), ..., work(tasks - 1, ...)], computed in forked processes with one thread each.

    Args:
        processes: number of processes; each takes the next task when it is done with one.
        tasks: number of tasks; the longest should come first.
        work: function of the task's number and of a function to report completed steps. Its result is pickled.
        advance: is called in this process with the numbers of completed steps.
    Raises:
        RuntimeError: if `work` raises an error in one of the processes, or a process is killed. The others are ended.
    """
    context = multiprocessing.get_context("fork")
    started = context.Value("i", 0)
    results: dict[int, Any] = {}
    children: dict[Connection[Any, Any], ForkProcess] = {}
    running: dict[Connection[Any, Any], ForkProcess] = {}
    try:
        for _ in range(min(processes, tasks)):
            receiver, sender = context.Pipe(duplex=False)
            inherited = [*children, receiver]
            process = context.Process(target=_run, args=(tasks, started, work, sender, inherited), daemon=True)
            with warnings.catch_warnings():
                # Python 3.12 warns of threads at the time of the fork. Those of PyTorch are not used by the child.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            sender.close()
            children[receiver] = running[receiver] = process
        while running:
            for receiver in cast("list[Connection[Any, Any]]", wait(running)):
                message = _receive(receiver, running[receiver])
                if message is None:
                    del running[receiver]
                elif isinstance(message, int):
                    advance(message)
                else:
                    results.update([message])
    finally:
        for receiver, process in children.items():
            process.terminate()
            process.join()
            receiver.close()
    return [results[task] for task in range(tasks)]


def _receive(receiver: "Connection[Any, Any]", process: ForkProcess) -> int | tuple[int, Any] | None:
    """Return a number of completed steps, (task, result), or None at the end of a process."""
    try:
        kind, value = receiver.recv()
    except EOFError:
        kind, value = "killed", None
    if kind == "error":
        raise RuntimeError(f"an error in a process that trained runs:\n{value}")
    if kind == "killed":
        process.join()
        raise RuntimeError(
            f"a process that trained runs ended with exit code {process.exitcode} before it was done. Call "
            "torch.set_num_threads(1) to train all runs in one process."
        )
    return value  # type: ignore[no-any-return]


def _run(
    tasks: int, started: Any, work: Work, sender: "Connection[Any, Any]", inherited: list["Connection[Any, Any]"]
) -> None:
    """Compute tasks until none is left, in the child. It ends if its parent does.

    Args:
        tasks: number of tasks.
        started: number of the next task, shared by all processes.
        work: as in `in_processes`.
        sender: its end of the pipe to the parent.
        inherited: the parent's ends of pipes. As long as a process has one open, writing to its pipe never fails.
    """
    parent = multiprocessing.parent_process()
    for receiver in inherited:
        receiver.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C, and ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)  # the threads of the parent do not exist here
    gc.freeze()  # a collection would touch, and so copy, all objects of the parent
    waiting, sent = 0, time.monotonic()

    def send(kind: str, value: Any) -> None:
        if parent is None or os.getppid() != parent.pid:
            os._exit(1)
        try:
            sender.send((kind, value))
        except BrokenPipeError:  # not an error of `work`, which might catch it
            os._exit(1)

    def count(steps: int) -> None:
        nonlocal waiting, sent
        waiting += steps
        if time.monotonic() - sent > _BETWEEN_MESSAGES:
            send("steps", waiting)
            waiting, sent = 0, time.monotonic()

    try:
        while True:
            with started.get_lock():
                task, started.value = started.value, started.value + 1
            if task >= tasks:
                break
            send("result", (task, work(task, count)))
        send("steps", waiting)
        send("end", None)
    except BaseException:  # also sys.exit() in a loss: every end but os._exit() is explained
        send("error", traceback.format_exc())
