"""Highway-110 beside ResNet-110, Srivastava 2025: a reply to Identity Mappings in Deep Residual Networks."""

from thruway.experiments.srivastava2025.reply import STUDY as REPLY

__all__ = ["REPLY"]
