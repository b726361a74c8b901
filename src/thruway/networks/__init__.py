"""Whole networks from the papers: MLPs, residual, gated, highway, maxout and VGG networks."""

from thruway.networks.conv_net import ConvNet
from thruway.networks.fitnet import FITNETS, fitnet
from thruway.networks.gated_joinings import JOININGS
from thruway.networks.gated_resnet import gated_resnet
from thruway.networks.highway_conv import CONV_BLOCKS, highway_conv, plain_twin_width
from thruway.networks.highway_conv_layouts import LAYOUTS
from thruway.networks.mlp import BLOCKS, MLP, BlockSpec, mlp, paired_width
from thruway.networks.resnet import ResNet, resnet
from thruway.networks.vgg import VGG, vgg

__all__ = [
    "BLOCKS",
    "CONV_BLOCKS",
    "FITNETS",
    "JOININGS",
    "LAYOUTS",
    "MLP",
    "VGG",
    "BlockSpec",
    "ConvNet",
    "ResNet",
    "fitnet",
    "gated_resnet",
    "highway_conv",
    "mlp",
    "paired_width",
    "plain_twin_width",
    "resnet",
    "vgg",
]
