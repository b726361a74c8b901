"""Residual blocks: what came in, plus what a branch makes of it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor, nn

from thruway.activations import activation_module
from thruway.errors import ConfigError, ShapeError
from thruway.init.parts import Part
from thruway.nn.argument_checks import check_not_inplace, check_probability
from thruway.nn.torch_state import check_not_recomputing

__all__ = ["Learnt", "Residual"]


@dataclass(frozen=True)
class Learnt:
    """A scale that is trained with the weights, from `start` on.

    0 makes the block begin as its shortcut (ReZero, SkipInit).

    >>> Residual(nn.Linear(2, 2), scale=Learnt(0.0)).scale
    Parameter containing:
    tensor(0., requires_grad=True)
    """

    start: float = 0.0


class Residual(nn.Module):
    """A branch beside a shortcut.

        y = after(shortcut(x) + s·f(x))

    Post-activation (He et al. 2015) is `after="relu"`. Pre-activation (He et al. 2016) has no `after`
    and a branch that begins with norm and activation.

    Stochastic depth: in training each call leaves the branch out with probability `drop`, for the
    whole batch, and then does not compute it; in evaluation the branch always counts, times 1 - drop.
    The coin falls on the CPU, so `torch.compile` splits the graph there in training when drop > 0,
    and `torch.vmap` wants randomness="same". `survival_probabilities` has the published ones for a whole stack.

    A call can say itself what the branch counts: `block(x, share=0)` leaves it out uncomputed, whatever `drop`
    and the mode say, and `share=1` counts it in full. Then no coin is tossed.

    Args:
        branch: f, any module; its output has the shape of the shortcut's.
        shortcut: what the branch is added to; None for x itself. `Resize` where sizes change.
        scale: s, a number or `Learnt(start)` (a 0-d parameter named `scale`).
        drop: probability of leaving the branch out, at least 0 and below 1.
        after: an activation by name, a module, or any callable, on the sum; None for none.
        generator: CPU generator of the coin; None uses torch's global one, as torch's dropout does.
    Raises:
        ConfigError: if scale is no finite number, drop no such probability, after unknown, or the branch
            begins with a layer that works in place, such as nn.ReLU(inplace=True). Under torch.utils.checkpoint, if a
            generator of its own would toss the coin a second time.
        ShapeError: when called, if branch and shortcut differ in shape.
    Source:
        He et al. 2015 and 2016; Huang et al. 2016, sec. 3 (stochastic depth); Bachlechner et al. 2020
        (ReZero) and De & Smith 2020 (SkipInit) for the learnt scale.

    >>> block = Residual(nn.Identity(), scale=0.5, drop=0.2).eval()
    >>> block(torch.ones(2))          # 1 + 0.8 · 0.5 · 1
    tensor([1.4000, 1.4000])
    >>> block(torch.ones(2), share=0)
    tensor([1., 1.])
    """

    def __init__(
        self,
        branch: nn.Module,
        shortcut: nn.Module | None = None,
        scale: float | Learnt = 1.0,
        drop: float = 0.0,
        after: str | Callable[[Tensor], Tensor] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.branch = check_not_inplace("branch", branch)
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.after = nn.Identity() if after is None else activation_module(after)
        self.drop = check_probability("drop", drop)
        self.generator = generator
        self._start = _check_scale(scale.start if isinstance(scale, Learnt) else scale)
        # 0-d: it multiplies without changing the branch's dtype.
        self.scale: float | nn.Parameter = (
            nn.Parameter(torch.tensor(self._start)) if isinstance(scale, Learnt) else self._start
        )

    def init_parts(self) -> Iterator[Part]:
        """The learnt scale, which starts where it was told whatever the scheme."""
        if isinstance(self.scale, nn.Parameter):
            yield Part("scale", self.scale.detach(), None, weight_value=self._start)

    def forward(self, x: Tensor, share: float | None = None) -> Tensor:
        counts = self._share() if share is None else share
        if counts == 0:
            return self.bypass(x)
        y: Tensor = self.after(self._sum(self.shortcut(x), self.branch(x), counts))
        return y

    def bypass(self, x: Tensor) -> Tensor:
        """What is left without the branch: after(shortcut(x))."""
        y: Tensor = self.after(self.shortcut(x))
        return y

    def extra_repr(self) -> str:
        scale = f"Learnt({self._start})" if isinstance(self.scale, nn.Parameter) else str(self.scale)
        return f"scale={scale}, drop={self.drop}"

    def _share(self) -> float:
        if not self.training or self.drop == 0.0:
            return 1.0 - self.drop
        if self.generator is not None:
            check_not_recomputing("Residual", "generator")
        coin = torch.rand((), device="cpu", dtype=torch.float64, generator=self.generator)
        return 0.0 if coin.item() < self.drop else 1.0

    def _sum(self, shortcut: Tensor, branch: Tensor, share: float) -> Tensor:
        if branch.shape != shortcut.shape:
            raise ShapeError(
                f"Residual adds its branch to its shortcut, so both must have one shape: the branch gave "
                f"{tuple(branch.shape)}, the shortcut {tuple(shortcut.shape)}. Where the branch changes sizes, pass "
                "shortcut=Resize(inputs, outputs, stride, dims)."
            )
        # The branch first: where the two lie differently in memory, the sum lies as its first term, and a padded
        # shortcut has lost the channels-last order that convolutions keep.
        if isinstance(self.scale, float) and self.scale * share == 1.0:
            return branch + shortcut
        return self.scale * share * branch + shortcut


def _check_scale(scale: float) -> float:
    if isinstance(scale, bool) or not isinstance(scale, Real) or not math.isfinite(scale):
        raise ConfigError(f"scale must be a finite number, or Learnt(start) to train it, got {scale!r}.")
    return float(scale)
