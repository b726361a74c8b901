"""Metrics and losses for each kind of target: classes, regression targets or, without targets, the intact output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from thruway.cli.dissect_batches import first_examples
from thruway.cli.dissect_data import InputData
from thruway.cli.dissect_options import DissectOptions
from thruway.cli.dissect_target import Batches
from thruway.dissecting import Dissection, Error, Loss, Metric
from thruway.dissecting.tracing.structure import tensors_in
from thruway.errors import ConfigError
from thruway.seeding import generator

__all__ = ["CosineDistance", "OutputChange", "Task", "main_output", "task_for"]


@dataclass(frozen=True)
class Task:
    """The metrics of lesions, and the losses whose gradients are taken.

    Attributes:
        metrics: the metrics; figures show the first.
        units: unit of each metric, by its name.
        loss: maps output and targets to one number per example, for predictions. None if there is no such loss.
        batches: pairs (inputs, targets) for that loss.
        path_loss: maps the output to one number per example, for the gradient by path length.
        path_loss_about: description of `path_loss`.
        path_unit: unit of the gradient norm of `path_loss`.
        path_inputs: examples for the gradient by path length.
    """

    metrics: tuple[Metric, ...]
    units: Mapping[str, str]
    loss: Callable[[Any, Any], Tensor] | None
    batches: Batches
    path_loss: Callable[[Any], Tensor]
    path_loss_about: str
    path_unit: str
    path_inputs: Any


def task_for(dissection: Dissection, data: InputData, options: DissectOptions) -> Task:
    """Choose the metrics and losses that fit the targets.

    Raises:
        ConfigError: if the targets are of no supported kind.
    """
    inputs, targets = data.batches[0]
    count = max(1, options.path_examples)  # at least one, for the shape of the output
    few, their = first_examples(inputs, count), first_examples(targets, count)
    if targets is None:
        return _unlabelled(dissection, data.batches, few, options.seed)
    if not isinstance(targets, Tensor):
        raise ConfigError(f"targets are {type(targets).__name__}. Give class indices, regression targets, or None.")
    with torch.no_grad():
        output = main_output(_called(dissection, few))
    if targets.is_floating_point():
        if their.shape != output.shape:
            raise ConfigError(
                f"regression targets of shape {tuple(their.shape)} do not match an output of shape "
                f"{tuple(output.shape)}. Class indices must be integers."
            )
        return Task(
            (Loss(data.batches, _squared),),
            {"loss": "squared error"},
            _squared,
            data.batches,
            lambda y: _squared(y, their),
            f"the mean squared error of an example, with respect to {_x_of(few)}",
            "squared error per unit of x",
            few,
        )
    _check_classes(their, output)
    return Task(
        (Error(data.batches, main_output), Loss(data.batches, _cross_entropy)),
        {"error": "share of wrong predictions", "loss": "nats"},
        _cross_entropy,
        data.batches,
        lambda y: _cross_entropy(y, their),
        f"the cross-entropy of an example with respect to {_x_of(few)}",
        "nats per unit of x",
        few,
    )


@dataclass(frozen=True, eq=False)
class OutputChange(Metric):
    """Relative change of the output, |h - h0| / |h0|, over all tokens of an example except padding.

    Args:
        batches: pairs of inputs and a target: the intact output h0, and a mask of its tokens or None.
    """

    batches: Batches

    name: ClassVar[str] = "output change"
    higher_is_better: ClassVar[bool] = False

    def scores(self, output: Any, target: Any) -> Tensor:
        before, mask = target
        after = main_output(output).detach()
        step, size = _masked(after.double() - before.double(), mask), _masked(before.double(), mask)
        ratio: Tensor = torch.linalg.vector_norm(step.flatten(1), dim=1)
        ratio = ratio / torch.linalg.vector_norm(size.flatten(1), dim=1)
        return ratio


@dataclass(frozen=True, eq=False)
class CosineDistance(Metric):
    """Change of the direction of the output, 1 - cos(h, h0), where h is the mean over the tokens of an example.

    Args:
        batches: as for `OutputChange`.
    """

    batches: Batches

    name: ClassVar[str] = "cosine distance"
    higher_is_better: ClassVar[bool] = False

    def scores(self, output: Any, target: Any) -> Tensor:
        before, mask = target
        after = _pooled(main_output(output).detach().double(), mask)
        u, v = F.normalize(after, dim=1), F.normalize(_pooled(before.double(), mask), dim=1)
        return (u - v).square().sum(1) / 2  # more accurate for small angles than 1 - cos


def main_output(output: Any) -> Tensor:
    """The main tensor of a model's output: itself, its last hidden state, its logits, or its first floating tensor.

    Raises:
        ConfigError: if there is no floating tensor.

    >>> main_output({"logits": torch.ones(1)})
    tensor([1.])
    """
    if isinstance(output, Tensor):
        return output
    content = dict(output) if isinstance(output, Mapping) else vars(output) if hasattr(output, "__dict__") else {}
    named = (content.get(name) for name in ("last_hidden_state", "logits"))
    tensors = (
        each for each in (*named, *(leaf for _, leaf in tensors_in(content or output))) if isinstance(each, Tensor)
    )
    found = next((each for each in tensors if each.is_floating_point()), None)
    if found is None:
        raise ConfigError(f"the model returned {type(output).__name__} without a floating tensor in it.")
    return found


def _unlabelled(dissection: Dissection, batches: Batches, few: Any, seed: int) -> Task:
    references: list[tuple[Any, Any]] = []
    with torch.no_grad():
        for inputs, _ in batches:
            intact = main_output(_called(dissection, inputs)).detach().clone()
            references.append((inputs, (intact, _mask_of(inputs, intact))))
    intact, mask = references[0][1]
    width = _pooled(intact, mask).shape[1]
    direction = F.normalize(torch.randn(width, generator=generator(seed, "direction")), dim=0).to(intact.device)
    mask = _mask_of(few, intact)

    def projected(output: Any) -> Tensor:
        pooled = _pooled(main_output(output), mask)
        return pooled @ direction.to(pooled.dtype)

    what = "mean of the output over the tokens of an example" if intact.dim() == 3 else "output"
    return Task(
        (OutputChange(references), CosineDistance(references)),
        {"output change": "|h - h0| / |h0|", "cosine distance": "1 - cos"},
        None,
        batches,
        projected,
        f"the {what}, along one random direction of length 1 (there is no loss without labels), "
        f"with respect to {_x_of(few)}",
        "units of h per unit of x",
        few,
    )


def _x_of(inputs: Any) -> str:
    """Description of the tensor that gradients are taken with respect to. Integer inputs have no gradient."""
    is_floating = any(leaf.is_floating_point() for _, leaf in tensors_in(inputs))
    return "x, the input" if is_floating else "x, the stream that the first branch reads"


def _called(dissection: Dissection, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return dissection.model(**inputs)
    return dissection.model(*inputs) if isinstance(inputs, tuple) else dissection.model(inputs)


def _mask_of(inputs: Any, output: Tensor) -> Tensor | None:
    """(batch, tokens), 0 for padding; None if nothing is padded."""
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    fits = isinstance(mask, Tensor) and output.dim() == 3 and mask.shape[1:] == output.shape[1:2]
    return mask if fits else None


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask[:, :, None].to(values.dtype)


def _pooled(values: Tensor, mask: Tensor | None) -> Tensor:
    """Reshape to (batch, features), with the mean over tokens if there are any."""
    if mask is not None:
        weights = mask[:, :, None].to(values.dtype)
        return (values * weights).sum(1) / weights.sum(1)
    return values.mean(1) if values.dim() == 3 else values.flatten(1)


def _cross_entropy(output: Any, targets: Tensor) -> Tensor:
    losses = F.cross_entropy(_classes_second(main_output(output), targets), targets, reduction="none")
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def _squared(output: Any, targets: Tensor) -> Tensor:
    errors = F.mse_loss(main_output(output), targets, reduction="none")
    return errors.flatten(1).mean(1) if errors.dim() > 1 else errors


def _classes_second(output: Tensor, targets: Tensor) -> Tensor:
    """Return the output as (batch, classes, ...), also if the classes are its last dimension."""
    return output.movedim(-1, 1) if output.shape[:-1] == targets.shape else output


def _check_classes(targets: Tensor, output: Tensor) -> None:
    if output.dim() != targets.dim() + 1 or targets.dtype == torch.bool:
        raise ConfigError(
            f"targets of shape {tuple(targets.shape)} and type {targets.dtype} do not fit an output of shape "
            f"{tuple(output.shape)}. Give class indices (batch,) for (batch, classes), or floating targets of the "
            "output's shape."
        )
    classes = _classes_second(output, targets).shape[1]
    if int(targets.max()) >= classes or int(targets.min()) < 0:
        raise ConfigError(
            f"the targets are classes {int(targets.min())} to {int(targets.max())}, but the model has {classes} "
            "classes, counted from 0. Give the data that it was trained on."
        )
