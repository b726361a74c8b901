"""The probe: its passes are not recorded as training, and its activations are those of the current model."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import Trace, watch


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        x = self.drop(self.norm(F.relu(self.first(x))))
        return self.head(x if shift is None else x + shift)


def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        return Net().double()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def train(every: int, gives_optimizer: bool, **options: Any) -> tuple[Trace, list[dict[str, float]]]:
    """The trace, and the outputs of a copy of the model for the probe before every step."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    expected = []
    with (
        torch.random.fork_rng(devices=[]),
        watch(model, every, optimizer=optimizer if gives_optimizer else None, **options) as trace,
    ):
        torch.manual_seed(1)
        for step in range(7):
            twin = net()
            twin.load_state_dict(model.state_dict())
            twin.eval()
            h = twin.first(random(7, 3, seed=99))
            expected.append({"first": h.mean().item(), "head": twin(random(7, 3, seed=99)).mean().item()})
            if step == 6:
                break
            optimizer.zero_grad()
            model(random(5, 3, seed=step)).square().mean().backward()
            optimizer.step()
    return trace, expected


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("gives_optimizer", [False, True], ids=["by calls", "by optimizer"])
def test_the_probe_shows_the_model_before_the_step(every: int, gives_optimizer: bool) -> None:
    trace, expected = train(every, gives_optimizer, probe=random(7, 3, seed=99))
    assert trace.probe is not None
    means = trace.probe.series("mean")
    assert trace.steps == list(range(0, 6, every))
    # A step ends at optimizer.step(); then the next one begins, so the last run of the probe shows the trained model.
    assert means.steps.tolist() == list(range(0, 7 if gives_optimizer else 6, every))
    for name in ("first", "head"):
        wanted = [expected[step][name] for step in means.steps]
        np.testing.assert_allclose(means.values[means.names.index(name)], wanted, 1e-12)
    assert "gradient" not in {site.kind for site in trace.probe.sites}


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("gives_optimizer", [False, True], ids=["by calls", "by optimizer"])
def test_the_training_is_recorded_as_without_a_probe(every: int, gives_optimizer: bool) -> None:
    with_probe, _ = train(every, gives_optimizer, probe=random(7, 3, seed=99))
    without, _ = train(every, gives_optimizer)
    for kind in ("output", "gradient"):
        for quantity in without.quantities(kind):
            ours, theirs = with_probe.series(quantity, kind), without.series(quantity, kind)
            assert ours.names == theirs.names
            np.testing.assert_array_equal(ours.values, theirs.values, err_msg=f"{quantity} of {kind}")


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_a_probe_may_be_all_arguments_of_the_model(form: str) -> None:
    x, shift = random(7, 3), random(7, 4, seed=1)
    probe = (x, shift) if form == "tuple" else {"x": x, "shift": shift}
    model = net()
    with watch(model, probe=probe) as trace:
        model(random(5, 3)).sum().backward()
    twin = net().eval()
    assert trace.probe is not None
    assert trace.probe.series("mean").values[-1, 0] == pytest.approx(twin(x, shift).mean().item(), rel=1e-12)
