"""Watching a training run: `with watch(model) as trace:` round a loop that stays as it is."""

import contextlib
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from thruway.errors import ConfigError
from thruway.watching.arguments import check_arguments, check_probe
from thruway.watching.errors import WatchWarning, guarded, why_nothing, without_frames
from thruway.watching.hooks.compiled import EagerSteps, refuse_compiled, refuse_inside_compiled
from thruway.watching.hooks.hook import Hook
from thruway.watching.hooks.loss_scaling import Scaler, Unscaling, warn_of_unknown_scale
from thruway.watching.hooks.model_hooks import Ears
from thruway.watching.hooks.optimizer import ParametersWatched, read_before_update
from thruway.watching.hooks.passes import is_training_pass
from thruway.watching.probe import Probe
from thruway.watching.quantities.collector import Collector
from thruway.watching.quantities.dead_units import LastActive
from thruway.watching.quantities.sizes import held_to_its_size
from thruway.watching.quantities.table import DEFAULT, Quantity, chosen
from thruway.watching.registry import Registry
from thruway.watching.trace.trace import SiteLog, Trace
from thruway.watching.wrappers import module_names, unwrapped

__all__ = ["WatchWarning", "watch"]


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
    """See what happens in every layer of a model while it trains.

    Outputs of all modules, of activation functions and of adds in the model's own code, and the gradients of the
    loss with respect to them. With the `optimizer`, also parameters, their gradients and their updates. Hooks
    exist on sampled steps only; parameters, gradients and random numbers come out bit for bit as without watching.

    Args:
        model: any module; the one the training loop calls.
        every: watch every so-manyth step, or those for which a function of the step's number says so.
        quantities: names from QUANTITIES, or rows of your own.
        optimizer: the one whose `step()` ends a training step. Then any part of the model may be called, any
            number of times per step, as in accumulation. Without it, each call of `model` with gradients enabled is
            one step, if it does not raise, and parameters are not watched.
        run: where to write as well: an open Run, or anything with its `log_sites`.
        scaler: the GradScaler of mixed-precision training; gradients are reported unscaled. A step that it skips
            counts with the next one.
        probe: a fixed input (a tensor, a tuple of arguments or a dict of keywords): its activations at every
            sampled step, in evaluation mode, are in `trace.probe`; so is "jacobian", if the quantities name it.
        first_step: the number of the first step, for a resumed training.
        memory: bytes of numbers kept in memory; when they are used up, every second step is let go.
    Returns:
        A context manager that gives the Trace.
    Raises:
        ConfigError: for a value that is not allowed, or a model compiled in a way that cannot be watched.

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
    rows = tuple(map(held_to_its_size, chosen(quantities)))
    check_probe(rows, probe)
    return Watcher(model, is_sampled, rows, optimizer, run, scaler, probe, first_step, memory)


class Watcher(contextlib.AbstractContextManager["Trace"]):
    """What `watch` returns: enter it to get the Trace."""

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
        self._unscaling = None if scaler is None else Unscaling(scaler)
        self._registry = Registry()
        self._trace = Trace(type(unwrapped(model)).__name__, self._registry, run, memory)
        self._collector = Collector([q for q in quantities if q.of_model is None], LastActive())
        names = module_names(model)
        self._listener = Ears(names, self._registry, self._collector, self._fail, self._unscaling)
        self._parameters = (
            ParametersWatched(unwrapped(model), optimizer, self._registry, self._collector)
            if optimizer is not None
            else None
        )
        self._probe = None
        if probe is not None:
            self._probe = Probe(unwrapped(model), probe, names, quantities, memory, self._fail)
            self._trace.probe = self._probe.trace
        self._eager = EagerSteps()
        self._handles: list[RemovableHandle] = []
        self._first_step = self._step = first_step
        self._came_through = False
        self._is_sampling = False
        self._is_open = False
        self._is_probing = False
        self._has_warned_of_scale = False
        self._failure: Exception | None = None

    # The block

    def __enter__(self) -> Trace:
        if self._is_open or self._trace.steps:
            raise ConfigError("this watch has been used already: call watch(...) again for another block.")
        self._is_open = True
        if self._optimizer is None:
            self._handles.append(self._model.register_forward_pre_hook(Hook(self._model_called), prepend=True))
            self._handles.append(self._model.register_forward_hook(Hook(self._model_returned)))
        else:
            self._handles.append(self._optimizer.register_step_pre_hook(Hook(self._before_update)))
            self._handles.append(self._optimizer.register_step_post_hook(Hook(self._after_update)))
            self._begin_if_sampled()
        self._trace.settle = self._settle
        return self._trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._optimizer is None and not self._listener.is_inside():
            self._finish_if_sampling()  # also what the last call saw before it raised: it may tell why
        self._close()
        if kind is None and self._failure is None and not self._has_seen():
            steps = range(self._first_step, self._step + self._came_through)
            why = why_nothing(self._trace.model, steps, self._collector.sampled, self._optimizer is not None)
            warnings.warn(f"nothing was watched: {why}", WatchWarning, stacklevel=2)

    def _has_seen(self) -> bool:
        return bool(self._trace.steps or (self._trace.probe is not None and self._trace.probe.steps))

    def _close(self) -> None:
        """Leave no hook and no tensor behind."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stop_listening()
        self._collector.forget()
        if self._unscaling is not None:
            self._unscaling.forget()
        for holder in (self._parameters, self._probe):
            if holder is not None:
                holder.forget()
        self._trace.settle = None
        self._is_open = False

    # Steps

    def _model_called(self, _module: nn.Module, _inputs: Any) -> None:
        """Without an optimizer to tell, a call of the model begins a step; one that raised does not count."""
        refuse_inside_compiled(
            self._trace.model,
            "Watch what torch.compile returned, if that is the model; otherwise pass optimizer=, "
            "so that sampled steps can run eager.",
        )
        if self._is_probing or self._listener.is_inside() or not is_training_pass() or not self._listener.is_mine():
            return
        if self._failure is not None:
            self._close()
            return
        if self._came_through:
            self._finish_if_sampling()
            self._step += 1
        elif self._is_sampling:
            self._forget_the_call()
        self._came_through = False
        self._begin_if_sampled(called=self._model)

    def _model_returned(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        if not self._is_probing and is_training_pass() and self._listener.is_mine():
            self._came_through = True

    def _forget_the_call(self) -> None:
        self._collector.finish()
        self._collector.sampled -= 1
        self._listener.unlearn()

    def _before_update(self, _optimizer: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        refuse_inside_compiled(
            f"{type(self._optimizer).__name__}.step()", "Call it outside of the compiled code, or watch every step."
        )
        if not self._is_sampling or self._parameters is None:
            return None
        return read_before_update(self._guard(self._parameters.before_update), arguments, keywords)

    def _after_update(self, *_: Any) -> None:
        if self._is_sampling and self._parameters is not None:
            self._guard(self._parameters.after_update)()
        self._finish_if_sampling()
        self._step += 1
        self._begin_if_sampled()

    def _begin_if_sampled(self, called: nn.Module | None = None) -> None:
        if not self._is_open or not self._is_wanted():
            self._stop_listening()
            return
        self._is_sampling = True
        if self._unscaling is None and not self._has_warned_of_scale:
            self._has_warned_of_scale = warn_of_unknown_scale()
        self._eager.begin()
        if self._probe is not None:
            self._is_probing = True
            self._listener.deafen()  # what the probe does is no training
            self._guard(self._probe.run)(self._step)
            self._is_probing = False
        if self._failure is None:
            self._listener.undeafen()
            self._listener.attach(called)

    def _is_wanted(self) -> bool:
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
        if self._unscaling is not None:
            self._unscaling.forget()
        self._guard(self._take_numbers)()
        self._listener.forget_gradients()

    def _take_numbers(self) -> None:
        measured = self._collector.finish()
        if measured:
            self._trace.add(self._step, measured)

    def _stop_listening(self) -> None:
        self._is_sampling = False
        self._listener.detach()
        self._eager.end()

    def _settle(self) -> None:
        """Whoever reads the trace wants the last step too, if its pass is over."""
        if self._is_sampling and self._came_through and not self._listener.is_inside():
            self._finish_if_sampling()

    # What may go wrong

    def _guard(self, callback: Callable[..., None]) -> Callable[..., None]:
        return guarded(callback, self._fail, lambda: self._failure is not None)

    def _fail(self, error: Exception) -> None:
        """Hear nothing more. Hooks go at the next step: torch may be running through a list of them just now."""
        if self._failure is not None:
            return
        self._failure = self._trace.failure = without_frames(error)
        self._listener.deafen()
        self._collector.forget()
        if self._parameters is not None:
            self._parameters.forget()
        if self._probe is not None:
            self._probe.deafen()
        warnings.warn(
            f"watching ended at step {self._step}: {type(error).__name__}: {str(error).rstrip('.')}. "
            "What was seen before is in the trace, and where it failed in trace.failure; training goes on.",
            WatchWarning,
            stacklevel=3,
        )
