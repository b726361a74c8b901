"""Whole networks, with the block as an argument."""

from thruway.networks.mlp import BLOCKS, MLP, BlockSpec, mlp, paired_width
from thruway.networks.resnet import ResNet, resnet
from thruway.networks.vgg import VGG, vgg

__all__ = ["BLOCKS", "MLP", "VGG", "BlockSpec", "ResNet", "mlp", "paired_width", "resnet", "vgg"]
