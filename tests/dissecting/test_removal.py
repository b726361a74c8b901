"""Removal of branches: the outputs of the lesion, without the branches' own parameters."""

import copy
import pickle
import random
import re

import pytest
import torch
from torch import nn

from thruway.dissecting import DissectError, dissect
from thruway.errors import ConfigError
from thruway.networks import mlp, resnet

from .test_zoo import ZOO, numbers, specimen

INEXACT = ("highway MLP, fused",)  # layers of a stack are slices
READ = ("RWKV",)  # its code reads the weights of its parts when the mode changes
# Models whose branches share modules: leaving out one run of a module removes nothing.
SHARED = ("ALBERT", "Siamese", "universal transformer", "Euler steps", "GRU by hand")


def sets_of(count):
    """Return up to three single branches and half of all."""
    single = [[index] for index in sorted(random.Random(0).sample(range(count), min(count, 3)))]
    return [*single, sorted(random.Random(1).sample(range(count), count // 2))] if count > 2 else single


def changed(call):
    """Return other inputs of the same form."""
    args, kwargs = call

    def other(value):
        is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.flip(0) * 0.7 + 0.1 if is_float else value

    return tuple(map(other, args)), {name: other(value) for name, value in kwargs.items()}


def used_parameters(module, model, call):
    """Return the numbers of elements of the parameters of `model` on which the output of `module` depends."""
    args, kwargs = call
    outputs = [t for t in numbers(module, (args, kwargs)) if t.requires_grad]
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad([t.sum() for t in outputs], trained, allow_unused=True)
    return sum(p.numel() for p, g in zip(trained, gradients, strict=True) if g is not None)


@pytest.mark.parametrize("name", [name for name in ZOO if name not in SHARED + READ])
def test_the_removed_model_is_the_lesioned_one(name):
    s = specimen(name)
    intact = used_parameters(s.model, s.model, s.call)
    for chosen in sets_of(len(s.dissection.branches)):
        small, lesioned = s.dissection.remove(*chosen), s.dissection.without(*chosen)
        for call in (s.call, changed(s.call)):
            ours, expected = numbers(small, call), numbers(lesioned, call)
            assert len(ours) == len(expected)
            for a, b in zip(ours, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(b.detach().abs().max())))
        gone = sum(p.numel() for p in s.model.parameters()) - sum(p.numel() for p in small.parameters())
        if name not in INEXACT:
            assert gone == intact - used_parameters(lesioned, s.model, s.call), chosen
        assert not set(map(id, small.parameters())) & set(map(id, s.model.parameters()))
        assert small.training == s.model.training
    for key, value in s.model.state_dict().items():
        assert torch.equal(value, s.state[key])


@pytest.mark.parametrize("name", SHARED)
def test_a_module_that_is_still_needed_is_not_removed(name):
    with pytest.raises(DissectError, match=r"runs several times with the same parameters, and is still needed"):
        specimen(name).dissection.remove(0)


@pytest.mark.parametrize("name", READ)
def test_a_part_whose_weights_are_read_is_not_removed(name):
    with pytest.raises(DissectError, match="has no attribute 'weight'"):
        specimen(name).dissection.remove(0)


class Scaled(nn.Module):
    """A block whose scale is an argument."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(8, 8)

    def forward(self, x, scale):
        return x + scale * torch.tanh(self.f(x))


class ByPlace(nn.Module):
    """Blocks with a setting that depends on their place, and an output that may be masked or a list."""

    def __init__(self, kind):
        super().__init__()
        self.blocks, self.kind = nn.ModuleList(Scaled() for _ in range(4)), kind

    def forward(self, x):
        outputs = []
        for place, block in enumerate(self.blocks):
            x = block(x, place + 1.0 if self.kind == "masked" or self.training else 1.0)
            outputs.append(x)
        if self.kind == "masked":
            return x.masked_fill(torch.arange(8) == 0, float("-inf"))
        return outputs if self.kind == "list" else x


@pytest.mark.parametrize("kind", ["masked", "list", "training"])
def test_blocks_that_are_counted_are_replaced_where_they_stand(kind):
    """Outputs of -inf, the length of a list and the training mode show that blocks must not move up."""
    net, x = ByPlace(kind).eval(), torch.randn(3, 8)
    d = dissect(net, x)
    small = d.remove(0)
    assert len(small.blocks) == 4
    for mode in (False, True):
        ours, expected = small.train(mode)(x), d.without(0).train(mode)(x)
        assert len(ours) == len(expected)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b)


class Upsampled(nn.Module):
    """A block in which the size of the last module's output is twice that of its input."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 3, 2, 2), nn.ConvTranspose2d(3, 3, 2, 2)

    def forward(self, x):
        return torch.relu(x + self.up(torch.tanh(self.down(x))))


def test_other_sizes_than_those_of_the_example():
    d = dissect(nn.Sequential(Upsampled(), Upsampled()).eval(), torch.randn(1, 3, 8, 8))
    small = d.remove(0)
    for shape in ((1, 3, 8, 8), (5, 3, 16, 16), (2, 3, 12, 8)):
        x = torch.randn(shape)
        torch.testing.assert_close(small(x), d.without(0)(x))


class Embedded(nn.Module):
    """A branch that is made from indices alone, whose sizes are not those of the first floating-point argument."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 8)

    def forward(self, x, ids):
        return torch.relu(x + self.words(ids) * torch.sigmoid(x))


def test_a_size_that_cannot_be_known_is_an_error():
    d = dissect(Embedded().eval(), (torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.long)))
    with pytest.raises(DissectError, match="with twice as many examples"):
        d.remove(0)


def test_nothing_to_remove_is_an_error():
    with pytest.raises(ConfigError, match="pass the branches"):
        dissect(mlp("residual", 3, 8, inputs=5, classes=3), torch.ones(1, 5)).remove()


def small_models():
    made = torch.Generator().manual_seed(0)
    image, row = torch.randn(2, 3, 16, 16, generator=made), torch.randn(3, 5, generator=made)
    yield resnet(20, classes=4, generator=made).eval(), image, (1, 3, 4)
    yield mlp("highway", 6, 8, inputs=5, classes=3, generator=made), row, (0, 2)
    yield mlp("highway", 6, 8, inputs=5, classes=3, fused=True, generator=made), row, (0, 2)
    yield mlp("residual", 6, 8, inputs=5, classes=3, generator=made), row, (1, 2)


@pytest.mark.parametrize("place", range(4))
def test_a_removed_model_is_an_ordinary_module(place):
    net, x, which = list(small_models())[place]
    small = dissect(net, x).remove(*which)
    expected = small(x)
    for twin in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        twin.load_state_dict(small.state_dict(), strict=True)
        assert torch.equal(twin(x), expected)
    torch.testing.assert_close(torch.export.export(small, (x,)).module()(x), expected)
    before = [p.clone() for p in small.parameters()]
    small.train()
    optimizer = torch.optim.SGD(small.parameters(), 0.1)
    small(torch.cat([x, x])).square().mean().backward()
    optimizer.step()
    assert all(p.grad is not None for p in small.parameters())
    assert any(not torch.equal(p, q) for p, q in zip(small.parameters(), before, strict=True))


def test_layers_of_a_stack_are_those_that_stay():
    made = torch.Generator().manual_seed(0)
    net = mlp("highway", 6, 8, inputs=5, classes=3, fused=True, generator=made)
    small = dissect(net, torch.ones(2, 5)).remove(1, 3)
    assert torch.equal(small.blocks.weight, net.blocks.weight[[0, 2, 4]])
    assert small.blocks.depth == 3
    everything = dissect(net, torch.ones(2, 5)).remove(range(5))
    assert sum(p.numel() for p in everything.blocks.parameters()) == 0


def test_blocks_are_taken_out_of_their_containers():
    net = mlp("residual", 6, 8, inputs=5, classes=3, generator=torch.Generator().manual_seed(0))
    small = dissect(net, torch.ones(2, 5)).remove(1, 2)
    assert len(net.blocks) == 5
    for ours, theirs in zip(small.blocks, [net.blocks[0], net.blocks[3], net.blocks[4]], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_nothing_removed_is_a_copy():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    small = dissect(net, torch.ones(1, 3)).remove([])
    x = torch.randn(4, 3)
    assert torch.equal(small(x), net(x))
    assert small is not net
    assert small[0].weight is not net[0].weight


def test_a_branch_that_does_not_exist():
    net = mlp("residual", 3, 8, inputs=5, classes=3)
    with pytest.raises(ConfigError, match="has 2 branches"):
        dissect(net, torch.ones(1, 5)).remove(7)


def test_a_view_cannot_be_saved(tmp_path):
    view = dissect(mlp("residual", 3, 8, inputs=5, classes=3), torch.ones(1, 5)).without(0)
    for save in (
        lambda: view.state_dict(),
        lambda: view.save_pretrained(tmp_path),
        lambda: torch.save(view, tmp_path / "view.pt"),
        lambda: copy.deepcopy(view),
    ):
        with pytest.raises(DissectError, match=re.escape("dissection.remove(...)")):
            save()
