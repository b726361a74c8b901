"""Watching of a training run: `with watch(model) as trace:` around an unchanged training loop."""

import contextlib
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from thruway.errors import ConfigError
from thruway.watching.arguments import check_arguments, check_probe, check_size, select_quantities
from thruway.watching.errors import catching, warn, without_frames
from thruway.watching.hooks.capture import Hook, is_training_pass
from thruway.watching.hooks.compiled import EagerSteps, refuse_compiled, refuse_inside_compiled
from thruway.watching.hooks.model_hooks import ModelHooks
from thruway.watching.hooks.optimizer import GradientUnscaler, Scaler, read_before_update, warn_if_scale_unknown
from thruway.watching.hooks.pickling import HookFreeState
from thruway.watching.hooks.step_capture import StepCapture
from thruway.watching.modules import module_names, unwrapped
from thruway.watching.probe import Probe
from thruway.watching.quantities.collector import Collector
from thruway.watching.quantities.table import DEFAULT, Quantity
from thruway.watching.quantities.units import LastActive
from thruway.watching.recording_check import RecordingCheck
from thruway.watching.sites import Registry
from thruway.watching.trace.steps import SiteLog
from thruway.watching.trace.trace import Trace

__all__ = ["watch"]


def watch(
    model: nn.Module,
    every: int | Callable[[int], bool] = 1,
    quantities: Iterable[str | Quantity] = DEFAULT,
    optimizer: torch.optim.Optimizer | None = None,
    run: SiteLog | None = None,
    *,
    scaler: Scaler | None = None,
    probe: Any = None,
    first_step: int = 0,
    memory: int = 256 << 20,
) -> "Watcher":
    """Record the outputs and gradients of every layer of a model during training.

    The outputs of all modules, and of activation functions and additions in the model's own code, are recorded, as are
    their gradients and, with the `optimizer`, parameters, their gradients and updates. Hooks are registered in sampled
    steps only. Parameters, gradients and random numbers are bit for bit those of unwatched training.

    Args:
        model: any module: the one called by the training loop.
        every: n to record every n-th step, or a function that returns True for the numbers of the steps to record.
        quantities: names from QUANTITIES, or your own Quantity objects.
        optimizer: optimizer whose `step()` ends a training step. With it, any part of the model may be called any
            number of times per step, as in gradient accumulation. Without it, each call of `model` with gradients
            enabled is one step, unless it raises an exception, and parameters are not recorded.
        run: additional destination: an open Run, or any object with a method `log_sites`.
        scaler: GradScaler of mixed precision, to record unscaled gradients. A skipped step is merged with the next one.
        probe: fixed input (a tensor, a tuple of arguments or a dict of keyword arguments). The model evaluates it at
            every sampled step, in evaluation mode, and its activations are recorded in `trace.probe`, as is the
            quantity "jacobian".
        first_step: number of the first step, for a resumed training run.
        memory: maximum size of the numbers in memory, in bytes. When it is reached, every other recorded step is
            dropped.
    Returns:
        A context manager that returns the Trace.
    Raises:
        ConfigError: if an argument is invalid, or the model is compiled in a way that cannot be watched.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> with watch(net) as trace:
    ...     for _ in range(2):
    ...         net(torch.ones(5, 3)).sum().backward()
    >>> [site.name for site in trace.sites if site.kind == "gradient"]
    ['0', '1', '2']
    """
    check_arguments(model, every, optimizer, run, scaler, first_step, memory)
    refuse_compiled(model, has_optimizer=optimizer is not None)
    is_sampled = every if callable(every) else lambda step: (step - first_step) % every == 0
    rows = tuple(map(check_size, select_quantities(quantities)))
    check_probe(rows, probe)
    return Watcher(model, is_sampled, rows, optimizer, run, scaler, probe, first_step, memory)


class Watcher(contextlib.AbstractContextManager["Trace"]):
    """The context manager returned by `watch`."""

    def __init__(
        self,
        model: nn.Module,
        is_sampled: Callable[[int], bool],
        quantities: tuple[Quantity, ...],
        optimizer: torch.optim.Optimizer | None,
        run: SiteLog | None,
        scaler: Scaler | None,
        probe: Any,
        first_step: int,
        memory: int,
    ) -> None:
        self._model = model
        self._is_sampled = is_sampled
        self._optimizer = optimizer
        self._unscaler = None if scaler is None else GradientUnscaler(scaler)
        self._registry = Registry()
        self._trace = Trace(type(unwrapped(model)).__name__, self._registry, run, memory)
        self._collector = Collector([q for q in quantities if q.of_model is None], LastActive())
        names = module_names(model)
        self._hooks = ModelHooks(names, self._registry, self._collector, self._fail, self._unscaler)
        self._numbers = StepCapture(model, optimizer, self._hooks.capture, self._registry, self._unscaler)
        self._trace.optimizer = "" if optimizer is None else type(optimizer).__name__
        self._probe = None
        if probe is not None:
            self._probe = Probe(unwrapped(model), probe, names, quantities, memory, self._fail)
            self._trace.probe = self._probe.trace
        self._eager = EagerSteps()
        self._hook_free_state = HookFreeState()
        self._handles: list[RemovableHandle] = []
        self._first_step = self._step = first_step
        self._has_returned = False  # the model's call of this step has returned; without an optimizer
        self._is_sampling = False
        self._is_open = False
        self._is_probing = False
        self._has_warned_of_scale = False
        self._failure: Exception | None = None

    # The with block

    def __enter__(self) -> Trace:
        if self._is_open or self._trace.steps:
            raise ConfigError("this watch has already been used: call watch(...) again for another block.")
        self._is_open = True
        self._hook_free_state.begin()
        has_optimizer = self._optimizer is not None
        self._check = RecordingCheck(self._model, self._trace, self._registry, has_optimizer=has_optimizer)
        if self._optimizer is None:
            self._handles.append(
                self._model.register_forward_pre_hook(Hook(self._model_called), prepend=True, with_kwargs=True)
            )
            self._handles.append(self._model.register_forward_hook(Hook(self._model_returned)))
        else:
            self._handles.append(self._optimizer.register_step_pre_hook(Hook(self._before_update)))
            self._handles.append(self._optimizer.register_step_post_hook(Hook(self._after_update)))
            self._begin_if_sampled()
        self._trace.flush = self._flush
        return self._trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._optimizer is None and not self._hooks.is_in_forward():
            self._finish_if_sampling()  # includes a last call that raised: its numbers may show the cause
        self._close()
        steps = range(self._first_step, self._step + self._has_returned)
        if kind is None and self._failure is None and (why := self._check.warning(steps, self._collector.sampled)):
            warn(why, stacklevel=2)

    def _close(self) -> None:
        """Remove every hook and release every tensor."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hook_free_state.end()
        self._stop_sampling()
        self._collector.release()
        if self._unscaler is not None:
            self._unscaler.clear()
        self._numbers.clear()
        if self._probe is not None:
            self._probe.clear()
        self._trace.flush = None
        self._is_open = False

    # Steps

    def _model_called(self, _module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """Begin a step at a call of the model without an optimizer. A call that raised an exception is not counted."""
        refuse_inside_compiled(
            self._trace.model,
            "Watch what torch.compile returned, if that is the model; otherwise pass optimizer=, "
            "so that sampled steps can run eagerly.",
        )
        if (
            self._is_probing
            or self._hooks.is_in_forward()
            or not is_training_pass()
            or not self._hooks.is_watched_thread()
        ):
            return
        if self._failure is not None:
            self._close()
            return
        if self._has_returned:
            self._finish_if_sampling()
            self._step += 1
        elif self._is_sampling:
            self._discard_call()
        self._has_returned = False
        self._begin_if_sampled(self._model, arguments, keywords)

    def _model_returned(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        if not self._is_probing and is_training_pass() and self._hooks.is_watched_thread():
            self._has_returned = True

    def _discard_call(self) -> None:
        self._collector.finish(is_part=True)
        self._numbers.discard()
        self._hooks.discard_pass()

    def _before_update(self, _optimizer: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        refuse_inside_compiled(
            f"{type(self._optimizer).__name__}.step()", "Call it outside of the compiled code, or watch every step."
        )
        if not self._is_sampling:
            return None
        return read_before_update(self._catching(self._numbers.before_update), arguments, keywords)

    def _after_update(self, *_: Any) -> None:
        if self._is_sampling:
            self._catching(self._numbers.after_update)()
        self._finish_if_sampling()
        self._step += 1
        self._begin_if_sampled()

    def _begin_if_sampled(self, called: nn.Module | None = None, *call: Any) -> None:
        if not self._is_open or not self._should_sample():
            self._stop_sampling()
            return
        self._is_sampling = True
        if self._unscaler is None and not self._has_warned_of_scale:
            self._has_warned_of_scale = warn_if_scale_unknown()
        self._eager.begin()
        if self._probe is not None:
            self._is_probing = True
            self._hooks.pause()  # the probe's pass is not part of the training
            self._catching(self._probe.run)(self._step)
            self._is_probing = False
        if self._failure is None:
            self._hooks.resume()
            self._hooks.attach(called, *call)
            self._catching(self._numbers.begin)()

    def _should_sample(self) -> bool:
        if self._failure is not None:
            return False
        try:
            return self._is_sampled(self._step)
        except Exception as error:
            self._fail(error)
            return False

    def _finish_if_sampling(self) -> None:
        if not self._is_sampling:
            return
        self._is_sampling = False
        if self._unscaler is not None:
            self._unscaler.clear()
        self._catching(self._record_numbers)()
        self._hooks.remove_gradient_hooks()

    def _record_numbers(self) -> None:
        measured = self._numbers.finish()
        if measured:
            self._trace.add(self._step, measured)
            self._trace.loss_graph = self._numbers.loss_graph

    def _stop_sampling(self) -> None:
        self._is_sampling = False
        self._hooks.detach()
        self._numbers.end()
        self._eager.end()

    def _flush(self) -> None:
        """Record the last step before the trace is read, if its forward pass is over."""
        if self._is_sampling and self._has_returned and not self._hooks.is_in_forward():
            self._finish_if_sampling()

    # Errors

    def _catching(self, callback: Callable[..., None]) -> Callable[..., None]:
        return catching(callback, self._fail, lambda: self._failure is not None)

    def _fail(self, error: Exception) -> None:
        """Stop recording. Hooks are removed at the next step, because PyTorch may currently be iterating over them."""
        if self._failure is not None:
            return
        self._failure = self._trace.failure = without_frames(error)
        self._hooks.pause()
        self._collector.release()
        self._numbers.clear()
        if self._probe is not None:
            self._probe.stop()
        warn(
            f"watching stopped at step {self._step}: {type(error).__name__}: {str(error).rstrip('.')}. "
            "The trace has all earlier steps, and the error is in trace.failure. Training continues.",
            stacklevel=3,
        )
