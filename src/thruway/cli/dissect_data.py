"""What the model is to work on: data that the user names, that came with the model, or random numbers of its form."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thruway import data
from thruway.cli.dissect_batches import batched, count_of, first_examples, part_of
from thruway.cli.dissect_options import DissectOptions
from thruway.cli.dissect_target import Batches, Target
from thruway.cli.dissect_weights import read_tensors
from thruway.dissecting.tracing.structure import map_structure, tensors_in
from thruway.errors import ConfigError
from thruway.integrations.hugging_face import example_inputs
from thruway.seeding import generator

__all__ = ["Material", "material_for"]

_TOKENS, _SIDE = 12, 32  # of random inputs


class Material(NamedTuple):
    """What is worked on.

    Attributes:
        example: a small input, to follow through the model.
        example_about: what that is, in words.
        batches: pairs (inputs, targets); empty where there is no data.
        about: what the data is, in words.
    """

    example: Any
    example_about: str
    batches: Batches
    about: str


def material_for(target: Target, options: DissectOptions) -> Material:
    """The data for a model, or an input of its form where there is none.

    Raises:
        ConfigError: if a file or data set is not known or does not fit, or the form of the input cannot be told.
        DatasetError: if the data set is not there.
    """
    batches, about = _data(target, options)
    device = torch.device(options.device)
    batches = [(_moved(inputs, device), _whole(_moved(targets, device))) for inputs, targets in batches]
    count = sum(count_of(inputs) for inputs, _ in batches)
    if batches:
        return Material(
            first_examples(batches[0][0], 2),
            f"the first examples of {about.removeprefix('the examples of ')}",
            batches,
            f"{about} ({count} example{'s' if count != 1 else ''})",
        )
    if target.example is not None:
        return Material(_moved(target.example, device), "the example that came with the model", (), "")
    example, told = _random(target.model, options)
    return Material(_moved(example, device), told, (), "")


def _data(target: Target, options: DissectOptions) -> tuple[Batches, str]:
    if options.structure:
        return (), ""
    if options.data is not None:
        return _named(options)
    if options.inputs is not None:
        return _from_file(target.model, options.inputs, options)
    if options.text is not None:
        return _sentences(target, options.text, options)
    return _at_most(target.batches or (), options.examples), target.data


def _named(options: DissectOptions) -> tuple[Batches, str]:
    name = str(options.data)
    test = data.load(name, options.data_root, train=False, limit=options.examples, download=options.download)
    if options.pixels == "standardised":
        test = test.standardised(*data.load(name, options.data_root).moments())
    return batched(
        test.images, test.labels, options.batch, options.examples
    ), f"the test part of {name}, {options.pixels}"


def _from_file(model: nn.Module, path: Path, options: DissectOptions) -> tuple[Batches, str]:
    held = read_tensors(path)
    targets = None
    if isinstance(held, dict):
        targets = held.pop("targets", None)
        held = held["inputs"] if set(held) == {"inputs"} else held
    if isinstance(held, list):
        held = tuple(held)
    sizes = {name: len(leaf) for name, leaf in tensors_in((held, targets)) if leaf.dim()}
    if not sizes or not count_of(held):
        raise ConfigError(f"{path} holds no inputs: tensors with an example in each row are wanted.")
    if len(set(sizes.values())) > 1:
        raise ConfigError(
            f"{path} holds tensors of {', '.join(map(str, sorted(set(sizes.values()))))} rows. Inputs and targets have "
            "a row for each example."
        )
    wanted = _precision_of(model)
    held = map_structure(
        held, lambda leaf: leaf.to(wanted) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
    )
    return batched(held, targets, options.batch, options.examples), f"the examples of {path.name}"


def _precision_of(model: nn.Module) -> torch.dtype:
    """Of the model's numbers: files from NumPy are in float64 where nobody thought of it."""
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)


def _sentences(target: Target, path: Path, options: DissectOptions) -> tuple[Batches, str]:
    if target.folder is None:
        raise ConfigError(
            "--text needs the words of a Hugging Face model folder, and the target is none. Give the folder, or "
            "inputs that the model takes as they are: --inputs FILE."
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise ConfigError(f"--text {path} cannot be read: {error.strerror}. Give a file with a sentence a line.") from (
            error
        )
    except UnicodeDecodeError as error:
        raise ConfigError(f"--text {path} is no UTF-8 text. Give a file with a sentence a line.") from error
    if not lines:
        raise ConfigError(f"--text {path} has no sentence in it. Give a file with a sentence a line.")
    tokens = target.folder.tokens(lines[: options.examples], options.batch)
    return [(inputs, None) for inputs in tokens], f"the sentences of {path.name}"


def _at_most(batches: Batches, most: int) -> Batches:
    kept: list[tuple[Any, Any]] = []
    for inputs, targets in batches:
        count = min(count_of(inputs), most)
        if count:
            kept.append(
                (part_of(inputs, 0, count), part_of(targets, 0, count))
                if count < count_of(inputs)
                else (inputs, targets)
            )
        most -= count
    return kept


def _random(model: nn.Module, options: DissectOptions) -> tuple[Any, str]:
    coins = generator(options.seed, "example")
    if options.shape:
        shape = (2, *options.shape)
        try:
            return torch.randn(shape, generator=coins), f"random numbers of the shape {shape} that was asked for"
        except RuntimeError as error:
            raise ConfigError(f"--shape: two inputs of shape {options.shape} do not fit into memory.") from error
    given = example_inputs(model, coins)
    if given is not None:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in given.items())
        return given, f"random numbers of the form that the model's config names: {shapes}"
    for name, module in model.named_modules():
        guessed = _guess(module, coins)
        if guessed is not None:
            shape = tuple(guessed.shape)
            return guessed, f"random numbers of shape {shape}, guessed from the first layer, {name or 'the model'}"
        if next(module.parameters(recurse=False), None) is not None:
            break
    raise ConfigError(
        f"which inputs {type(model).__name__} takes cannot be told from its layers. Let the function return "
        "(model, example_inputs), or give --shape 3 32 32, --inputs FILE or --data NAME."
    )


def _guess(module: nn.Module, coins: torch.Generator) -> Tensor | None:
    if isinstance(module, nn.Embedding):
        return torch.randint(module.num_embeddings, (2, _TOKENS), generator=coins)
    if isinstance(module, nn.Linear):
        return torch.randn(2, module.in_features, generator=coins)
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return torch.randn(2, module.in_channels, *[_SIDE] * (module.weight.dim() - 2), generator=coins)
    return None


def _whole(targets: Any) -> Any:
    """Class numbers of any width as torch wants them."""
    is_number = isinstance(targets, Tensor) and not (targets.is_floating_point() or targets.is_complex())
    return targets.long() if is_number and targets.dtype != torch.bool else targets


def _moved(structure: Any, device: torch.device) -> Any:
    return map_structure(structure, lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf)
