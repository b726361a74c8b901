"""Where other people's tools begin: each behind an extra, brought in when it is used and not before."""

from thruway.integrations.tensorboard import TensorBoard

__all__ = ["TensorBoard"]
