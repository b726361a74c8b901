"""Laws of path gradients that hold for any model: own nets, convolutions, Hugging Face transformers."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn

from thruway.dissecting import Loss, dissect
from thruway.networks import mlp, resnet
from thruway.nn import HighwayConv2d, HighwayStack, Residual

DOUBLE = torch.float64


class Model(NamedTuple):
    """A model, what it is called with, and the module whose output is where paths begin; None for the input."""

    net: nn.Module
    inputs: dict[str, torch.Tensor]
    start: nn.Module | None = None


def coins(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stirred(net: nn.Module) -> nn.Module:
    """Weights and statistics as after training, and different in every layer"""
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=coins(tensor.numel()), dtype=tensor.dtype))
    return net.double().eval()


def residual_net(order: str) -> Model:
    # Stages of other widths: their first modules have projections.
    net = resnet((2, 2), widths=(4, 6), order=order, shortcut="project", generator=coins())
    return Model(stirred(net), {"x": torch.randn(3, 3, 6, 6, generator=coins(1), dtype=DOUBLE)})


def highway_net() -> Model:
    net = mlp("highway", depth=6, width=5, inputs=4, classes=3, generator=coins())
    return Model(stirred(net), {"x": torch.randn(4, 4, generator=coins(1), dtype=DOUBLE)})


def fused_net() -> Model:
    net = nn.Sequential(nn.Linear(4, 5), HighwayStack(5, depth=4, gate_bias=-1.0, generator=coins()), nn.Linear(5, 3))
    return Model(stirred(net), {"input": torch.randn(4, 4, generator=coins(1), dtype=DOUBLE)})


def highway_convolutions() -> Model:
    mixed = nn.Sequential(
        HighwayConv2d(3, 3, generator=coins()), Residual(nn.Conv2d(3, 3, 3, padding=1)), nn.Flatten(), nn.Linear(48, 3)
    )
    return Model(stirred(mixed), {"input": torch.randn(2, 3, 4, 4, generator=coins(1), dtype=DOUBLE)})


def transformer(name: str) -> Model:
    hf = pytest.importorskip("transformers")
    ids = {"input_ids": torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])}
    if name == "BERT":
        config = hf.BertConfig(
            vocab_size=11, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=12
        )
        bert = hf.BertModel(config)
        return Model(stirred(bert), ids, bert.embeddings)
    tokens = {"bos_token_id": None, "eos_token_id": None}
    gpt = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=11, n_embd=8, n_layer=3, n_head=2, use_cache=False, **tokens))
    return Model(stirred(gpt), ids, gpt.transformer.drop)


MODELS: dict[str, Callable[[], Model]] = {
    "pre-activation ResNet": lambda: residual_net("pre"),
    "post-activation ResNet": lambda: residual_net("post"),
    "highway": highway_net,
    "fused highway": fused_net,
    "convolutions, gated and not": highway_convolutions,
    "BERT": lambda: transformer("BERT"),
    "GPT-2": lambda: transformer("GPT-2"),
}

# Importing transformers takes seconds.
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in ("BERT", "GPT-2") else []) for name in MODELS]


def built(name: str) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS[name]()


def first(output: object) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


def loss(output: object) -> torch.Tensor:
    return first(output).pow(3).flatten(1).sum(1)


def full_gradient(model: Model) -> torch.Tensor:
    if model.start is None:
        inputs = {name: tensor.clone().requires_grad_() for name, tensor in model.inputs.items()}
        return torch.autograd.grad(loss(model.net(**inputs)).sum(), list(inputs.values()))[0]
    begun: list[torch.Tensor] = []
    handle = model.start.register_forward_hook(lambda _module, _inputs, output: begun.append(output))
    output = model.net(**model.inputs)
    handle.remove()
    return torch.autograd.grad(loss(output).sum(), begun)[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_sum_over_lengths_is_the_full_gradient(name):
    model = built(name)
    d = dissect(model.net, model.inputs)
    ours = d.path_gradients(loss, keep=True)
    theirs = full_gradient(model)
    # Sums in float64 of some hundred terms, in another order.
    torch.testing.assert_close(ours.gradients.sum(0), theirs, rtol=1e-10, atol=1e-11 * theirs.abs().max().item())
    assert ours.paths == d.path_lengths().counts
    assert min(ours.mean[1:-1]) > 0  # there is something on every length


@pytest.mark.parametrize("name", NAMES)
def test_in_its_own_order_and_after_lesions_a_model_is_itself_to_the_bit(name):
    model = built(name)
    before = [tensor.clone() for tensor in (*model.net.parameters(), *model.net.buffers())]
    output = first(model.net(**model.inputs)).detach()
    d = dissect(model.net, model.inputs)
    n = len(d.branches)
    assert torch.equal(first(d.permute(range(n))(**model.inputs)), output)
    assert torch.equal(first(d.without()(**model.inputs)), output)
    for lesioned in (d.without(0), d.without(*range(n))):
        assert not torch.equal(first(lesioned(**model.inputs)), output)
    d.delete_each(Loss([(model.inputs, None)], lambda given, _: loss(given)))
    assert torch.equal(first(d.forward(**model.inputs)), output)
    after = [*model.net.parameters(), *model.net.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_delete_each_equals_the_model_without_each_branch(name):
    model = built(name)
    d = dissect(model.net, model.inputs)
    found = d.delete_each(Loss([(model.inputs, None)], lambda given, _: loss(given)))
    for branch in d.branches:
        with torch.no_grad():
            assert torch.equal(found.scores[branch.index], loss(d.without(branch)(**model.inputs)))
    assert len({row.value for row in found}) == len(d.branches)  # each is another lesion


@pytest.mark.parametrize("name", ["pre-activation ResNet", "highway"])
def test_no_pass_has_more_examples_than_asked_for(name):
    model = built(name)
    d = dissect(model.net, model.inputs)
    sizes: list[int] = []
    handle = model.net.register_forward_pre_hook(
        lambda _module, args, kwargs: sizes.append(len(first((*args, *kwargs.values())))), with_kwargs=True
    )
    d.path_gradients(loss, examples=2)
    chunked, whole = set(sizes), len(first(tuple(model.inputs.values())))
    sizes.clear()
    d.path_gradients(loss)
    handle.remove()
    assert max(chunked) == 2 < whole == max(sizes)
