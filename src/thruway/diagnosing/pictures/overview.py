"""Pictures of a healthy run: its loss, and its gradients and outputs over depth."""

from thruway.diagnosing.pictures import sources as of
from thruway.diagnosing.pictures.case import Case, Picture
from thruway.diagnosing.pictures.depth import depth_of
from thruway.diagnosing.pictures.over_time import loss_curve

__all__ = ["overview_pictures"]

_DRAWN = (
    depth_of(of.GRADIENT, title="Gradient over depth", only=of.layer_names, name="gradient"),
    depth_of(of.SIGNAL, title="Outputs over depth", only=of.layer_names, name="outputs"),
    loss_curve(lambda case: {}),
)


def overview_pictures(case: Case) -> list[Picture]:
    """Return those of the pictures that the trace has numbers for."""
    return [picture for draw in _DRAWN if (picture := draw(case)) is not None]
