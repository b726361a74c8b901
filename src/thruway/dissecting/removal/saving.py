"""Folders of smaller models: the weights, and the recipe that makes the smaller architecture out of the full one."""

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from thruway.dissecting.removal.recipe import Recipe, Removals, removals_of
from thruway.dissecting.running.lesioned import Lesioned
from thruway.errors import CheckpointError, ConfigError

__all__ = ["load_pruned", "save_pruned"]

RECIPE, WEIGHTS, CARD = "thruway_removals.json", "model.safetensors", "README.md"
_FORMAT = 1
_LARGEST = 16 * 2**20  # bytes of a recipe
_MOST_LAYERS = 10_000  # in the configuration of a full model


def save_pruned(model: nn.Module, folder: str | Path) -> Path:
    """Save a smaller model from `Dissection.remove` in a folder that `load_pruned` reads.

    The folder holds the weights as safetensors, the recipe as JSON, and a model card. If only whole layers of a Hugging
    Face model are gone, plain transformers can load it, too. The folder gets its name when all files are written.

    Args:
        model: the smaller model, also after further training.
        folder: a folder that does not exist yet.
    Returns:
        The folder.
    Raises:
        ConfigError: if no branches have been removed from the model, the folder exists, or a block returns a structure
            that JSON cannot hold.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"save_pruned takes a torch.nn.Module, got {type(model).__name__}.")
    if isinstance(model, Lesioned) or hasattr(model, "_orig_mod"):
        what = "a view of a model" if isinstance(model, Lesioned) else "a compiled model"
        raise ConfigError(f"this is {what}. Pass the result of dissection.remove(...), before torch.compile.")
    target = _folder(folder)
    removals = removals_of(model)
    if removals is None:
        raise ConfigError(
            f"no branches have been removed from this {type(model).__name__}. Save the result of "
            "dissection.remove(...), or a full model with torch.save or save_pretrained."
        )
    if target.exists():
        raise ConfigError(f"{target} exists already. Pass a folder that does not exist.")
    data = {
        "format": _FORMAT,
        "removals": [recipe.to_json() for recipe in removals.recipes],
        "config": removals.config,
        "training": model.training,
    }
    text = json.dumps(data, indent=1, default=str)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ConfigError(f"the folder {target} cannot be made: {_first_line(error)}") from error
    try:
        if removals.config is not None and _has_whole_layers_only(removals):
            model.save_pretrained(made)  # type: ignore[operator]
        else:
            safetensors.torch.save_model(model, str(made / WEIGHTS))
        (made / RECIPE).write_text(text, encoding="utf-8")
        (made / CARD).write_text(_card(model, removals), encoding="utf-8")
        _share(made)
        made.rename(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return target


def load_pruned(folder: str | Path, build: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Load a smaller model that `save_pruned` has saved. No code from the folder is executed.

    Args:
        folder: the folder.
        build: function that returns the full model, with any weights. Not needed for Hugging Face models, whose full
            configuration is in the folder.
    Raises:
        ConfigError: if there is no configuration and `build` is None, or the recipe does not fit the model.
        CheckpointError: if a file is missing or damaged, or the weights do not fit.
    """
    source = _folder(folder)
    if build is not None and (isinstance(build, nn.Module) or not callable(build)):
        raise ConfigError(f"build must be a function that returns the full model, got {type(build).__name__}.")
    removals, training = _read(source / RECIPE)
    weights = source / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{source} has no {WEIGHTS}.")
    if build is None and _has_whole_layers_only(removals) and removals.config is not None:
        model = _plain(_kind(removals.config), source)
        removals.note_in(model)
        return model.train(training)
    shapes, dtypes = _shapes(weights)
    make = build if build is not None else _builder(removals, source)
    if build is None:
        # On the meta device first: a configuration with huge sizes fails here, without memory.
        with torch.device("meta"):
            _check_shapes(_changed(make(), removals), shapes, source)
    model = _changed(make(), removals)
    _check_shapes(model, shapes, source)
    _cast(model, dtypes)
    try:
        safetensors.torch.load_model(model, str(weights))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{weights} does not fit the model: {_first_line(error)}") from error
    removals.note_in(model)
    return model.train(training)


def _folder(folder: Any) -> Path:
    if not isinstance(folder, (str, os.PathLike)) or not str(folder):
        raise ConfigError(f"folder must be a path, got {folder!r}.")
    return Path(folder)


def _share(folder: Path) -> None:
    """Give a temporary folder and its files the usual permissions, those that the umask leaves."""
    umask = os.umask(0)
    os.umask(umask)
    for path in (folder, *folder.iterdir()):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def _has_whole_layers_only(removals: Removals) -> bool:
    return not any(recipe.replaced or recipe.layers or recipe.emptied for recipe in removals.recipes)


def _card(model: nn.Module, removals: Removals) -> str:
    names = [name for recipe in removals.recipes for name in recipe.branches]
    count = sum(p.numel() for p in model.parameters())
    is_plain = removals.config is not None and _has_whole_layers_only(removals)
    arguments = "folder" if removals.config is not None else "folder, build"
    return "\n".join(
        [
            f"# {type(model).__name__} without {len(names)} branches",
            "",
            f"{count:,} parameters remain. These branches of the full model are gone:",
            "",
            *(f"- `{name}`" for name in names),
            "",
            f"Load it with `thruway.load_pruned({arguments})`" + (", or with plain transformers." if is_plain else "."),
            "",
        ]
    )


def _read(path: Path) -> tuple[Removals, bool]:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}: it was not written by save_pruned.")
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{path} is larger than {_LARGEST:,} bytes: it is not a recipe.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from error
    fields = ["config", "format", "removals", "training"]
    if not isinstance(data, dict) or sorted(data) != fields or not isinstance(data["removals"], list):
        raise CheckpointError(f"{path} must have the entries {', '.join(fields)}.")
    if data["format"] != _FORMAT:
        raise CheckpointError(f"{path} has format {data['format']!r}; this version reads format {_FORMAT}.")
    if not (data["config"] is None or isinstance(data["config"], dict)) or not isinstance(data["training"], bool):
        raise CheckpointError(f"{path} must have an object as config, and true or false as training.")
    return Removals(tuple(Recipe.from_json(entry) for entry in data["removals"]), data["config"]), data["training"]


def _shapes(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, torch.dtype]]:
    """Return the shapes and dtypes of the stored tensors."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from error
    return {name: tuple(t.shape) for name, t in tensors.items()}, {name: t.dtype for name, t in tensors.items()}


def _cast(model: nn.Module, dtypes: dict[str, torch.dtype]) -> None:
    """Give each stored tensor its dtype. Other tensors, such as buffers that are not saved, stay as they were built."""
    tensors = dict(
        itertools.chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    )
    for name, dtype in dtypes.items():
        if tensors[name].dtype != dtype:
            tensors[name].data = tensors[name].data.to(dtype)


def _builder(removals: Removals, folder: Path) -> Callable[[], nn.Module]:
    config = removals.config
    if config is None:
        raise ConfigError(
            f"{folder} has no configuration from which the full model can be built. Pass a function that builds it: "
            "load_pruned(folder, build=lambda: MyModel())."
        )
    kind = _kind(config)
    large = [k for k, v in config.items() if "layers" in k and isinstance(v, int) and v > _MOST_LAYERS]
    if large:
        raise ConfigError(
            f"the configuration in {folder} has {large[0]} = {config[large[0]]:,}; at most {_MOST_LAYERS:,}."
        )

    def build() -> nn.Module:
        settings: Any = kind.config_class
        try:
            made: nn.Module = kind(settings.from_dict(dict(config)))
        except Exception as error:  # a configuration can be wrong in any way
            raise ConfigError(
                f"the configuration in {folder} cannot build a {kind.__name__}: {_first_line(error)}"
            ) from error
        return made

    return build


def _kind(config: dict[str, Any]) -> Any:
    """Return the class of transformers that a configuration names."""
    try:
        import transformers
    except ImportError as error:
        raise ConfigError("this is a Hugging Face model: install thruway[transformers] to load it.") from error
    names = config.get("architectures")
    kind = getattr(transformers, str(names[0]), None) if isinstance(names, list) and names else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise ConfigError(
            f"transformers {transformers.__version__} has no model class {names!r}. For a class of your own, pass a "
            "function that builds the full model: load_pruned(folder, build=...)."
        )
    return kind


def _plain(kind: Any, folder: Path) -> nn.Module:
    """Load a folder that plain transformers can load, without missing weights."""
    try:
        model, found = kind.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype="auto",
            output_loading_info=True,
        )
    except Exception as error:  # from_pretrained raises almost any exception for a damaged folder
        raise CheckpointError(f"the model in {folder} cannot be read: {_first_line(error)}") from error
    missing = sorted(map(str, (*found["missing_keys"], *found["mismatched_keys"])))
    if missing:
        raise CheckpointError(f"{folder} has no weights for {', '.join(missing[:3])}.")
    loaded: nn.Module = model
    return loaded


def _changed(model: nn.Module, removals: Removals) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ConfigError(f"build must return the full model, a torch.nn.Module, but returned {type(model).__name__}.")
    for recipe in removals.recipes:
        recipe.apply(model)
    return model


def _check_shapes(model: nn.Module, shapes: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Raise an error if a stored tensor has another shape than that of the model. Tied tensors are stored once."""
    expected: dict[str, Any] = model.state_dict()
    for name, shape in shapes.items():
        if name not in expected:
            raise CheckpointError(f"{folder} has weights for {name}, which the model does not have.")
        if tuple(expected[name].shape) != shape:
            raise CheckpointError(
                f"{name} has shape {shape} in {folder}, and {tuple(expected[name].shape)} in the model."
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
