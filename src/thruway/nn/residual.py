"""Residual block with optional stochastic depth and a learnt scale of its branch."""

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
    """A branch scale that is a parameter, initialised at `start`.

    With 0 the block starts as its shortcut (ReZero, SkipInit).

    >>> Residual(nn.Linear(2, 2), scale=Learnt(0.0)).scale
    Parameter containing:
    tensor(0., requires_grad=True)
    """

    start: float = 0.0


class Residual(nn.Module):
    """A residual block: the sum of a shortcut and a branch.

        y = after(shortcut(x) + s·f(x))

    Post-activation (He et al. 2015) is `after="relu"`. Pre-activation (He et al. 2016) has no `after`
    and a branch that begins with norm and activation.

    Stochastic depth: in training each call skips the branch with probability `drop`, for the whole batch; in
    evaluation the branch is always used and multiplied by 1 - drop. The random number is drawn on the CPU, so with
    drop > 0 `torch.compile` breaks the graph there in training, and `torch.vmap` needs randomness="same".
    `survival_probabilities` returns the published probabilities for a whole stack.

    A call can set the factor of the branch itself: `block(x, share=0)` skips it whatever `drop` and the mode are, and
    `share=1` uses it in full. Nothing is drawn then.

    Args:
        branch: f, any module; its output must have the shape of the shortcut's.
        shortcut: module that the branch is added to; None: x itself. Pass `Resize` if sizes change.
        scale: s, a number or `Learnt(start)` (a 0-d parameter named `scale`).
        drop: probability of skipping the branch, at least 0 and below 1.
        after: activation on the sum: a name, a module, or any callable; None: no activation.
        generator: CPU generator for stochastic depth; None: torch's global generator.
    Raises:
        ConfigError: if scale is not a finite number, drop is out of range, after is unknown, or the branch begins
            with an in-place layer, such as nn.ReLU(inplace=True); if torch.utils.checkpoint recomputes a block with
            its own generator.
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
        # 0-d, so that the product keeps the dtype of the branch.
        self.scale: float | nn.Parameter = (
            nn.Parameter(torch.tensor(self._start)) if isinstance(scale, Learnt) else self._start
        )

    def init_parts(self) -> Iterator[Part]:
        """Yield the learnt scale, which starts at `start` whatever the scheme."""
        if isinstance(self.scale, nn.Parameter):
            yield Part("scale", self.scale.detach(), None, weight_value=self._start)

    def forward(self, x: Tensor, share: float | None = None) -> Tensor:
        counts = self._share() if share is None else share
        if counts == 0:
            return self.bypass(x)
        y: Tensor = self.after(self._sum(self.shortcut(x), self.branch(x), counts))
        return y

    def bypass(self, x: Tensor) -> Tensor:
        """Return the output without the branch: after(shortcut(x))."""
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
                f"branch and shortcut of a Residual must have one shape: the branch gave {tuple(branch.shape)}, "
                f"the shortcut {tuple(shortcut.shape)}. If the branch changes sizes, pass "
                "shortcut=Resize(inputs, outputs, stride, dims)."
            )
        # The branch comes first: the sum has the memory format of its first term, and a padded shortcut has lost
        # the channels-last format that convolutions keep.
        if isinstance(self.scale, float) and self.scale * share == 1.0:
            return branch + shortcut
        return self.scale * share * branch + shortcut


def _check_scale(scale: float) -> float:
    if isinstance(scale, bool) or not isinstance(scale, Real) or not math.isfinite(scale):
        raise ConfigError(f"scale must be a finite number, or Learnt(start) to train it, got {scale!r}.")
    return float(scale)
