"""The papers' studies, each with its claims: one line per study in `EXPERIMENTS`."""

from thruway.experiments.claims import Claim, judge
from thruway.experiments.experiment import Experiment, Progress, Silent
from thruway.experiments.glorot2010 import COST_SURFACE, ERRORS, INITIALIZATION, SATURATION
from thruway.experiments.he2016 import GATES as HE_GATES
from thruway.experiments.highway2015 import CIFAR, CONVERGENCE, DEPTH, GATES, MNIST_CONV, VERY_DEEP
from thruway.experiments.highway2015 import LESION as HIGHWAY_LESION
from thruway.experiments.rhn2017 import DEPTH as RHN_DEPTH
from thruway.experiments.srivastava2025 import REPLY
from thruway.experiments.veit2016 import EFFECTIVE_PATHS, LESION, PATH_SURVIVAL, PATHS, STOCHASTIC_DEPTH

__all__ = ["EXPERIMENTS", "Claim", "Experiment", "Progress", "Silent", "judge"]

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
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
