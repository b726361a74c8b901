"""A RecurrentHighway is recorded like a HighwayStack: a layer per micro-step, over all time steps at once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from thruway.nn import HighwayStack, RecurrentHighway, RecurrentHighwayCell
from thruway.watching import QUANTITIES, Trace, layer_jacobians, watch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    """Recurrent, then dense."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.rec = RecurrentHighway(3, 4, 3, -0.5, generator=seeded(), **options)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Any) -> Tensor:
        output = self.rec(x)[0]
        return self.head(output if isinstance(output, Tensor) else output.data)


def step_by_step(net: Net, x: Tensor) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    """The outputs at every site of the recurrent layer, and the states with their gradients, time step by time step."""
    cell, outputs, states = net.rec.cell, dict[str, list[Tensor]](), dict[str, list[Tensor]]()
    s, ends = torch.zeros(x.shape[1], 4, dtype=x.dtype), []
    for x_t in x:
        for step in range(3):
            z = s @ cell.weight[step].mT + cell.bias[step] + (x_t @ cell.input_weight.mT if step == 0 else 0.0)
            h, t = torch.tanh(z[:, :4]), torch.sigmoid(z[:, 4:])
            s = h * t + s * (1 - t)
            s.retain_grad()
            for name, tensor in ((".activation", h), (".transform_gate", t), ("", s)):
                outputs.setdefault(f"rec.{step}{name}", []).append(tensor)
            states.setdefault(f"rec.{step}", []).append(s)
        ends.append(s)
    net.head(torch.stack(ends)).sin().sum().backward()
    return outputs, states


def names_of(trace: Trace, kind: str = "output") -> list[str]:
    return trace.series("mean", kind).names  # type: ignore[arg-type]


LAYERS = [f"rec.{step}{part}" for step in range(3) for part in (".activation", ".transform_gate", "")][:-1]
OUTPUTS = [*LAYERS, "rec[0]", "rec[1]", "head"]  # the last micro-step leaves the layer's own output


def test_every_micro_step_has_the_sites_of_a_layer(
    fingerprint: Any, fingerprint_of: Callable[[Tensor], float], at_step: Any
) -> None:
    net = Net().double()
    x = torch.randn(6, 2, 3, dtype=torch.float64, generator=seeded(1))
    outputs, states = step_by_step(net, x)
    expected = {name: fingerprint_of(torch.cat(tensors)) for name, tensors in outputs.items()}
    expected["rec[0]"] = expected.pop("rec.2")
    slopes = {name: fingerprint_of(torch.cat([s.grad for s in each])) for name, each in states.items()}  # type: ignore[misc]
    with watch(net, quantities=[fingerprint, "mean"]) as trace:
        for _ in range(4):  # the first pass uses full hooks, the last ones replayed hooks
            net(x).sin().sum().backward()
    assert names_of(trace) == OUTPUTS
    assert names_of(trace, "gradient") == ["rec.0", "rec.1", "rec.2", "rec[0]", "head"]
    for index in range(4):
        for kind, wanted in (("output", expected), ("gradient", slopes)):
            found = at_step(trace, "fingerprint", kind, index)
            # float64 sums of some hundred terms of size 1, in another order
            assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-9, abs=1e-11)
    gates = {site.name: site.activation for site in trace.sites if site.is_gate}
    assert gates == {f"rec.{step}.transform_gate": "sigmoid" for step in range(3)}
    assert {site.activation for site in trace.sites if site.name.endswith(".activation")} == {"tanh"}


@pytest.mark.parametrize("option", [{"carry": "independent"}, {"activation": "gelu"}, {"dropout": 0.3}], ids=str)
def test_what_runs_step_by_step_has_the_same_sites(option: dict[str, Any]) -> None:
    net = Net(**option)
    with watch(net) as trace:
        for _ in range(3):
            net(torch.randn(6, 2, 3, generator=seeded(1))).sum().backward()
    assert trace.failure is None
    assert names_of(trace) == OUTPUTS


def test_a_hook_of_somebody_else_is_called_and_makes_no_sites() -> None:
    net, called = Net(), []
    net.rec.cell.transform_gates[0].register_forward_hook(lambda *_: called.append(1))
    with watch(net) as trace:
        for _ in range(4):
            net(torch.randn(6, 2, 3, generator=seeded(1))).sum().backward()
    assert len(called) == 4 * 6
    assert names_of(trace) == OUTPUTS


def test_a_cell_in_a_loop_of_ones_own_is_watched_by_its_modules() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = RecurrentHighwayCell(3, 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            state = None
            for x_t in x:
                state = self.cell(x_t, state)
            return state

    net = Loop()
    with watch(net) as trace:
        net(torch.ones(2, 5, 3)).sum().backward()
    expected = {f"cell.{part}{call}" for part in ("transform_gates.0", "transform_gates.1") for call in ("", "#2")}
    assert expected | {"cell.activation", "cell.activation#4"} <= set(names_of(trace))
    assert {site.name for site in trace.sites if site.is_gate} == expected


# --- what the layers of both kinds share


def test_the_next_batch_may_have_other_rows() -> None:
    """Blocks of one tensor are measured by its own size, be it smaller or larger than the first."""
    stack, net = nn.Sequential(HighwayStack(3, 3, generator=seeded())), Net()
    lengths = [(7, 7, 6), (2, 1), (7, 7, 6), (9, 9, 9, 8)]
    for model, path in ((stack, "0"), (net, "rec")):
        means: list[list[float]] = []
        with watch(model) as trace:
            for step, each in enumerate(lengths):
                rows = [torch.randn(length, 3, generator=seeded(step)) for length in each]
                handle = model.get_submodule(f"{path}.states").register_forward_hook(
                    lambda _m, _i, states, means=means: means.append(states.t.double().mean(dim=(1, 2)).tolist())
                )
                model(torch.cat(rows) if model is stack else pack_sequence(rows)).sum().backward()
                handle.remove()
        series = trace.series("mean")
        found = series.values[[series.names.index(f"{path}.{layer}.transform_gate") for layer in range(3)]]
        assert found.T.tolist() == [pytest.approx(each, rel=1e-5) for each in means]  # float32


def test_no_rows_are_no_numbers_and_no_failure() -> None:
    quantities = [name for name, row in QUANTITIES.items() if row.of_model is None]
    for net, path in ((Net(), "rec"), (nn.Sequential(HighwayStack(3, 3)), "0")):
        with watch(net, quantities=quantities) as trace:
            for batch in (2, 0, 2):
                net(torch.ones(4, batch, 3)).sum().backward()
        assert trace.failure is None
        series = trace.series("mean")
        gate = series.values[series.names.index(f"{path}.0.transform_gate")]
        assert torch.tensor(gate).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("kind", ["stack", "recurrent"])
def test_an_add_round_it_is_a_residual_add(kind: str) -> None:
    class Round(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = HighwayStack(4, 2) if kind == "stack" else RecurrentHighway(4, 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.inner(x)
            return x + (y if isinstance(y, Tensor) else y[0])

    net = nn.Sequential(nn.Linear(4, 4), Round())
    with watch(net) as trace:
        for _ in range(3):
            net(torch.ones(3, 2, 4)).sum().backward()
    assert trace.branches == {"1": ("1.inner" if kind == "stack" else "1.inner[0]", "0")}


def test_the_table_and_the_figure_of_gates_know_it() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with watch(net, optimizer=optimizer, probe=torch.ones(4, 2, 3)) as trace:
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(6, 2, 3, generator=seeded(1))).square().sum().backward()
            optimizer.step()
    assert "11 outputs, 5 gradients, 5 parameters; all finite" in str(trace)
    (heat,) = trace.figure("mean", sites="gates").data
    assert list(heat.y) == [f"rec.{step}.transform_gate" for step in range(3)]
    assert trace.probe is not None
    assert names_of(trace.probe) == OUTPUTS


def test_it_counts_as_one_layer_for_jacobians() -> None:
    class Last(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rec(x)[1])

    net, x = Last(batch_first=True), torch.randn(5, 6, 3, generator=seeded(1))
    assert list(layer_jacobians(net, x, ["head"])) == ["head"]
    activated = nn.Sequential(net, nn.Tanh())
    assert list(layer_jacobians(activated, x)) == [
        "1"
    ]  # without the cell's own activation, which is called eighteen times
