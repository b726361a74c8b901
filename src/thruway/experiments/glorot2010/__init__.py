"""Understanding the difficulty of training deep feedforward neural networks, Glorot & Bengio 2010."""

from thruway.experiments.glorot2010.studies import COST_SURFACE, ERRORS, INITIALIZATION, SATURATION

__all__ = ["COST_SURFACE", "ERRORS", "INITIALIZATION", "SATURATION"]
