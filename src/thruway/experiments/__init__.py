"""The papers' studies, one line each in `STUDIES`, and the parts that a study of your own is made of."""

import warnings
from typing import TYPE_CHECKING, Any

from thruway.experiments.glorot2010 import COST_SURFACE, ERRORS, INITIALIZATION, SATURATION
from thruway.experiments.he2016 import GATES as HE_GATES
from thruway.experiments.highway2015 import CIFAR, CONVERGENCE, DEPTH, GATES, MNIST_CONV, VERY_DEEP
from thruway.experiments.highway2015 import LESION as HIGHWAY_LESION
from thruway.experiments.machinery import (
    Claim,
    ComparedPage,
    Contender,
    ImageConfig,
    ImageParts,
    Measurement,
    Net,
    Progress,
    Published,
    Rows,
    Silent,
    Study,
    StudyPage,
    compared_study,
    error_of,
    errors_of,
    excess,
    judge,
    measured_study,
)
from thruway.experiments.rhn2017 import DEPTH as RHN_DEPTH
from thruway.experiments.srivastava2025 import REPLY
from thruway.experiments.veit2016 import EFFECTIVE_PATHS, LESION, PATH_SURVIVAL, PATHS, STOCHASTIC_DEPTH

__all__ = [
    "STUDIES",
    "Claim",
    "ComparedPage",
    "Contender",
    "ImageConfig",
    "ImageParts",
    "Measurement",
    "Net",
    "Progress",
    "Published",
    "Rows",
    "Silent",
    "Study",
    "StudyPage",
    "compared_study",
    "error_of",
    "errors_of",
    "excess",
    "judge",
    "measured_study",
]

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        DEPTH,
        HIGHWAY_LESION,
        GATES,
        VERY_DEEP,
        CONVERGENCE,
        MNIST_CONV,
        CIFAR,
        REPLY,
        HE_GATES,
        ERRORS,
        INITIALIZATION,
        COST_SURFACE,
        SATURATION,
        LESION,
        PATHS,
        EFFECTIVE_PATHS,
        PATH_SURVIVAL,
        STOCHASTIC_DEPTH,
        RHN_DEPTH,
    )
}


if not TYPE_CHECKING:  # a type checker would take any name for one of this module's

    def __getattr__(name: str) -> Any:
        renamed = {"EXPERIMENTS": ("STUDIES", STUDIES), "Experiment": ("Study", Study)}
        if name in renamed:
            new, value = renamed[name]
            warnings.warn(f"thruway.experiments.{name} is deprecated; use {new}.", DeprecationWarning, stacklevel=2)
            return value
        raise AttributeError(f"module 'thruway.experiments' has no attribute {name!r}")
