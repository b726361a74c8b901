"""The old address of `thruway.watching.layer_jacobian`."""

from thruway.watching.quantities.jacobian import layer_jacobian  # alias until experiments follow

__all__ = ["layer_jacobian"]
