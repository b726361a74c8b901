"""Comparison of Highway-110 and ResNet-110 (R. Srivastava 2025), a reply to He et al. 2016."""

from thruway.experiments.srivastava2025.reply import STUDY as REPLY

__all__ = ["REPLY"]
