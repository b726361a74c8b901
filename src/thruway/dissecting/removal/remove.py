"""A smaller model: a copy without some branches, their modules and their parameters."""

import copy
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from torch import nn

from thruway.dissecting.errors import DissectError
from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.removal.comparing import run_once, why_different
from thruway.dissecting.removal.huggingface import cache_layer
from thruway.dissecting.removal.plan import RemovalPlan, plan_removal
from thruway.dissecting.removal.recipe import Recipe, Removals, removals_of
from thruway.dissecting.removal.stacks import kept_layers
from thruway.dissecting.removal.standins import Carry, Fill, carry_of, fill_of
from thruway.dissecting.running.engine import Engine, Which
from thruway.errors import ConfigError

__all__ = ["remove"]

_Call = tuple[tuple[Any, ...], dict[str, Any], Any]  # arguments and output of a module

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def remove(engine: Engine, *which: Which | Iterable[Which]) -> nn.Module:
    """Return a smaller model: a copy without these branches, given by index, name or Branch.

    The parameters and modules of the branches are gone, except those that something else needs. The copy is an ordinary
    module with the same signature, mode and dtype, independent of the dissection and of the model, which is not
    changed.

    A block that returns its input without its branches is taken out of its `nn.Sequential` or `nn.ModuleList`. A part
    of a block, such as its attention, is replaced by a module without parameters that returns zeros, and a block
    elsewhere by one that returns its input. The result is compared with `without(...)` on the example inputs, on larger
    ones, and in the other mode.

    Raises:
        ConfigError: for a branch that does not exist.
        DissectError: if the branches cannot be removed in this way: for example, if their modules run several times
            and are still needed.
    Source:
        Veit, Wilber & Belongie 2016, sec. 4.1, delete modules in place; the removal is ours.

    >>> import torch
    >>> from thruway.networks import mlp
    >>> from thruway.dissecting import dissect
    >>> net = mlp("highway", depth=4, width=8, inputs=4, classes=2)
    >>> d = dissect(net, torch.ones(1, 4))
    >>> small = d.remove(0, 2)
    >>> len(net.blocks), len(small.blocks)
    (3, 1)
    >>> torch.equal(small(torch.ones(5, 4)), d.without(0, 2)(torch.ones(5, 4)))
    True
    """
    if not which:
        raise ConfigError("pass the branches to remove, by index, name or Branch. An empty list returns a copy.")
    branches = engine.select(which)
    if not branches:
        return copy.deepcopy(engine.model)
    plan, calls = _planned(engine, branches)
    layers = kept_layers(engine.model, engine.tape, engine.branches, branches)
    reasons = []
    for takes_out, carries_parts in itertools.product((True, False), (False, True)):
        try:
            model = copy.deepcopy(engine.model)
            recipe = _recipe(engine, plan, calls, takes_out=takes_out, carries_parts=carries_parts)
            recipe = replace(recipe, branches=tuple(branch.name for branch in branches), layers=layers)
            recipe.apply(model)
            reason = why_different(engine, model, branches)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        if not reason:
            _noted(engine.model, recipe).note_in(model)
            return model
        reasons.append(reason)
    if plan.repeated:
        reasons.insert(0, f"{plan.repeated[0]} runs several times with the same parameters, and is still needed")
    raise DissectError(_why(engine, branches, "; ".join(dict.fromkeys(reasons))))


def _why(engine: Engine, branches: list[Branch], reason: str) -> str:
    names = ", ".join(branch.name for branch in branches[:4]) + ("" if len(branches) <= 4 else ", ...")
    return (
        f"{names} of {type(engine.model).__name__} cannot be removed: {reason}. without(...) computes the same, with "
        "all parameters in place."
    )


def _planned(engine: Engine, branches: list[Branch]) -> tuple[RemovalPlan, dict[str, _Call]]:
    """Return the plan and the calls of the modules that change. Blocks with results of their own are opened."""
    opened: set[str] = set()
    while True:
        plan = plan_removal(engine.tape, branches, opened)
        calls = _calls(engine, plan)
        found = {path for path in plan.carried if carry_of(*calls[path]) is None}
        if not found:
            return plan, calls
        opened |= found


def _recipe(
    engine: Engine, plan: RemovalPlan, calls: Mapping[str, _Call], *, takes_out: bool, carries_parts: bool
) -> Recipe:
    """Return the recipe that takes blocks out of their containers, and replaces other blocks and parts.

    Args:
        takes_out: False to replace blocks in containers, too, for models that count or index them.
        carries_parts: True for parts whose place is taken by their input, such as the changed half of a signal.
    """
    model, replaced = engine.model, dict[str, Carry | Fill]()
    for path, value in plan.unneeded.items():
        layer, channel = cache_layer(model.get_submodule(path)), _channel(model.get_submodule(path))
        carry = carry_of(*calls[path], layer=layer) if carries_parts else None
        standin = carry or fill_of(*calls[path], channel=channel, value=value, layer=layer)
        if standin is None:
            raise DissectError(f"{path} returns something other than tensors and numbers")
        replaced[path] = standin
    out: dict[str, list[str]] = {}
    for path in plan.carried:
        parent, _, name = path.rpartition(".")
        if takes_out and type(model.get_submodule(parent)) in (nn.Sequential, nn.ModuleList):
            out.setdefault(parent, []).append(name)
        else:
            layer = cache_layer(model.get_submodule(path))
            replaced[path] = cast(Carry, carry_of(*calls[path], layer=layer))
    kept = {}
    for parent, names in out.items():
        modules = list(model.get_submodule(parent)._modules)
        kept[parent] = tuple(place for place, name in enumerate(modules) if name not in names), len(modules)
    return Recipe(replaced=replaced, kept=kept, emptied=_left_behind(model, plan))


def _calls(engine: Engine, plan: RemovalPlan) -> dict[str, _Call]:
    """Return arguments and output of the last call of each module that changes, in one pass of the model."""
    calls: dict[str, _Call] = {}
    handles = []
    for path in (*plan.carried, *plan.unneeded):

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str = path) -> None:
            calls[path] = args, kwargs, output

        handles.append(engine.model.get_submodule(path).register_forward_hook(hook, with_kwargs=True))
    try:
        run_once(engine.model, engine.example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _channel(module: nn.Module) -> int:
    """Return the dimension of the output whose size does not depend on the input."""
    return 1 if any(isinstance(part, _CONVOLUTIONS) for part in module.modules()) else -1


def _left_behind(model: nn.Module, plan: RemovalPlan) -> tuple[str, ...]:
    """Return the names of the parameters that only the branches use, outside of the modules that go."""
    numbers = {id(parameter): number for number, parameter in enumerate(model.parameters())}
    names = [n for n, p in model.named_parameters(remove_duplicate=False) if numbers[id(p)] in plan.weights]
    return tuple(n for n in names if not any(n.startswith(f"{path}.") for path in (*plan.carried, *plan.unneeded)))


def _noted(full: nn.Module, recipe: Recipe) -> Removals:
    former = removals_of(full)
    if former is not None:
        return replace(former, recipes=(*former.recipes, recipe))
    config: Any = getattr(full, "config", None)
    is_hugging_face = hasattr(config, "to_dict") and hasattr(full, "save_pretrained")
    return Removals((recipe,), config.to_dict() | {"architectures": [type(full).__name__]} if is_hugging_face else None)
