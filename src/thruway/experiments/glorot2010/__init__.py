"""Understanding the difficulty of training deep feedforward neural networks, Glorot & Bengio 2010."""

from thruway.experiments.glorot2010.cost_surface_page import STUDY as COST_SURFACE
from thruway.experiments.glorot2010.errors_page import STUDY as ERRORS
from thruway.experiments.glorot2010.initialization_page import STUDY as INITIALIZATION
from thruway.experiments.glorot2010.saturation_page import STUDY as SATURATION

__all__ = ["COST_SURFACE", "ERRORS", "INITIALIZATION", "SATURATION"]
