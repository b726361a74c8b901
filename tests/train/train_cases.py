"""Table of nets that are trained as populations and compared with training one by one."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.networks import mlp
from thruway.networks.mlp import MLP
from thruway.train import SGD

INPUTS, CLASSES, WIDTH, DEPTH, BATCH = 5, 3, 4, 4, 6


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Case:
    name: str
    block: str
    activation: str = "tanh"
    fused: bool = False
    nesterov: bool = False
    clip: float | None = None

    def nets(
        self, members: int, *, fused: bool | None = None, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> list[MLP]:
        """Return members with different weights and gate biases, the same at every call."""
        return [
            mlp(
                self.block,
                DEPTH,
                WIDTH,
                INPUTS,
                CLASSES,
                self.activation,
                gate_bias=-1.0 - member,
                fused=self.fused if fused is None else fused,
                dtype=dtype,
                generator=seeded(100 * seed + member),
            )
            for member in range(members)
        ]


CASES = [
    Case("plain", "plain"),
    Case("plain-relu-clip", "plain", "relu", clip=0.05),
    Case("residual-nesterov", "residual", nesterov=True),
    Case("highway", "highway"),
    Case("highway-fused", "highway", fused=True),
    Case("highway-fused-relu-nesterov-clip", "highway", "relu", fused=True, nesterov=True, clip=0.05),
]

# Every field differs between members, so that a mix-up is detected.
RULES = [
    SGD(lr=0.3, momentum=0.9, weight_decay=0.01, lr_decay=0.5),
    SGD(lr=0.05, momentum=0.5, weight_decay=0.0, lr_decay=1.0),
    SGD(lr=0.7, momentum=0.1, weight_decay=0.1, lr_decay=0.9),
]


def batches(steps: int, *, seed: int = 7, dtype: torch.dtype = torch.float64) -> Iterator[tuple[Tensor, Tensor]]:
    rng = seeded(seed)
    for _ in range(steps):
        yield (
            torch.randn(BATCH, INPUTS, dtype=dtype, generator=rng),
            torch.randint(CLASSES, (BATCH,), generator=rng),
        )
