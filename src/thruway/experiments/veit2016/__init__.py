"""Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber & Belongie 2016."""

from thruway.experiments.veit2016.effective_paths import STUDY as EFFECTIVE_PATHS
from thruway.experiments.veit2016.lesion_page import STUDY as LESION
from thruway.experiments.veit2016.path_survival import STUDY as PATH_SURVIVAL
from thruway.experiments.veit2016.paths_page import STUDY as PATHS
from thruway.experiments.veit2016.stochastic_depth import STUDY as STOCHASTIC_DEPTH

__all__ = ["EFFECTIVE_PATHS", "LESION", "PATHS", "PATH_SURVIVAL", "STOCHASTIC_DEPTH"]
