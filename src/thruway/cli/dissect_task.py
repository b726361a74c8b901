"""By what a model is judged, told from its targets: classes, numbers to come near to, or its own intact output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from thruway.cli.dissect_batches import first_examples
from thruway.cli.dissect_data import Material
from thruway.cli.dissect_options import DissectOptions
from thruway.cli.dissect_target import Batches
from thruway.dissecting import Dissection, Error, Loss, Metric
from thruway.dissecting.tracing.structure import tensors_in
from thruway.errors import ConfigError
from thruway.seeding import generator

__all__ = ["Moved", "Task", "Turned", "main_output", "task_for"]


@dataclass(frozen=True)
class Task:
    """How lesions are measured, and of what the gradient is taken.

    Attributes:
        metrics: the first is what figures show.
        units: of each metric by its name.
        loss: one number per example of (output, targets), for predictions; None where none has a gradient.
        batches: pairs for that loss.
        path_loss: one number per example, of the output, on which the gradient is taken apart.
        path_loss_about: what it is, in words.
        path_unit: of its gradient's norm.
        path_inputs: those examples.
    """

    metrics: tuple[Metric, ...]
    units: Mapping[str, str]
    loss: Callable[[Any, Any], Tensor] | None
    batches: Batches
    path_loss: Callable[[Any], Tensor]
    path_loss_about: str
    path_unit: str
    path_inputs: Any


def task_for(dissection: Dissection, material: Material, options: DissectOptions) -> Task:
    """The task that the targets ask for.

    Raises:
        ConfigError: for targets that are none of the three.
    """
    inputs, targets = material.batches[0]
    count = max(1, options.path_examples)  # one shows the output's form, where no paths are wanted
    few, their = first_examples(inputs, count), first_examples(targets, count)
    if targets is None:
        return _unlabelled(dissection, material.batches, few, options.seed)
    if not isinstance(targets, Tensor):
        raise ConfigError(
            f"targets are {type(targets).__name__}. Give class numbers, numbers to come near to, or None."
        )
    with torch.no_grad():
        output = main_output(_called(dissection, few))
    if targets.is_floating_point():
        if their.shape != output.shape:
            raise ConfigError(
                f"targets of shape {tuple(their.shape)} are to come near to an output of shape {tuple(output.shape)}. "
                "Give them one shape; class numbers are whole numbers."
            )
        return Task(
            (Loss(material.batches, _squared),),
            {"loss": "squared error"},
            _squared,
            material.batches,
            lambda y: _squared(y, their),
            f"the mean squared error of an example, with respect to {_x_of(few)}",
            "squared error per unit of x",
            few,
        )
    _check_classes(their, output)
    return Task(
        (Error(material.batches, main_output), Loss(material.batches, _cross_entropy)),
        {"error": "share of wrong answers", "loss": "nats"},
        _cross_entropy,
        material.batches,
        lambda y: _cross_entropy(y, their),
        f"the cross-entropy of an example with respect to {_x_of(few)}",
        "nats per unit of x",
        few,
    )


@dataclass(frozen=True, eq=False)
class Moved(Metric):
    """How far the output is from that of the intact model: |h - h0| / |h0|, over all real tokens of an example.

    Args:
        batches: pairs of inputs and what the intact model made of them, with a mask of its real tokens or None.
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
class Turned(Metric):
    """How far the output is turned: 1 - cos(h, h0), with h the mean over the real tokens of an example.

    Args:
        batches: as for `Moved`.
    """

    batches: Batches

    name: ClassVar[str] = "cosine distance"
    higher_is_better: ClassVar[bool] = False

    def scores(self, output: Any, target: Any) -> Tensor:
        before, mask = target
        after = _pooled(main_output(output).detach().double(), mask)
        u, v = F.normalize(after, dim=1), F.normalize(_pooled(before.double(), mask), dim=1)
        return (u - v).square().sum(1) / 2  # which of small angles leaves more than 1 minus a rounded cosine


def main_output(output: Any) -> Tensor:
    """The tensor in what a model returns: itself, its last hidden state, its logits, or the first one.

    Raises:
        ConfigError: if there is no floating tensor.

    >>> main_output({"logits": torch.ones(1)})
    tensor([1.])
    """
    if isinstance(output, Tensor):
        return output
    held = dict(output) if isinstance(output, Mapping) else vars(output) if hasattr(output, "__dict__") else {}
    named = (held.get(name) for name in ("last_hidden_state", "logits"))
    tensors = (each for each in (*named, *(leaf for _, leaf in tensors_in(held or output))) if isinstance(each, Tensor))
    found = next((each for each in tensors if each.is_floating_point()), None)
    if found is None:
        raise ConfigError(f"the model returned {type(output).__name__} without a tensor of numbers in it.")
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
        (Moved(references), Turned(references)),
        {"output change": "|h - h0| / |h0|", "cosine distance": "1 - cos"},
        None,
        batches,
        projected,
        f"the {what}, along one random direction of length 1 (without labels there is no loss), "
        f"with respect to {_x_of(few)}",
        "units of h per unit of x",
        few,
    )


def _x_of(inputs: Any) -> str:
    """With respect to what gradients are taken: whole numbers, such as tokens, have none."""
    is_floating = any(leaf.is_floating_point() for _, leaf in tensors_in(inputs))
    return "x, the input" if is_floating else "x, what the first branch reads"


def _called(dissection: Dissection, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return dissection.model(**inputs)
    return dissection.model(*inputs) if isinstance(inputs, tuple) else dissection.model(inputs)


def _mask_of(inputs: Any, output: Tensor) -> Tensor | None:
    """(batch, tokens), 1 for real ones; None where nothing is padded."""
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    fits = isinstance(mask, Tensor) and output.dim() == 3 and mask.shape[1:] == output.shape[1:2]
    return mask if fits else None


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask[:, :, None].to(values.dtype)


def _pooled(values: Tensor, mask: Tensor | None) -> Tensor:
    """(batch, features): the mean over tokens where there are some."""
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
    """(batch, classes, ...), also of a model that has its classes last."""
    return output.movedim(-1, 1) if output.shape[:-1] == targets.shape else output


def _check_classes(targets: Tensor, output: Tensor) -> None:
    if output.dim() != targets.dim() + 1 or targets.dtype == torch.bool:
        raise ConfigError(
            f"targets of shape {tuple(targets.shape)} and type {targets.dtype} are no classes for an output of shape "
            f"{tuple(output.shape)}: (batch,) of class numbers for (batch, classes), or numbers of the output's shape."
        )
    classes = _classes_second(output, targets).shape[1]
    if int(targets.max()) >= classes or int(targets.min()) < 0:
        raise ConfigError(
            f"the targets are classes {int(targets.min())} to {int(targets.max())}, and the model tells {classes} "
            "apart, from 0. Give the data that it was trained on."
        )
