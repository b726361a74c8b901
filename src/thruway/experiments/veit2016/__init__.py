"""Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber & Belongie 2016."""

from thruway.experiments.veit2016.studies import EFFECTIVE_PATHS, LESION, PATH_SURVIVAL, PATHS, STOCHASTIC_DEPTH

__all__ = ["EFFECTIVE_PATHS", "LESION", "PATHS", "PATH_SURVIVAL", "STOCHASTIC_DEPTH"]
