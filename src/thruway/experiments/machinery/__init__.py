"""Shared machinery of the studies: study objects, claims, resumable training, measuring, comparing, reports."""

from thruway.experiments.machinery.compared import ComparedPage, Published, compared_study
from thruway.experiments.machinery.contenders import Contender, error_of, errors_of, excess, parameters_of
from thruway.experiments.machinery.image_config import ImageConfig, ResNetConfig
from thruway.experiments.machinery.images import ImageParts, load_images
from thruway.experiments.machinery.measuring import Measurement, measured_study
from thruway.experiments.machinery.resumable import Progress, Silent
from thruway.experiments.machinery.row_statistics import mean_by, mean_of, only, over_seeds
from thruway.experiments.machinery.stored_nets import StoredNet, choose_net
from thruway.experiments.machinery.study import Claim, Rows, Study, StudyPage, judge
from thruway.experiments.machinery.training import Net

__all__ = [
    "Claim",
    "ComparedPage",
    "Contender",
    "ImageConfig",
    "ImageParts",
    "Measurement",
    "Net",
    "Progress",
    "Published",
    "ResNetConfig",
    "Rows",
    "Silent",
    "StoredNet",
    "Study",
    "StudyPage",
    "choose_net",
    "compared_study",
    "error_of",
    "errors_of",
    "excess",
    "judge",
    "load_images",
    "mean_by",
    "mean_of",
    "measured_study",
    "only",
    "over_seeds",
    "parameters_of",
]
