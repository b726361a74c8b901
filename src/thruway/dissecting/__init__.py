"""Dissection of residual and gated networks: branches, lesions, paths and rankings of any PyTorch model."""

from thruway.dissecting.dissection import Dissection, dissect
from thruway.dissecting.errors import DissectError
from thruway.dissecting.finding.branches import Branch, Operand, Refusal
from thruway.dissecting.lesions.kendall import kendall_tau
from thruway.dissecting.lesions.metrics import Accuracy, Error, Loss, Metric
from thruway.dissecting.lesions.results import Deletion, Deletions, DrawnLesion, DrawnLesions
from thruway.dissecting.paths.effective_depth import EffectiveDepth
from thruway.dissecting.paths.lengths import LengthRange, PathLengths, shortest_range
from thruway.dissecting.paths.results import PathGradients, SampledPaths
from thruway.dissecting.pruning.healing import Healing, heal
from thruway.dissecting.pruning.results import Pruning, Removed
from thruway.dissecting.ranking.predictions import Predictions
from thruway.dissecting.ranking.rank_correlation import RankCorrelation, rank_correlation
from thruway.dissecting.ranking.rankings import Rankings
from thruway.dissecting.removal.saving import load_pruned, save_pruned
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.running.merging import Operands

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
    "Healing",
    "LengthRange",
    "Lesioned",
    "Loss",
    "Metric",
    "Operand",
    "Operands",
    "PathGradients",
    "PathLengths",
    "Predictions",
    "Pruning",
    "RankCorrelation",
    "Rankings",
    "Refusal",
    "Removed",
    "SampledPaths",
    "dissect",
    "heal",
    "kendall_tau",
    "load_pruned",
    "rank_correlation",
    "save_pruned",
    "shortest_range",
]
