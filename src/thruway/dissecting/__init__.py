"""Dissecting any residual or gated network: its branches found, and the model run without them."""

from thruway.dissecting.branches import Branch, Operand, Refusal
from thruway.dissecting.dissection import Dissection, dissect
from thruway.dissecting.effective_depth import EffectiveDepth
from thruway.dissecting.failing import DissectError
from thruway.dissecting.kendall import kendall_tau
from thruway.dissecting.lesion_table import Deletion, Deletions, DrawnLesion, DrawnLesions
from thruway.dissecting.lesioned import Lesioned
from thruway.dissecting.metrics import Accuracy, Error, Loss, Metric
from thruway.dissecting.path_lengths import LengthRange, PathLengths
from thruway.dissecting.path_results import PathGradients, SampledPaths
from thruway.dissecting.predictions import Predictions
from thruway.dissecting.rank_correlation import RankCorrelation, rank_correlation
from thruway.dissecting.rankings import Rankings
from thruway.dissecting.rerouting import Operands

__all__ = [
    "Accuracy",
    "Branch",
    "Deletion",
    "Deletions",
    "DissectError",
    "Dissection",
    "DrawnLesion",
    "DrawnLesions",
    "EffectiveDepth",
    "Error",
    "LengthRange",
    "Lesioned",
    "Loss",
    "Metric",
    "Operand",
    "Operands",
    "PathGradients",
    "PathLengths",
    "Predictions",
    "RankCorrelation",
    "Rankings",
    "Refusal",
    "SampledPaths",
    "dissect",
    "kendall_tau",
    "rank_correlation",
]
