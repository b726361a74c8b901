"""Layers of very deep networks: highway, residual and plain blocks, resizing, dropout and stochastic depth."""

from thruway.nn.blocks import HighwayLinear, Learnt, Plain, Residual
from thruway.nn.dropout import Dropout
from thruway.nn.gates import CarryGate, TransformGate, gate_bias_for_depth
from thruway.nn.highway_conv import HighwayConv1d, HighwayConv2d, HighwayConv3d
from thruway.nn.highway_wrap import Highway
from thruway.nn.maxout import Maxout
from thruway.nn.random_subset import RandomSubset
from thruway.nn.recurrent import RecurrentHighway
from thruway.nn.recurrent_cell import DropoutMasks, RecurrentHighwayCell
from thruway.nn.resize import Resize
from thruway.nn.stack import HighwayStack
from thruway.nn.stochastic_depth import survival_probabilities

__all__ = [
    "CarryGate",
    "Dropout",
    "DropoutMasks",
    "Highway",
    "HighwayConv1d",
    "HighwayConv2d",
    "HighwayConv3d",
    "HighwayLinear",
    "HighwayStack",
    "Learnt",
    "Maxout",
    "Plain",
    "RandomSubset",
    "RecurrentHighway",
    "RecurrentHighwayCell",
    "Residual",
    "Resize",
    "TransformGate",
    "gate_bias_for_depth",
    "survival_probabilities",
]
