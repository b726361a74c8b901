"""Whole networks, with the block as an argument."""

from thruway.networks.mlp import BLOCKS, MLP, BlockSpec, mlp, paired_width

__all__ = ["BLOCKS", "MLP", "BlockSpec", "mlp", "paired_width"]
