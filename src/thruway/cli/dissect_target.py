"""Loading the model to dissect: from a run folder, a Hugging Face folder, or a function of the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thruway.cli.dissect_factory import call_factory
from thruway.cli.dissect_options import DissectOptions
from thruway.cli.dissect_weights import load_weights
from thruway.cli.run import study_of_run
from thruway.dissecting import Dissection
from thruway.errors import ConfigError
from thruway.experiments.machinery import StoredNet, choose_net
from thruway.integrations.hugging_face import HuggingFaceFolder, is_model_folder, open_folder
from thruway.runs import open_run

__all__ = ["Batches", "Target", "open_target"]

# Pairs (inputs, targets). Targets are None without labels.
Batches = Sequence[tuple[Any, Any]]


@dataclass(frozen=True)
class Target:
    """A model, and the data that came with it.

    Attributes:
        name: short name for titles and folders.
        about: one line about the model.
        model: the model, in evaluation mode.
        example: example inputs, or None.
        batches: data, or None.
        data: description of the data.
        dissection: dissection of the model, if loading it included one.
        has_shortcuts: If False, there are no paths to analyse.
        folder: the folder of a Hugging Face model, with its tokenizer.
    """

    name: str
    about: str
    model: nn.Module
    example: Any = None
    batches: Batches | None = None
    data: str = ""
    dissection: Dissection | None = None
    has_shortcuts: bool = True
    folder: HuggingFaceFolder | None = None


def open_target(options: DissectOptions) -> Target:
    """Load the model that the options describe.

    Raises:
        ConfigError, RunError, CheckpointError, DatasetError: if something is missing or does not fit.
    """
    path = Path(options.target)
    # A name with a colon is a function, unless a path of that name exists.
    is_function = ":" in options.target and not path.exists()
    if options.weights is not None and not is_function:
        raise ConfigError("--weights are for the model of a function, package.module:function. Leave the option out.")
    if is_function:
        target = _of_function(options)
    elif not path.exists():
        raise ConfigError(
            f"there is no {options.target}. Give a run folder or a checkpoint in it, a Hugging Face model folder, or "
            "package.module:function."
        )
    elif is_model_folder(path):
        folder = open_folder(path)
        kind = type(folder.model).__name__
        target = Target(_name_of(path), f"{kind} from a Hugging Face folder", folder.model, folder=folder)
    else:
        target = _of_run(path, options)
    if options.net is not None and (is_function or is_model_folder(path)):
        raise ConfigError(
            f"--net selects a network of a run folder, but {options.target} is not a run folder. Leave the option out."
        )
    try:
        target.model.to(options.device).eval()
    except (RuntimeError, NotImplementedError) as error:  # out of memory, or a model on the meta device
        reason = str(error).strip().splitlines()[0][:300]
        raise ConfigError(f"{type(target.model).__name__} cannot be put on {options.device!r}: {reason}") from error
    return target


def _of_function(options: DissectOptions) -> Target:
    built = call_factory(options.target, options.examples)
    about = f"{type(built.model).__name__}, built by {options.target}"
    if options.weights is not None:
        load_weights(built.model, options.weights)
        about += f", with the weights of {options.weights.name}"
    name = options.target.replace(":", ".")
    return Target(name, about, built.model, built.example, built.batches, f"the batches that {options.target} returns")


def _of_run(path: Path, options: DissectOptions) -> Target:
    folder, named = _run_of(path)
    if named is not None and options.net is not None and options.net.partition("/")[0] != named:
        raise ConfigError(f"{path} is the checkpoint {named!r}, but --net is {options.net}. Give only one of them.")
    reader = open_run(folder)
    found = study_of_run(reader, options.study).nets(reader)
    kept = choose_net(found, options.net or _only_net(found, named), folder)
    dissection, test, has_shortcuts = kept.open(options.data_root, options.download)
    images, labels = test.images[: options.examples], test.labels[: options.examples]
    batches = list(zip(torch.split(images, options.batch), torch.split(labels, options.batch), strict=True))
    return Target(
        name=f"{_name_of(folder)}-{kept.name.replace('/', '-')}",
        about=f"{kept.about}, of the run {reader.name}",
        model=dissection.model,
        example=images[:2],
        batches=batches,
        data=f"the test part of {test.name} as the run prepared it",
        dissection=dissection,
        has_shortcuts=has_shortcuts,
    )


def _run_of(path: Path) -> tuple[Path, str | None]:
    """Return the run folder that contains a path, and the name of the checkpoint if the path is one.

    Raises:
        ConfigError: if the path is in no run folder.
    """
    for folder in (path, *path.absolute().parents[:3]):
        if (folder / "run.json").is_file():
            is_checkpoint = path.is_file() and path.parent.name == "checkpoints"
            return folder, path.name.split(".safetensors")[0].removesuffix(".json") if is_checkpoint else None
    what = "folder has neither run.json nor config.json" if path.is_dir() else "file is not in a run folder"
    raise ConfigError(
        f"{path}: this {what}, so the model is unknown. Give a run folder, a Hugging Face model folder, or a function "
        "that builds the model together with its weights: package.module:function --weights FILE."
    )


def _only_net(found: Mapping[str, StoredNet], checkpoint: str | None) -> str | None:
    """Return the name of the only network in a checkpoint; None without a checkpoint.

    Raises:
        ConfigError: if it holds several.
    """
    if checkpoint is None:
        return None
    names = [name for name in found if name == checkpoint or name.startswith(f"{checkpoint}/")]
    if len(names) > 1:
        raise ConfigError(
            f"{checkpoint} holds {len(names)} networks: {', '.join(names)}. Choose one: --net {names[0]}."
        )
    return names[0] if names else checkpoint


def _name_of(path: Path) -> str:
    return path.resolve().name or "model"
