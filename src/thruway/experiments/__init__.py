"""The papers' studies, each with its claims: one line per study in `EXPERIMENTS`."""

from thruway.experiments.claims import Claim, judge
from thruway.experiments.experiment import Experiment, Progress, Silent
from thruway.experiments.glorot2010 import ERRORS
from thruway.experiments.glorot2010.cost_surface_study import COST_SURFACE
from thruway.experiments.glorot2010.initialization_study import INITIALIZATION
from thruway.experiments.glorot2010.saturation_study import SATURATION
from thruway.experiments.highway2015 import DEPTH

__all__ = ["EXPERIMENTS", "Claim", "Experiment", "Progress", "Silent", "judge"]

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for experiment in (DEPTH, ERRORS, INITIALIZATION, COST_SURFACE, SATURATION)
}
