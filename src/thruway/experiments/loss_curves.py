"""How the nets of a study learnt: the training loss of each, over the epochs."""

from collections.abc import Mapping, Sequence

from thruway.figures import run_curves
from thruway.report import Section
from thruway.runs import RunReader

__all__ = ["loss_curves"]

# Guessing among 100 classes is 4.6. A net that is lost may go up to 1e11, and one axis would show nothing else.
_HIGHEST = 20.0  # nats


def loss_curves(reader: RunReader, labels: Mapping[str, str]) -> list[Section]:
    """One curve per net, the mean over seeds, with their range; nothing before the first epoch.

    Args:
        labels: name of the net -> how the figure calls it.
    """
    curves, bands, lost = {}, {}, []
    for net, name in labels.items():
        losses = _losses(reader, net)
        if not losses:
            continue
        drawn = {epoch: [loss for loss in each if loss <= _HIGHEST] for epoch, each in losses.items()}
        if any(len(drawn[epoch]) < len(each) for epoch, each in losses.items()):
            lost.append(name)
        found = [epoch for epoch in sorted(drawn) if drawn[epoch]]
        if found:
            curves[name] = (found, [sum(drawn[epoch]) / len(drawn[epoch]) for epoch in found])
        if any(len(each) > 1 for each in drawn.values()):
            bands[name] = (found, [min(drawn[epoch]) for epoch in found], [max(drawn[epoch]) for epoch in found])
    if not curves and not lost:
        return []
    figure = run_curves(curves, bands=bands, x_name="epochs", y_name="training loss (nats)", log=True)
    reading = "Mean training loss of each epoch, over seeds, as the net is while it learns."
    return [Section("How they learnt", figure, reading + _left_out(lost))]


def _losses(reader: RunReader, net: str) -> dict[int, list[float]]:
    """epoch -> the loss with each seed."""
    table = reader.table(site=net, quantity="train_loss")
    losses: dict[int, dict[int, float]] = {}
    # A killed and resumed run logs some epochs twice, with the same numbers.
    for step, member, value in zip(table["step"], table["member"], table["value"], strict=True):
        losses.setdefault(int(step), {})[int(member)] = float(value)
    return {epoch: list(each.values()) for epoch, each in losses.items()}


def _left_out(lost: Sequence[str]) -> str:
    return (
        f" Losses above {_HIGHEST:g} nats, and those that overflowed, are left out: {', '.join(lost)}." if lost else ""
    )
