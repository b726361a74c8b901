"""Random hyper-parameter search: search spaces and their trials."""

from thruway.sweep.space import Choice, Distribution, LogUniform, Uniform, draw_trial

__all__ = ["Choice", "Distribution", "LogUniform", "Uniform", "draw_trial"]
