"""Full hearing until a model's passes are known, lean hearing from then on."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from thruway.watching.hooks.call_table import Script
from thruway.watching.hooks.capture import Filing
from thruway.watching.hooks.full_hooks import Listener
from thruway.watching.hooks.replayed_hooks import LeanListener
from thruway.watching.quantities.collector import Collector
from thruway.watching.registry import Registry

__all__ = ["Ears"]


class Ears:
    """What a model computes, handed to the collector while attached.

    Args:
        names: the path of every module to hear.
        registry: the sites met so far; new ones are entered.
        collector: who measures.
        fail: told of a mistake of ours; from then on nothing is heard, and the user's training goes on.
        unscale: takes a loss scaler's factor out of a gradient; None where there is none.
        taps_gradients: hear gradients too.
    """

    def __init__(
        self,
        names: Mapping[nn.Module, str],
        registry: Registry,
        collector: Collector,
        fail: Callable[[Exception], None],
        unscale: Callable[[Tensor], Tensor] | None = None,
        *,
        taps_gradients: bool = True,
    ) -> None:
        self._registry = registry
        self._filing = Filing(collector, fail, unscale, taps_gradients=taps_gradients)
        self._script = Script()
        self._full = Listener(names, registry, self._filing, self._script)
        self._lean = LeanListener(names, registry, self._filing, self._script)
        self._attached: Listener | LeanListener = self._full
        self._passes = 0

    def attach(self, called: nn.Module | None = None) -> None:
        """Hear the passes from here on.

        Args:
            called: the module whose call is beginning now: torch has gathered its hooks, so a new one is too late.
        """
        self._passes += 1
        # At the 1st, 2nd, 4th, 8th ... in full again: a model may have taken up something that was in no lesson.
        is_lesson = self._passes & (self._passes - 1) == 0
        wanted = self._lean if self._script.is_ready and not is_lesson else self._full
        if wanted is not self._attached:
            self._attached.detach()
            self._registry.is_learnt = wanted is self._lean
            self._attached = wanted
        wanted.attach(called)

    def unlearn(self) -> None:
        """The pass that was heard last broke off: what it taught is not the whole, so hear the next one in full."""
        self._script.is_ready = False
        self._registry.is_learnt = False
        self.forget_gradients()

    def detach(self) -> None:
        """Leave no hook on a module, and hear no more of the graphs so far."""
        self._attached.detach()
        self._filing.forget_gradients()

    def deafen(self) -> None:
        """Hear nothing from now on, though the hooks are still there."""
        self._filing.is_deaf = True

    def undeafen(self) -> None:
        """Hear again."""
        self._filing.is_deaf = False

    def forget_gradients(self) -> None:
        """Hear no more of the graphs of the passes so far."""
        self._filing.forget_gradients()

    def is_mine(self) -> bool:
        """The calling thread is the one that is heard."""
        return self._filing.is_mine()

    def is_inside(self) -> bool:
        """A forward pass is running."""
        return self._attached.is_inside()
