"""Loading of a Hugging Face model folder: its model, its tokenizer, and example inputs.

Loading requires the extra `transformers`. Weights are read from safetensors only, code in the folder is never run, and
no server is contacted.
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
# Without any of these files transformers creates an empty tokenizer, which maps every word to the unknown token.
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken", "tekken.json")
MAX_TOKENS = 128  # per sentence; longer ones are truncated
RANDOM_TOKENS = 12  # length of a random example


@dataclass(frozen=True)
class HuggingFaceFolder:
    """A model loaded from a folder, in evaluation mode, on the CPU, in float32.

    Attributes:
        model: instance of the class named in config.json.
        folder: folder from which it was loaded.
    """

    model: Any
    folder: Path

    def tokens(self, sentences: Sequence[str], batch_size: int) -> list[dict[str, Tensor]]:
        """Tokenize sentences into batches of keyword arguments for the model, all padded to the longest sentence.

        Raises:
            ConfigError: if the model does not read text, or the folder has no tokenizer.
        """
        if getattr(self.model, "main_input_name", "") != "input_ids":
            raise ConfigError(
                f"{type(self.model).__name__} reads {getattr(self.model, 'main_input_name', 'something else')!r}, not "
                "text. Pass its inputs in a file: --inputs FILE."
            )
        if not any(next(self.folder.glob(pattern), None) for pattern in TOKENIZER_FILES):
            raise ConfigError(
                f"{self.folder} has no tokenizer: none of {', '.join(TOKENIZER_FILES)} is in it. Save the model's "
                "tokenizer there."
            )
        tokenizer = _tokenizer(self.folder)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        longest = min(MAX_TOKENS, int(tokenizer.model_max_length))
        # All batches have one length, since a dissection traces each input shape separately.
        encoded = tokenizer(list(sentences), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        parts = {name: torch.split(each, batch_size) for name, each in encoded.items() if isinstance(each, Tensor)}
        return [dict(zip(parts, each, strict=True)) for each in zip(*parts.values(), strict=True)]


def is_model_folder(folder: Path) -> bool:
    """Return True if the folder contains a config.json."""
    return (folder / "config.json").is_file()


def open_folder(folder: Path) -> HuggingFaceFolder:
    """Load the model from a folder written by `save_pretrained`, with the class and the head with which it was saved.

    Raises:
        ConfigError: if transformers is not installed, config.json is not a model config, or the model needs code from
            the folder.
        CheckpointError: if there are no safetensors weights, or some are missing.
    """
    config = _config(folder)
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise CheckpointError(
            f"{folder} has a config.json but no {WEIGHTS[0]}. Other weight formats can run code when they are loaded "
            "and are not supported: save the model again with save_pretrained."
        )
    if "auto_map" in config:
        raise ConfigError(
            f"the model in {folder} needs code from that folder, which is not run. Import the code yourself and pass "
            "a function that builds the model: package.module:function."
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
        except Exception as error:  # from_pretrained raises almost any exception for a damaged folder
            raise CheckpointError(f"the model in {folder} cannot be read: {_first_line(error)}") from error
    if found["missing_keys"] or found["mismatched_keys"]:
        missing = sorted(map(str, (*found["missing_keys"], *found["mismatched_keys"])))
        raise CheckpointError(
            f"{folder} has no weights for {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}, which "
            f"{name} needs; they would be randomly initialised. Name the class that was saved in config.json."
        )
    # A key-value cache would keep values of a branch that a lesion skips.
    model.config.use_cache = False
    return HuggingFaceFolder(model.eval(), folder)


def example_inputs(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor] | None:
    """Return a batch of two random examples for a transformers model, or None if its input format is unknown.

    Text models get random token ids, image models standard normal pixels.
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
        raise ConfigError(f"{folder / 'config.json'} is not readable JSON: {error}.") from error
    if not isinstance(config, dict) or not ("architectures" in config or "model_type" in config):
        raise ConfigError(
            f"{folder / 'config.json'} names no model: it has neither architectures nor model_type. Pass a folder "
            "written by save_pretrained."
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
        except Exception as error:  # as in open_folder
            raise ConfigError(f"the tokenizer in {folder} cannot be read: {_first_line(error)}") from error


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Silence the progress bars and warnings of transformers. Problems raise exceptions instead."""
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
