"""Published architectures: all branches are found, no others, and lesions are exact.

The branches in the tables were read off the source code by hand, not taken from the results.
"""

import contextlib
import functools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from thruway.dissecting import Dissection, dissect
from thruway.dissecting.tracing.arguments import as_call
from thruway.dissecting.tracing.structure import reachable_tensors

from .zoo_own import OWN
from .zoo_transformers import TRANSFORMERS
from .zoo_vision import VISION

ZOO = {**TRANSFORMERS, **VISION, **OWN}
SOUNDS_AND_PAIRS = ("Whisper", "wav2vec 2.0", "CLIP")  # the other transformers read words, which have no gradient
STREAMS = [*SOUNDS_AND_PAIRS, *(n for n, c in {**VISION, **OWN}.items() if {e.kind for e in c.expected} - {"module"})]


@dataclass(frozen=True)
class Specimen:
    model: nn.Module
    call: tuple[tuple[Any, ...], dict[str, Any]]
    state: dict[str, torch.Tensor]
    hooks: int
    intact: list[torch.Tensor]
    dissection: Dissection


@functools.cache
def specimen(name):
    """A model in evaluation, with weights that are the same every time, as it was, and opened up."""
    case = ZOO[name]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(4)
        model = case.build().eval()
        for weight in model.parameters():  # as they start, some branches give nothing that float32 could see
            weight += 2 * torch.randn_like(weight) / (weight[0].numel() if weight.dim() > 1 else 10) ** 0.5
        call = as_call(case.inputs())
        state = {key: value.clone() for key, value in model.state_dict().items()}
        hooks, intact = hooks_in(model), numbers(model, call)
        return Specimen(model, call, state, hooks, intact, dissect(model, call[1] or call[0]))


def hooks_in(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def numbers(model, call):
    args, kwargs = call
    return [tensor for tensor in reachable_tensors(model(*args, **kwargs)) if tensor.is_floating_point()]


def same_bits(ours, theirs):
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@contextlib.contextmanager
def nulled(model, expected):
    """The model's own lesion: modules that give zeros, or what came in."""
    handles = []
    for place in expected.null:
        path, _, which = place.partition("@")
        handles.append(model.get_submodule(path).register_forward_hook(null_of(expected.kind, which)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def null_of(kind, which):
    calls = iter(range(1000))

    def null(_module, inputs, output):
        if which and next(calls) != int(which):
            return output
        return torch.zeros_like(output) if kind in ("identity", "projection") else inputs[0]

    return null


@pytest.mark.parametrize("name", ZOO)
def test_every_branch_is_found_and_no_other(name):
    d = specimen(name).dissection
    assert [(b.kind, b.name) for b in d.branches] == [(e.kind, e.name) for e in ZOO[name].expected]
    for words in ZOO[name].refused:
        assert any(words in refusal.reason for refusal in d.refused)


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_each_lesion_is_the_models_own(name):
    it = specimen(name)
    for branch, expected in zip(it.dissection.branches, ZOO[name].expected, strict=True):
        lesioned = numbers(it.dissection.without(branch), it.call)
        assert not same_bits(lesioned, it.intact), f"without {branch.name} nothing changed"
        if expected.null:
            with nulled(it.model, expected):
                assert same_bits(lesioned, numbers(it.model, it.call)), f"{branch.name} is not {expected.null}"


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_the_model_comes_out_as_it_went_in(name):
    it = specimen(name)
    without_all = numbers(it.dissection.without(*it.dissection.branches), it.call)
    assert same_bits(without_all, it.intact) == (not ZOO[name].expected)
    assert same_bits(numbers(it.dissection.forward, it.call), it.intact)
    assert same_bits(numbers(it.model, it.call), it.intact)
    assert all(torch.equal(value, it.state[key]) for key, value in it.model.state_dict().items())
    assert hooks_in(it.model) == it.hooks


def weighed(output):
    """One number that every number of an output counts in, each differently."""
    given = [tensor for tensor in reachable_tensors(output) if tensor.is_floating_point()]
    return sum((tensor * torch.linspace(0, 1, tensor.numel()).view_as(tensor)).sum() for tensor in given)


@pytest.mark.parametrize("name", STREAMS)
def test_gradients_by_path_length_add_up_to_autograds(name):
    it = specimen(name)
    args, kwargs = it.call
    parts = it.dissection.path_gradients(weighed, kwargs or args, keep=True).gradients
    x = next(tensor for tensor in reachable_tensors(it.call) if tensor.is_floating_point()).requires_grad_(True)
    (whole,) = torch.autograd.grad(weighed(it.model(*args, **kwargs)), x)
    x.requires_grad_(False)
    # 1e-5: float32, other order of sums; 2e-6 is the most that was seen
    assert (parts.sum(0) - whole).norm() < 1e-5 * whole.norm()


def test_the_zoo_is_large_and_its_lesions_have_twins():
    rows = [expected for case in ZOO.values() for expected in case.expected]
    assert len(ZOO) >= 70
    assert {row.kind for row in rows} == {"identity", "projection", "gated", "module"}
    assert sum(bool(row.null) for row in rows) > 0.9 * len(rows)
