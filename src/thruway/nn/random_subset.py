"""Training on short paths only: in every batch exactly k of n residual blocks have a branch."""

import functools
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.nn.argument_checks import check_size
from thruway.nn.residual import Residual
from thruway.nn.torch_state import check_not_recomputing

__all__ = ["RandomSubset"]


class RandomSubset(nn.Module):
    """Residual blocks one after the other, of which each training batch uses the branches of exactly `use`.

    In training every call draws `use` of the n blocks, all subsets equally likely. The branches of the others are
    not computed, for the whole batch; their shortcuts carry on, and with them what changes sizes. So no path through
    the stack is longer than `use` branches. With use = n nothing is drawn.

    In evaluation all branches take part, each counted use/n times if `rescale`, else in full. The published
    experiment does not say which it did. use/n is the probability of a block's branch, so rescaling gives each single
    branch its training mean. It is not the mean of the whole output, as it would be for independent coins: a
    pair of branches is drawn together a little less often than (use/n)^2. Batch norm's running statistics are those
    of the short paths in any case.

    Parameters are named as in `nn.Sequential`, so that weights trained here fit a plain sequence of the same blocks.
    The draw happens on the CPU: in training `torch.compile` leaves this loop alone and compiles the blocks, and
    `torch.vmap` wants randomness="same". A forward hook on a block hears the batches in which its branch takes part.

    Args:
        blocks: Residual, with drop = 0: one rule decides who takes part.
        use: k, branches in a batch, 0 to n.
        rescale: whether evaluation counts each branch use/n times.
        generator: CPU generator of the draws; None uses torch's global one, as torch's dropout does.
    Raises:
        ConfigError: for a block that is no Residual or has a drop of its own, or a `use` outside 0 ... n; under
            torch.utils.checkpoint, if a generator of its own would draw a second time.
    Source:
        Veit, Wilber & Belongie 2016, sec. 5 (23 of 54); evaluation: ours.

    >>> stack = RandomSubset(*(Residual(nn.Identity()) for _ in range(3)), use=1)
    >>> stack(torch.ones(1)), RandomSubset(*stack, use=1, rescale=False).eval()(torch.ones(1))
    (tensor([2.]), tensor([8.]))
    """

    def __init__(
        self, *blocks: Residual, use: int, rescale: bool = True, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        for place, block in enumerate(blocks):
            self.add_module(str(place), _check_block(place, block))
        self.use = check_size("use", use, least=0)
        if self.use > len(blocks):
            raise ConfigError(
                f"use={use} of {len(blocks)} blocks: a batch can use 0 to {len(blocks)}. Lower it, or add blocks."
            )
        self.rescale = rescale
        self.generator = generator
        _keep_untraced()

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.use < len(self):
            y: Tensor = self._with_some(x)
            return y
        share = self.use / len(self) if self.rescale and len(self) else 1.0
        for block in self:
            x = block(x, share)
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Residual]:
        # Not children(): it gives a block that stands here twice only once.
        return iter(cast("Iterable[Residual]", self._modules.values()))

    def __getitem__(self, place: int) -> Residual:
        return list(self)[place]

    def extra_repr(self) -> str:
        return f"use={self.use}, rescale={self.rescale}"

    def _with_some(self, x: Tensor) -> Tensor:
        if self.generator is not None:
            check_not_recomputing("RandomSubset", "generator")
        drawn = torch.randperm(len(self), device="cpu", generator=self.generator)[: self.use].tolist()
        for place, block in enumerate(self):
            # Not block(x, share=0): the compiler would find nothing to compile, and give up on every block.
            x = block(x, 1.0) if place in drawn else block.bypass(x)
        return x


@functools.cache
def _keep_untraced() -> None:
    """Traced, the loop over the blocks would be compiled anew for every subset."""
    # Told when the first one is built, not at import: the compiler takes seconds to load.
    untraced = torch.compiler.disable(RandomSubset._with_some, recursive=False)  # type: ignore[no-untyped-call]
    RandomSubset._with_some = untraced  # type: ignore[method-assign]


def _check_block(place: int, block: nn.Module) -> nn.Module:
    if not isinstance(block, Residual):
        raise ConfigError(
            f"RandomSubset leaves out the branches of Residual blocks, got {type(block).__name__} as block {place}. "
            "Wrap its branch: Residual(branch, shortcut)."
        )
    if block.drop > 0:
        raise ConfigError(
            f"block {place} leaves its branch out by a coin of its own (drop={block.drop}). "
            "Build it with drop=0: RandomSubset draws who takes part."
        )
    return block
