"""How the nets of a study learnt: the training loss of each, over the epochs."""

from collections.abc import Sequence

from thruway.experiments.veit2016.told import NAMES
from thruway.figures import run_curves
from thruway.report import Section
from thruway.runs import RunReader

__all__ = ["training_curves"]


def training_curves(reader: RunReader, nets: Sequence[str]) -> list[Section]:
    """One curve per kind of net, the mean over seeds, with their range; nothing before the first epoch."""
    curves, bands = {}, {}
    for net in nets:
        table = reader.table(site=net, quantity="train_loss")
        losses: dict[int, dict[int, float]] = {}
        # A killed and resumed run logs some epochs twice, with the same numbers.
        for step, member, value in zip(table["step"], table["member"], table["value"], strict=True):
            losses.setdefault(int(step), {})[int(member)] = float(value)
        if losses:
            epochs = sorted(losses)
            values = [list(losses[epoch].values()) for epoch in epochs]
            curves[NAMES[net]] = (epochs, [sum(each) / len(each) for each in values])
            bands[NAMES[net]] = (epochs, [min(each) for each in values], [max(each) for each in values])
    if not curves:
        return []
    figure = run_curves(curves, bands=bands, x_name="epochs", y_name="training loss (nats)", log=True)
    reading = "Mean training loss of each epoch, over seeds, as the net is while it learns."
    return [Section("How they learnt", figure, reading)]
