"""What `thruway dissect` can be told, and which of it fits together."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from thruway.errors import ConfigError

__all__ = ["EXAMPLES", "DissectOptions", "check_options"]

EXAMPLES = """\
examples:
  thruway dissect runs/veit2016.lesion-demo --net net-resnet-0
  thruway dissect mypackage.models:resnet --data digits --deletions 1 2 4 8 --draws 20
  thruway dissect models/all-MiniLM-L6-v2 --text sentences.txt --out minilm"""


@dataclasses.dataclass(frozen=True)
class DissectOptions:
    """Which layers of a net do the work? Find its branches, leave them out, and follow the gradient.

    Without data (--data, --inputs, --text, or what the target brings along) only the structure is shown.
    """

    target: tyro.conf.Positional[str]
    """A run folder or one of its checkpoints, a Hugging Face model folder, or package.module:function. The function is
    called without arguments and returns a model, (model, example_inputs), or (model, example_inputs, batches)."""
    net: str | None = None
    """Which net, where a run folder keeps several; for a run with one net it may be left out."""
    weights: Path | None = None
    """For the model of a function: load these weights, a .safetensors or a .pt file of a state dict."""
    data: str | None = None
    """A data set that `thruway list` names: its test part is classified."""
    data_root: Path | None = None
    """Where the data lies; unset: the usual places."""
    download: bool = False
    """Get the data set if it is not there."""
    pixels: Literal["standardised", "raw"] = "standardised"
    """With --data: pixels less the training part's mean, divided by its deviation; or as they are, from 0 to 1."""
    inputs: Path | None = None
    """A file of inputs: .npy, .npz, .safetensors or .pt (read without running code). What is named `targets` in it are
    class numbers, or numbers to come near to; other names are the model's arguments, or `inputs` for the only one."""
    text: Path | None = None
    """For a Hugging Face model that reads text: a file with one sentence a line."""
    shape: tuple[int, ...] = ()
    """Without data: the shape of one input, such as 3 32 32, where it cannot be told from the model."""
    examples: int = 500
    """Examples used at most."""
    batch: int = 50
    """Examples that go through the model at once."""
    deletions: tuple[int, ...] = ()
    """Numbers of branches left out together; unset: up to half of the branches, in a few steps."""
    draws: int = 10
    """Random choices for each of those numbers, and for each number of swaps."""
    path_examples: int = 16
    """Examples on which the gradient is taken apart by path length; 0: it is not."""
    paths: int = 5
    """Single random paths of each length, as published, beside the exact gradient; 0: none."""
    seed: int = 0
    """Of all that is drawn."""
    structure: bool = False
    """Show the structure only, whatever data there is."""
    device: str = "cpu"
    threads: int | None = None
    """CPU threads; unset: torch's choice."""
    json: Path | None = None
    """Write what was found as JSON to this file too; - writes it to the standard output, and no table."""
    out: Path | None = None
    """The folder for dissection.html and dissection.json; unset: dissections/<target>, numbered if it is there."""


AT_LEAST = {"examples": 1, "batch": 1, "draws": 1, "path_examples": 0, "paths": 0, "seed": 0, "threads": 1}


def check_options(options: DissectOptions) -> None:
    """Refuse what cannot be done before anything is loaded.

    Raises:
        ConfigError: naming the option.

    >>> check_options(DissectOptions("a:b", data="digits", draws=0))
    Traceback (most recent call last):
    thruway.errors.ConfigError: --draws must be at least 1, got 0.
    """
    for name, least in AT_LEAST.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least {least}, got {value}.")
    sources = [f"--{name}" for name in ("data", "inputs", "text") if getattr(options, name) is not None]
    if len(sources) > 1:
        raise ConfigError(f"{' and '.join(sources)} both say what the model works on. Give one of them.")
    if any(count < 1 for count in options.deletions):
        raise ConfigError(f"--deletions counts branches, each number at least 1, got {min(options.deletions)}.")
    if any(size < 1 for size in options.shape):
        raise ConfigError(f"--shape has sizes of at least 1, got {' '.join(map(str, options.shape))}.")
