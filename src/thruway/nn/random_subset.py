"""Training on short paths: every batch uses the branches of exactly k of n residual blocks, drawn at random."""

import functools
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.nn.blocks import Residual
from thruway.nn.checks import check_not_recomputing, check_size

__all__ = ["RandomSubset"]


class RandomSubset(nn.Module):
    """A sequence of residual blocks, of which each training batch uses the branches of exactly `use` random ones.

    In training every call draws `use` of the n blocks, all subsets equally likely. The branches of the other blocks
    are skipped for the whole batch; only their shortcuts are computed, including any change of size. No path through
    the stack is therefore longer than `use` branches. With use = n, nothing is drawn.

    In evaluation all branches are used, multiplied by use/n if `rescale` is True. The paper does not state which of
    the two it used. Since use/n is the probability of each branch in training, rescaling preserves the mean of each
    single branch. It does not preserve the mean of the whole output, as it would for independent draws: a pair of
    branches is drawn together slightly less often than (use/n)^2. The running statistics of batch norm are those of the
    short paths in either case.

    Parameters are named as in `nn.Sequential`, so that weights trained here fit a plain sequence of the same blocks.
    Subsets are drawn on the CPU: in training `torch.compile` skips this loop and compiles the blocks, and
    `torch.vmap` needs randomness="same". A forward hook on a block runs for the batches that use its branch.

    Args:
        blocks: Residual blocks with drop = 0.
        use: k, number of branches per training batch, 0 to n.
        rescale: If True, multiply each branch by use/n in evaluation.
        generator: CPU generator of the subsets. If None, PyTorch's global generator.
    Raises:
        ConfigError: if a block is not a Residual or has drop > 0, or `use` is outside 0 ... n; if
            torch.utils.checkpoint recomputes a stack with its own generator.
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
                f"use must be 0 to {len(blocks)}, the number of blocks, got {use}. Lower it, or add blocks."
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
        # Not children(), which yields a repeated block only once.
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
            # Not block(x, share=0): torch.compile would find nothing to compile and give up on every block.
            x = block(x, 1.0) if place in drawn else block.bypass(x)
        return x


@functools.cache
def _keep_untraced() -> None:
    """Exclude the loop over the blocks from torch.compile, which would recompile it for every subset."""
    # Done when the first stack is built, not at import: loading the compiler takes seconds.
    untraced = torch.compiler.disable(RandomSubset._with_some, recursive=False)  # type: ignore[no-untyped-call]
    RandomSubset._with_some = untraced  # type: ignore[method-assign]


def _check_block(place: int, block: nn.Module) -> nn.Module:
    if not isinstance(block, Residual):
        raise ConfigError(
            f"RandomSubset takes Residual blocks, got {type(block).__name__} as block {place}. "
            "Wrap its branch: Residual(branch, shortcut)."
        )
    if block.drop > 0:
        raise ConfigError(
            f"block {place} has its own stochastic depth (drop={block.drop}). "
            "Build it with drop=0: RandomSubset chooses the branches."
        )
    return block
