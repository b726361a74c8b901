"""Folders of smaller models: the weights, and the recipe that makes the smaller architecture out of the full one."""

import json
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
from thruway.errors import CheckpointError, ConfigError

__all__ = ["load_pruned", "save_pruned"]

RECIPE, WEIGHTS, CARD = "thruway_removals.json", "model.safetensors", "README.md"
_FORMAT = 1
_LARGEST = 16 * 2**20  # bytes of a recipe
_MOST_LAYERS = 10_000  # in the configuration of a full model


def save_pruned(model: nn.Module, folder: str | Path) -> Path:
    """Save a smaller model from `Dissection.remove` in a folder that `load_pruned` reads.

    The folder holds the weights as safetensors, the recipe as JSON, and a model card. If only whole layers of a Hugging
    Face model are gone, plain transformers can load it, too. It appears when it is complete.

    Args:
        model: the smaller model, also after further training.
        folder: a folder that does not exist yet.
    Returns:
        The folder.
    Raises:
        ConfigError: if no branches have been removed from the model, the folder exists, or a block returns a structure
            that JSON cannot hold.
    """
    removals, target = removals_of(model), Path(folder)
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
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        if removals.config is not None and _has_whole_layers_only(removals):
            model.save_pretrained(made)  # type: ignore[operator]
        else:
            safetensors.torch.save_model(model, str(made / WEIGHTS))
        (made / RECIPE).write_text(text, encoding="utf-8")
        (made / CARD).write_text(_card(model, removals), encoding="utf-8")
        made.rename(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return target


def load_pruned(folder: str | Path, build: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Load a smaller model that `save_pruned` has saved. Nothing in the folder is run.

    Args:
        folder: the folder.
        build: function that returns the full model, with any weights. Not needed for Hugging Face models, whose full
            configuration is in the folder.
    Raises:
        ConfigError: if there is no configuration and `build` is None, or the recipe does not fit the model.
        CheckpointError: if a file is missing or damaged, or the weights do not fit.
    """
    source = Path(folder)
    removals, training = _read(source / RECIPE)
    weights = source / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{source} has no {WEIGHTS}.")
    if build is None and _has_whole_layers_only(removals) and removals.config is not None:
        model = _plain(_kind(removals.config), source)
        removals.note_in(model)
        return model.train(training)
    shapes, dtype = _shapes(weights)
    make = build if build is not None else _builder(removals, source)
    if build is None:
        # On the meta device first: a configuration with huge sizes fails here, without memory.
        with torch.device("meta"):
            _check_shapes(_changed(make(), removals), shapes, source)
    model = _changed(make(), removals)
    _check_shapes(model, shapes, source)
    model.to(dtype)
    try:
        safetensors.torch.load_model(model, str(weights))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{weights} does not fit the model: {_first_line(error)}") from error
    removals.note_in(model)
    return model.train(training)


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
        raise CheckpointError(f"{path} is larger than {_LARGEST:,} bytes: it is no recipe.")
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
        raise CheckpointError(f"{path} has a config that is no object, or a training flag that is no boolean.")
    return Removals(tuple(Recipe.from_json(entry) for entry in data["removals"]), data["config"]), data["training"]


def _shapes(path: Path) -> tuple[dict[str, tuple[int, ...]], torch.dtype]:
    """Return the shapes of the stored tensors, and the dtype of the first floating-point one."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            names = list(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            floating = (t for name in names if (t := file.get_tensor(name)).is_floating_point())
            return shapes, next(floating, torch.zeros(0)).dtype
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from error


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
                f"the configuration in {folder} makes no {kind.__name__}: {_first_line(error)}"
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
        raise ConfigError(f"transformers {transformers.__version__} has no model class {names!r}.")
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
