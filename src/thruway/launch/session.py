"""Watching of everything that a program trains: each optimizer is paired with the module that it updates."""

import contextlib
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thruway.launch.calls import Creations, OptimizerSteps, RootCalls
from thruway.launch.options import WatchSettings
from thruway.launch.ownership import (
    live_optimizers,
    module_of_optimizer,
    outermost_module,
    owned_parameters,
    split_between,
)
from thruway.launch.recording import Recording, open_recording
from thruway.watching.errors import warnings_shown_by
from thruway.watching.hooks.other_steps import OtherSteps

__all__ = ["Session"]

PATIENCE = 100  # root calls to wait for the first call of the module of an optimizer
MOST_RECORDINGS = 16  # further optimizers, as in a search for settings, are not watched
MOST_PER_ROOT = 4  # a model may have one optimizer per parameter


@dataclass(eq=False)
class _Optimizer:
    """An optimizer that the program has made."""

    reference: weakref.ref[torch.optim.Optimizer]
    title: str
    is_settled: bool = False  # paired, or given up
    second_of: weakref.ref[nn.Module] | None = None  # module of another optimizer with the same parameters

    @property
    def is_second(self) -> bool:
        return self.second_of is not None

    @property
    def parameters(self) -> set[Tensor]:
        optimizer = self.reference()
        return set() if optimizer is None else owned_parameters(optimizer)


class Session:
    """Watches each root module from its first call with gradients enabled, between `open` and `close`.

    A root is paired with each optimizer that updates its parameters, before the root's first forward pass. A root that
    no optimizer updates is recorded too, by the steps of an optimizer that has no root yet, or else call by call. Such
    a recording is dropped when the optimizer is paired. Once every optimizer is paired, only the hooks of the
    recordings are left in place, until the program makes another optimizer.

    Args:
        settings: what to record.
        say: function called with a line of text for the user.
    """

    def __init__(self, settings: WatchSettings, say: Callable[[str], None]) -> None:
        self.recordings: list[Recording] = []
        self._settings = settings
        self._say = say
        self._optimizers: list[_Optimizer] = []
        self._provisional: tuple[Recording, _Optimizer | None] | None = None
        self._scalers: list[weakref.ref[torch.amp.GradScaler]] = []
        self._made = 0
        self._root_calls_left = PATIENCE
        self._has_said_most = False
        self._warned: set[str] = set()
        self._roots = RootCalls(self._guarded(self._before_root))
        self._steps = OptimizerSteps(self._guarded(self._before_step))
        self._creations: list[Creations] = []
        self._shown = contextlib.ExitStack()

    # Begin and end

    def open(self) -> None:
        """Begin to watch. Optimizers that exist already, as in a notebook, are included."""
        self._shown.enter_context(warnings_shown_by(self._say_once))
        self._creations = [
            Creations(torch.optim.Optimizer, self._guarded(self._on_optimizer)),
            Creations(torch.amp.GradScaler, self._guarded(self._on_scaler)),
        ]
        for optimizer in live_optimizers():
            self._note(optimizer)
        self._wait_or_rest()

    def close(self) -> None:
        """Remove every hook, and end every recording."""
        self._stop_waiting()
        for creations in self._creations:
            creations.stop()
        for recording in self.recordings:
            recording.end()
        OtherSteps.end_dropped()
        self._shown.close()

    def silence(self) -> None:
        """Stop in a forked process. Its parent goes on recording."""
        self._say = lambda _message: None
        self.close()
        self.recordings.clear()

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return `callback` with its exceptions shown as one line. The program goes on, and looks for no more roots."""

        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:
                self._stop_waiting()
                self._say(f"some training is not recorded: {type(error).__name__}: {error}")

        return call

    def _wait_or_rest(self) -> None:
        """Look for roots as long as an optimizer has none, or nothing has been found."""
        waiting = self._waiting()
        if self._root_calls_left > 0 and (waiting or not self.recordings):
            self._roots.start()
            self._steps.start()
        else:
            self._stop_waiting()
            if any(each.is_second for each in waiting):
                self._steps.start()

    def _stop_waiting(self) -> None:
        self._roots.stop()
        self._steps.stop()

    # What the program makes

    def _on_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        if any(recording.is_alive() for recording in self.recordings):
            gc.collect()  # a dropped model and its watch refer to each other, and would occupy memory until later
        self._note(optimizer)
        self._root_calls_left = PATIENCE
        self._wait_or_rest()

    def _note(self, optimizer: torch.optim.Optimizer) -> None:
        title = f"{type(optimizer).__name__} #{self._made}"
        self._optimizers.append(_Optimizer(weakref.ref(optimizer), title))
        self._made += 1

    def _on_scaler(self, scaler: torch.amp.GradScaler) -> None:
        if scaler.is_enabled():
            self._scalers.append(weakref.ref(scaler))

    def _scaler(self) -> torch.amp.GradScaler | None:
        """Return the scaler of the program's losses, if there is exactly one."""
        live = [scaler for reference in self._scalers if (scaler := reference()) is not None]
        return live[0] if len(live) == 1 else None

    def _waiting(self) -> list[_Optimizer]:
        self._optimizers = [each for each in self._optimizers if each.reference() is not None]
        return [each for each in self._optimizers if not each.is_settled]

    # What the program does

    def _before_root(self, root: nn.Module) -> None:
        parameters: set[Tensor] = set(root.parameters())
        is_lazy = any(torch.nn.parameter.is_lazy(parameter) for parameter in parameters)
        if is_lazy or not any(parameter.requires_grad for parameter in parameters):
            return
        waiting = self._waiting()
        owners = [each for each in waiting if not each.is_second and each.parameters & parameters]
        if owners:
            self._pair(owners, root, parameters)
        elif not any(each.parameters & parameters for each in self._optimizers):
            self._record_unowned(root, waiting)
        self._root_calls_left -= 1
        if self._root_calls_left <= 0:
            for optimizer in self._waiting():
                if not optimizer.is_second:
                    self._settle_without_root(optimizer)
        self._wait_or_rest()

    def _before_step(self, stepped: torch.optim.Optimizer, has_closure: bool) -> None:
        """Settle an optimizer that steps although no root with its parameters was called."""
        for optimizer in self._waiting():
            if optimizer.reference() is stepped:
                if has_closure:  # which is about to call the root, as in Lightning
                    self._pair_before_closure(optimizer)
                else:
                    self._settle_without_root(optimizer, first_recorded=1)  # from the next step on
        self._wait_or_rest()

    # Pairing

    def _pair(self, owners: list[_Optimizer], root: nn.Module, parameters: set[Tensor]) -> None:
        owners = _without_second(owners, root)
        owners.sort(key=lambda each: -len(each.parameters & parameters))
        for optimizer in owners[MOST_PER_ROOT:]:
            optimizer.is_settled = True
            self._say_most(f"more than {MOST_PER_ROOT} optimizers of one module")
        owners = owners[:MOST_PER_ROOT]
        for optimizer, part in zip(owners, split_between(root, [each.parameters for each in owners]), strict=True):
            missing = optimizer.parameters - parameters
            whole = module_of_optimizer(optimizer.parameters, root) if missing else None
            self._record(optimizer, whole or part)

    def _settle_without_root(self, optimizer: _Optimizer, first_recorded: int = 0) -> None:
        if self._provisional is not None and self._provisional[1] is optimizer:
            optimizer.is_settled = True  # it belongs to a copy of the module that is called
            return
        module = None if optimizer.second_of is None else optimizer.second_of()
        module = module or module_of_optimizer(optimizer.parameters, None)
        optimizer.is_settled = True
        if module is not None:
            self._record(optimizer, module, first_recorded)

    def _pair_before_closure(self, optimizer: _Optimizer) -> None:
        """Pair an optimizer with the outermost module that has its parameters and no others' parameters."""
        others = [each.parameters for each in self._optimizers if each is not optimizer]
        module = outermost_module(optimizer.parameters, others)
        if module is not None and self._provisional is None:
            self._record(optimizer, module)

    def _record_unowned(self, root: nn.Module, waiting: list[_Optimizer]) -> None:
        """Record a root that no optimizer updates, until one does.

        An optimizer whose parameters another one updates too was probably meant for this root.
        """
        second = next((each for each in waiting if each.is_second), None)
        if second is not None:
            second.is_settled = True
            self._open(second, root, is_foreign=True)
        if self.recordings:
            return
        shapes = sorted(tuple(parameter.shape) for parameter in root.parameters())
        alike = [each for each in waiting if sorted(tuple(p.shape) for p in each.parameters) == shapes]
        optimizer = next(iter([*alike, *waiting]), None)
        recording = self._open(optimizer, root, is_foreign=optimizer is not None)
        self._provisional = recording, optimizer

    def _record(self, optimizer: _Optimizer, module: nn.Module, first_recorded: int = 0) -> None:
        optimizer.is_settled = True
        if self._provisional is not None:
            recording, of = self._provisional
            if of is None or of is optimizer:
                recording.end(is_dropped=True)
                self.recordings.remove(recording)
                self._provisional = None
        for earlier in self.recordings:
            if not earlier.updates.isdisjoint(map(id, optimizer.parameters)):
                earlier.end()  # this optimizer takes its place
        if len(self.recordings) >= MOST_RECORDINGS:
            self._say_most(f"more than {MOST_RECORDINGS} optimizers")
        else:
            self._open(optimizer, module, first_recorded)

    def _open(
        self, optimizer: _Optimizer | None, module: nn.Module, first_recorded: int = 0, *, is_foreign: bool = False
    ) -> Recording:
        recording = open_recording(
            module,
            None if optimizer is None else optimizer.reference(),
            "" if optimizer is None else optimizer.title,
            self._settings,
            self._scaler(),
            first_recorded=first_recorded,
            is_foreign=is_foreign,
        )
        self.recordings.append(recording)
        return recording

    def _say_once(self, warning: str) -> None:
        if warning not in self._warned:  # two recordings may have the same
            self._warned.add(warning)
            self._say(warning)

    def _say_most(self, what: str) -> None:
        if not self._has_said_most:
            self._has_said_most = True
            self._say(f"the program has {what}; the others are not recorded")


def _without_second(owners: list[_Optimizer], root: nn.Module) -> list[_Optimizer]:
    """Keep one optimizer of each set of parameters. The others wait for their first step, or for a root without one.

    A program may use two after one another, such as Adam and L-BFGS, or make the second by mistake for the parameters
    of the wrong network.
    """
    kept: dict[frozenset[Tensor], _Optimizer] = {}
    for each in owners:
        parameters = frozenset(each.parameters)
        if kept.setdefault(parameters, each) is not each:
            each.second_of = weakref.ref(root)
    return list(kept.values())
