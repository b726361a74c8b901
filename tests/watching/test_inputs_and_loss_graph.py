"""The tensors that the training loop passes to the model, and the operations between the model and the loss."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import LossNode, Trace, watch


def numbers(step: int, *shape: int) -> Tensor:
    return 3 + torch.randn(shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


class Takes(nn.Module):
    """Overwrites what it is given, as preprocessing may do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.embed = nn.Linear(3, 2), nn.Embedding(9, 3)

    def forward(self, words: Tensor, x: Any, *more: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
        first, (second,) = x["first"], x["rest"]
        y = first.mul_(2.0) + second + self.embed(words).mean(1)
        for each in (*more, *(m for m in (mask,) if m is not None), *options.values()):
            y = y * each.double().mean()
        out: Tensor = self.layer(torch.tanh(y))
        return out


@pytest.mark.parametrize("gives_optimizer", [False, True], ids=["by calls", "by optimizer"])
def test_every_floating_point_argument_is_measured_under_its_place_or_name(gives_optimizer: bool) -> None:
    model = Takes().double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    expected: dict[str, list[Tensor]] = {}
    with watch(model, optimizer=optimizer if gives_optimizer else None) as trace:
        for step in range(5):  # with full and with replayed hooks
            a, b, c, d, e = (numbers(5 * step + i, 4, 3) for i in range(5))
            named = {"input.1.first": a, "input.1.rest[0]": b, "input.2": c, "mask": d, "noise": e}
            for name, tensor in named.items():
                expected.setdefault(name, []).append(tensor.clone())
            words = torch.ones(4, 2, dtype=torch.int64)
            model(words, {"first": a, "rest": [b]}, c, mask=d, noise=e, flag=torch.tensor(1)).sum().backward()
            optimizer.step()
    assert trace.failure is None
    for quantity, measure in (("mean", Tensor.mean), ("std", lambda t: t.std(correction=0))):
        series = trace.series(quantity, "input")
        assert series.names == list(expected)
        wanted = [[measure(t).item() for t in tensors] for tensors in expected.values()]
        np.testing.assert_allclose(series.values, wanted, 1e-12)
    assert {site.shape for site in series.sites} == {(4, 3)}
    assert {"mean", "std", "nan", "inf"} == set(trace.quantities("input"))


def test_a_step_of_micro_batches_has_one_input() -> None:
    model = nn.Linear(3, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    whole = numbers(0, 6, 3)
    with watch(model, optimizer=optimizer) as trace:
        for part in whole.split(2):
            model(part).sum().backward()
        optimizer.step()
    assert trace.series("std", "input").values.item() == pytest.approx(whole.std(correction=0).item(), rel=1e-12)


def test_parts_that_the_loop_calls_have_inputs_unless_another_part_computed_them() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3))

    model = Parts()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer=optimizer) as trace:
        for _ in range(3):
            model.decoder(model.encoder(torch.ones(2, 3))).sum().backward()
            optimizer.step()
    assert trace.series("mean", "input").names == ["encoder.input"]


def test_an_input_that_is_not_finite_is_the_first_bad_value() -> None:
    model = nn.Linear(3, 1)
    with watch(model) as trace:
        model(torch.tensor([[1.0, torch.inf, torch.nan]])).sum().backward()
    assert trace.first_bad is not None
    assert (trace.first_bad.site.key, trace.first_bad.nan, trace.first_bad.inf) == (("input", "input"), 1, 1)
    assert "first bad value at step 0 in the model's input: 1 NaN and 1 infinite" in repr(trace)


# --- the graph of the loss


def graph(model: nn.Module, loss_of: Any, steps: int = 1, **options: Any) -> tuple[LossNode, ...]:
    with watch(model, **options) as trace:
        for _ in range(steps):
            loss_of(model(torch.ones(2, 3))).backward()
    assert trace.failure is None
    return trace.loss_graph


TARGET = torch.tensor([0, 1])


def test_a_softmax_before_cross_entropy_shows() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1))
    found = graph(model, lambda y: F.cross_entropy(y, TARGET), 3)
    assert found == (
        LossNode("NllLossBackward0", (), None, (1,)),
        LossNode("LogSoftmaxBackward0", (2, 4), None, (2,)),
        LossNode("SoftmaxBackward0", (2, 4), "1", (3,)),
        LossNode("AddmmBackward0", (2, 4), "0"),
    )
    plain = graph(nn.Sequential(nn.Linear(3, 4)), lambda y: F.cross_entropy(y, TARGET))
    assert [(node.operation, node.site) for node in plain][-1] == ("AddmmBackward0", "0")


def test_a_scaler_and_a_division_are_in_the_graph() -> None:
    found = graph(nn.Linear(3, 4), lambda y: 2 * y.square().mean() / 3)
    names = ["DivBackward0", "MulBackward0", "MeanBackward0", "PowBackward0", "AddmmBackward0"]
    assert [node.operation for node in found] == names
    assert [node.inputs for node in found] == [(1,), (2,), (3,), (4,), ()]
    assert found[-1] == LossNode("AddmmBackward0", (2, 4), "output")


def test_two_outputs_are_found_breadth_first_and_weights_in_the_loss_too() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.a(x), self.b(x)

    model = Two()
    found = graph(model, lambda y: (y[0] * y[1]).sum() + model.a.weight.square().sum())
    assert [(n.operation, n.site, n.inputs) for n in found] == [
        ("AddBackward0", None, (1, 2)),
        ("SumBackward0", None, (3,)),
        ("SumBackward0", None, (4,)),
        ("MulBackward0", None, (5, 6)),
        ("PowBackward0", None, (7,)),
        ("AddmmBackward0", "a", ()),
        ("AddmmBackward0", "b", ()),
        ("AccumulateGrad", None, ()),
    ]


def test_a_loss_that_the_model_returns_is_followed_to_its_layers() -> None:
    class Returns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            logits = self.layer(x)
            return {"loss": F.cross_entropy(logits, TARGET), "logits": logits}

    found = graph(Returns(), lambda y: y["loss"])
    assert [(node.operation, node.site) for node in found] == [
        ("NllLossBackward0", "output.loss"),
        ("LogSoftmaxBackward0", None),
        ("AddmmBackward0", "layer"),
    ]


def test_each_of_two_watches_finds_its_own_outputs() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    with watch(first) as inner, watch(second) as outer:
        second(first(torch.ones(2, 3))).sum().backward()
    assert [node.site for node in outer.loss_graph] == [None, "output"]
    assert [node.site for node in inner.loss_graph if node.site] == ["output"]
    assert len(inner.loss_graph) > 2


def test_a_loss_through_a_large_network_is_cut_off() -> None:
    model, large = nn.Linear(3, 3), nn.Sequential(*(nn.Linear(3, 3) for _ in range(200)))
    found = graph(model, lambda y: large(y).sum())
    assert len(found) == 256
    assert all(0 <= place < 256 for node in found for place in node.inputs)


# --- the summary


def summary(model: nn.Module, *, by: str = "grad") -> str:
    with watch(model, quantities=["mean", "std"]) as trace:
        y = model(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
        (y if by == "loss" else y.square().sum()).backward()
    return repr(trace).splitlines()[-1]


def test_layers_without_a_gradient_are_said_before_the_first_that_has_one() -> None:
    class Cut(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for index, layer in enumerate(self):
                x = layer(x)
                x = x.detach() if index == 5 else x
            return x

    layers = [part for _ in range(5) for part in (nn.Linear(3, 3), nn.Tanh())]
    assert summary(Cut(*layers)).endswith("at 9; none at the 3 layers before, from 1 on")
    whole = nn.Sequential(nn.Flatten(), nn.Linear(3, 3), nn.Linear(3, 3))
    assert "at 2; first / last = " in summary(whole), "the input needs no gradient"


def test_a_returned_loss_is_no_layer() -> None:
    class Returns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)).square().mean()

    assert "at second; first / last" in summary(Returns(), by="loss")


def test_a_layer_of_one_unit_is_a_layer_for_a_batch_of_one() -> None:
    with watch(model := nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 1))) as trace:
        model(torch.ones(1, 3)).sum().backward()
    assert "at 0, 1 at 1; first / last" in repr(trace)


def test_traces_have_the_kind_that_a_quantity_implies() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer=optimizer) as trace:
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    kinds = {name: trace.series(name).kind for name in ("mean", "norm", "update_ratio", "loss", "state")}
    assert kinds == {
        "mean": "output",
        "norm": "parameter",
        "update_ratio": "update",
        "loss": "step",
        "state": "parameter",
    }
    assert isinstance(trace, Trace)
