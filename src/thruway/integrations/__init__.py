"""Interfaces to other libraries. Each needs an extra, which is imported on first use."""

from thruway.integrations.tensorboard import TensorBoard

__all__ = ["TensorBoard"]
