"""A Hugging Face model folder opened: its model, its words, and inputs of the form that it takes.

Behind the extra `transformers`. Weights are read from safetensors only, no code out of the folder is run, and
nothing is asked of any server.
"""

import contextlib
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thruway.errors import CheckpointError, ConfigError

__all__ = ["HuggingFaceFolder", "example_inputs", "is_model_folder", "open_folder"]

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# Without any of them transformers makes a tokenizer up, to which all words are unknown.
WORDS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken", "tekken.json")
LONGEST = 128  # tokens of a sentence; what is longer is cut
RANDOM_TOKENS = 12


@dataclass(frozen=True)
class HuggingFaceFolder:
    """A model out of a folder, in evaluation mode, on the CPU, in float32.

    Attributes:
        model: of the class that the config names.
        folder: where it lies.
    """

    model: Any
    folder: Path

    def tokens(self, sentences: Sequence[str], at_once: int) -> list[dict[str, Tensor]]:
        """The sentences as keywords for the model, in batches, all padded to the longest of them.

        Raises:
            ConfigError: if the model does not read text, or the folder has no tokenizer.
        """
        if getattr(self.model, "main_input_name", "") != "input_ids":
            raise ConfigError(
                f"{type(self.model).__name__} reads {getattr(self.model, 'main_input_name', 'something else')!r}, not "
                "text. Give its inputs in a file: --inputs FILE."
            )
        if not any(next(self.folder.glob(pattern), None) for pattern in WORDS):
            raise ConfigError(
                f"{self.folder} has no tokenizer: none of {', '.join(WORDS)} lies in it. Put that of the model there."
            )
        tokenizer = _tokenizer(self.folder)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        longest = min(LONGEST, int(tokenizer.model_max_length))
        # One length for all, since every length is a form of its own to look at.
        told = tokenizer(list(sentences), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        parts = {name: torch.split(tensor, at_once) for name, tensor in told.items() if isinstance(tensor, Tensor)}
        return [dict(zip(parts, each, strict=True)) for each in zip(*parts.values(), strict=True)]


def is_model_folder(folder: Path) -> bool:
    """Whether a folder looks like one."""
    return (folder / "config.json").is_file()


def open_folder(folder: Path) -> HuggingFaceFolder:
    """The model of a folder that `save_pretrained` wrote, with the class and the head that it was saved with.

    Raises:
        ConfigError: if transformers is not installed, the config is none, or the model needs code of its own.
        CheckpointError: if there are no weights as safetensors, or not all of them.
    """
    config = _config(folder)
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise CheckpointError(
            f"{folder} has a config.json and no {WEIGHTS[0]}. Other files of weights may run code when they are read, "
            "and are not: save the model anew with save_pretrained."
        )
    if "auto_map" in config:
        raise ConfigError(
            f"the model in {folder} needs code that lies with it, which is not run. Import it yourself, and give a "
            "function that builds it: package.module:function."
        )
    name = (config.get("architectures") or ["AutoModel"])[0]
    transformers = _transformers()
    kind = getattr(transformers, name, None)
    if kind is None:
        raise ConfigError(f"transformers {transformers.__version__} has no {name!r}, which config.json names.")
    with _quiet(transformers):
        try:
            model, found = kind.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # whatever is wrong with the folder, the answer is the same
            raise CheckpointError(f"the model in {folder} cannot be read: {_first_line(error)}") from error
    if found["missing_keys"] or found["mismatched_keys"]:
        missing = sorted(map(str, (*found["missing_keys"], *found["mismatched_keys"])))
        raise CheckpointError(
            f"{folder} has no weights for {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}, which "
            f"{name} needs; they would be random numbers. Take the class that was saved, in config.json."
        )
    # What is kept of a branch for later words could not be skipped.
    model.config.use_cache = False
    return HuggingFaceFolder(model.eval(), folder)


def example_inputs(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor] | None:
    """Two random examples of the form that a model of transformers takes; None if there is no telling.

    Token ids for what reads text, and standard normal pixels for what sees images.
    """
    name, config = getattr(model, "main_input_name", None), getattr(model, "config", None)
    if name == "input_ids" and isinstance(getattr(config, "vocab_size", None), int):
        ids = torch.randint(config.vocab_size, (2, RANDOM_TOKENS), generator=generator)  # type: ignore[union-attr]
        decoder = {"decoder_input_ids": ids} if getattr(config, "is_encoder_decoder", False) else {}
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **decoder}
    if name == "pixel_values":
        side = getattr(config, "image_size", None) or 224
        height, width = side if isinstance(side, (list, tuple)) else (side, side)
        shape = (2, getattr(config, "num_channels", 3), height, width)
        return {"pixel_values": torch.randn(shape, generator=generator)}
    return None


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / 'config.json'} is no JSON that can be read: {error}.") from error
    if not isinstance(config, dict) or not ("architectures" in config or "model_type" in config):
        raise ConfigError(
            f"{folder / 'config.json'} names no model: it has neither architectures nor model_type. Give a folder "
            "that save_pretrained wrote."
        )
    return config


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            "a Hugging Face folder needs transformers, which is not installed: pip install 'thruway[transformers]'."
        ) from error


def _tokenizer(folder: Path) -> Any:
    transformers = _transformers()
    with _quiet(transformers):
        try:
            return transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # as for the model
            raise ConfigError(f"the tokenizer in {folder} cannot be read: {_first_line(error)}") from error


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No bars and no warnings of others while a folder is read; what is wrong with it is told as an error."""
    log = transformers.utils.logging
    level, has_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if has_bars:
            log.enable_progress_bar()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
