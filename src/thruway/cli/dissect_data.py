"""Inputs for the model: data named by the user or provided by the target, or random numbers."""

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

__all__ = ["InputData", "load_input_data"]

_TOKENS, _SIDE = 12, 32  # sequence length and image size of random inputs


class InputData(NamedTuple):
    """An example for finding the branches, and data for measuring lesions.

    Attributes:
        example: a small input.
        example_about: description of `example`.
        batches: pairs (inputs, targets); empty without data.
        about: description of the data.
    """

    example: Any
    example_about: str
    batches: Batches
    about: str


def load_input_data(target: Target, options: DissectOptions) -> InputData:
    """Load the data for a model, or make a random input if there is none.

    Raises:
        ConfigError: if a file or data set is unknown or does not fit, or the shape of the input cannot be determined.
        DatasetError: if the data set is missing.
    """
    batches, about = _data(target, options)
    device = torch.device(options.device)
    batches = [(_to_device(inputs, device), _as_int64(_to_device(targets, device))) for inputs, targets in batches]
    count = sum(count_of(inputs) for inputs, _ in batches)
    if batches:
        return InputData(
            first_examples(batches[0][0], 2),
            f"the first examples of {about.removeprefix('the examples of ')}",
            batches,
            f"{about} ({count} example{'s' if count != 1 else ''})",
        )
    if target.example is not None:
        return InputData(_to_device(target.example, device), "the example returned with the model", (), "")
    example, about = _random(target.model, options)
    return InputData(_to_device(example, device), about, (), "")


def _data(target: Target, options: DissectOptions) -> tuple[Batches, str]:
    if options.structure:
        return (), ""
    if options.data is not None:
        return _from_data_set(options)
    if options.inputs is not None:
        return _from_file(target.model, options.inputs, options)
    if options.text is not None:
        return _from_text(target, options.text, options)
    return _limited(target.batches or (), options.examples), target.data


def _from_data_set(options: DissectOptions) -> tuple[Batches, str]:
    name = str(options.data)
    test = data.load(name, options.data_root, train=False, limit=options.examples, download=options.download)
    if options.pixels == "standardised":
        test = test.standardised(*data.load(name, options.data_root).moments())
    return batched(
        test.images, test.labels, options.batch, options.examples
    ), f"the test part of {name}, {options.pixels}"


def _from_file(model: nn.Module, path: Path, options: DissectOptions) -> tuple[Batches, str]:
    content = read_tensors(path)
    targets = None
    if isinstance(content, dict):
        targets = content.pop("targets", None)
        content = content["inputs"] if set(content) == {"inputs"} else content
    if isinstance(content, list):
        content = tuple(content)
    sizes = {name: len(leaf) for name, leaf in tensors_in((content, targets)) if leaf.dim()}
    if not sizes or not count_of(content):
        raise ConfigError(f"{path} holds no inputs. Provide tensors with one example per row.")
    if len(set(sizes.values())) > 1:
        raise ConfigError(
            f"{path} holds tensors of {', '.join(map(str, sorted(set(sizes.values()))))} rows. Inputs and targets need "
            "one row per example."
        )
    dtype = _precision_of(model)
    content = map_structure(
        content, lambda leaf: leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
    )
    return batched(content, targets, options.batch, options.examples), f"the examples of {path.name}"


def _precision_of(model: nn.Module) -> torch.dtype:
    """The floating-point dtype of the model. Inputs are converted to it, since NumPy files often hold float64."""
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)


def _from_text(target: Target, path: Path, options: DissectOptions) -> tuple[Batches, str]:
    if target.folder is None:
        raise ConfigError(
            "--text needs the tokenizer of a Hugging Face model folder, and the target is not one. Give the folder, or "
            "tensors with --inputs FILE."
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise ConfigError(
            f"--text {path} cannot be read: {error.strerror}. Give a file with one sentence per line."
        ) from (error)
    except UnicodeDecodeError as error:
        raise ConfigError(f"--text {path} is not UTF-8 text. Give a file with one sentence per line.") from error
    if not lines:
        raise ConfigError(f"--text {path} contains no sentence. Give a file with one sentence per line.")
    tokens = target.folder.tokens(lines[: options.examples], options.batch)
    return [(inputs, None) for inputs in tokens], f"the sentences of {path.name}"


def _limited(batches: Batches, most: int) -> Batches:
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
    rng = generator(options.seed, "example")
    if options.shape:
        shape = (2, *options.shape)
        try:
            return torch.randn(shape, generator=rng), f"random numbers of the requested shape {shape}"
        except RuntimeError as error:
            raise ConfigError(f"--shape: two inputs of shape {options.shape} do not fit into memory.") from error
    configured = example_inputs(model, rng)
    if configured is not None:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in configured.items())
        return configured, f"random numbers of the shapes in the model's config: {shapes}"
    for name, module in model.named_modules():
        guessed = _guess(module, rng)
        if guessed is not None:
            shape = tuple(guessed.shape)
            return guessed, f"random numbers of shape {shape}, guessed from the first layer, {name or 'the model'}"
        if next(module.parameters(recurse=False), None) is not None:
            break
    raise ConfigError(
        f"the input shape of {type(model).__name__} cannot be inferred from its layers. Let the function return "
        "(model, example_inputs), or give --shape 3 32 32, --inputs FILE or --data NAME."
    )


def _guess(module: nn.Module, rng: torch.Generator) -> Tensor | None:
    if isinstance(module, nn.Embedding):
        return torch.randint(module.num_embeddings, (2, _TOKENS), generator=rng)
    if isinstance(module, nn.Linear):
        return torch.randn(2, module.in_features, generator=rng)
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return torch.randn(2, module.in_channels, *[_SIDE] * (module.weight.dim() - 2), generator=rng)
    return None


def _as_int64(targets: Any) -> Any:
    """Return class indices as int64, which PyTorch's losses require."""
    is_number = isinstance(targets, Tensor) and not (targets.is_floating_point() or targets.is_complex())
    return targets.long() if is_number and targets.dtype != torch.bool else targets


def _to_device(structure: Any, device: torch.device) -> Any:
    return map_structure(structure, lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf)
