"""Searches over hyper-parameters: the space and its trials."""

from thruway.sweep.space import Choice, Distribution, LogUniform, Uniform, draw_trial

__all__ = ["Choice", "Distribution", "LogUniform", "Uniform", "draw_trial"]
