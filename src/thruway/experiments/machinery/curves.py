"""Training curves of the networks of a study."""

from collections.abc import Mapping, Sequence

from thruway.figures import run_curves
from thruway.report import Section
from thruway.runs import RunReader

__all__ = ["loss_curves"]

# Guessing among 100 classes is 4.6. A diverging network may reach 1e11, and the axis would show nothing else.
_HIGHEST = 20.0  # nats


def loss_curves(reader: RunReader, labels: Mapping[str, str]) -> list[Section]:
    """Return a section with one training curve per network: the mean and the range over seeds.

    Args:
        reader: the run folder.
        labels: label in the figure for each name of a network.
    Returns:
        A list with the section; empty before the end of the first epoch.
    """
    curves, bands, left_out = {}, {}, []
    for net, name in labels.items():
        losses = _losses(reader, net)
        if not losses:
            continue
        drawn = {epoch: [loss for loss in each if loss <= _HIGHEST] for epoch, each in losses.items()}
        if any(len(drawn[epoch]) < len(each) for epoch, each in losses.items()):
            left_out.append(name)
        found = [epoch for epoch in sorted(drawn) if drawn[epoch]]
        if found:
            curves[name] = (found, [sum(drawn[epoch]) / len(drawn[epoch]) for epoch in found])
        if any(len(each) > 1 for each in drawn.values()):
            bands[name] = (found, [min(drawn[epoch]) for epoch in found], [max(drawn[epoch]) for epoch in found])
    if not curves and not left_out:
        return []
    figure = run_curves(curves, bands=bands, x_name="epochs", y_name="training loss (nats)", log=True)
    reading = "Mean training loss of each epoch, averaged over seeds, measured during training."
    return [Section("Training curves", figure, reading + _note(left_out))]


def _losses(reader: RunReader, net: str) -> dict[int, list[float]]:
    """Return the losses of all seeds, by epoch."""
    table = reader.table(site=net, quantity="train_loss")
    losses: dict[int, dict[int, float]] = {}
    # A killed and resumed run logs some epochs twice, with the same numbers.
    for step, member, value in zip(table["step"], table["member"], table["value"], strict=True):
        losses.setdefault(int(step), {})[int(member)] = float(value)
    return {epoch: list(each.values()) for epoch, each in losses.items()}


def _note(left_out: Sequence[str]) -> str:
    if not left_out:
        return ""
    return f" Losses that are above {_HIGHEST:g} nats or not finite are omitted: {', '.join(left_out)}."
