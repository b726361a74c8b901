"""The options of `thruway dissect`, and their checks."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

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
    """Measure which layers of a trained network matter: find its branches, leave them out, and follow the gradient.

    Without data (from --data, --inputs, --text, or the target itself) only the structure is shown.
    """

    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TARGET")]
    """A run folder or one of its checkpoints, a Hugging Face model folder, or a function: package.module:function or
    path/to/file.py:function. It is called without arguments and returns a model, (model, example_inputs), or
    (model, example_inputs, batches)."""
    net: str | None = None
    """Name of the network, if the run folder holds several."""
    study: str | None = None
    """For a run folder of a study of your own: package.module:STUDY or path/to/file.py:STUDY."""
    weights: Path | None = None
    """State dict to load into the model of a function: a .safetensors or .pt file."""
    data: str | None = None
    """Name of a data set from `thruway list`. The model classifies its test part."""
    data_root: Path | None = None
    """Folder of the data sets. If unset, the default folders are searched."""
    download: bool = False
    """Download the data set if it is missing."""
    pixels: Literal["standardised", "raw"] = "standardised"
    """Pixels for --data: standardised by the mean and standard deviation of the training part, or raw, from 0 to 1."""
    inputs: Path | None = None
    """File of inputs: .npy, .npz, .safetensors or .pt (read without executing code). An entry named `targets` holds
    class indices or regression targets. The other entries are keyword arguments of the model; if the only one is
    `inputs`, it is the positional argument."""
    text: Path | None = None
    """Text file with one sentence per line, for a Hugging Face language model."""
    shape: tuple[int, ...] = ()
    """Shape of one input without the batch, such as 3 32 32. Needed without data if the shape cannot be inferred."""
    examples: int = 500
    """Maximum number of examples."""
    batch: int = 50
    """Batch size."""
    deletions: tuple[int, ...] = ()
    """Numbers of branches to leave out together. If unset, several numbers up to half of the branches."""
    draws: int = 10
    """Number of random sets for each number of deletions, and of random orders for each number of swaps."""
    path_examples: int = 16
    """Number of examples for the gradient by path length. If 0, it is not computed."""
    paths: int = 5
    """Number of random paths of each length for the published estimate of that gradient. If 0, it is not computed."""
    seed: int = 0
    """Seed of all random numbers."""
    structure: bool = False
    """Show the structure only, even if there is data."""
    device: str = "cpu"
    """Device of the model and the data."""
    threads: int | None = None
    """Number of CPU threads. If unset, PyTorch's default."""
    json: Path | None = None
    """Also write the results as JSON to this file, or with `-` to the standard output instead of the table."""
    out: Path | None = None
    """Folder for dissection.html and dissection.json. If unset, dissections/<target>, numbered if it exists."""


AT_LEAST = {"examples": 1, "batch": 1, "draws": 1, "path_examples": 0, "paths": 0, "seed": 0, "threads": 1}


def check_options(options: DissectOptions) -> None:
    """Check the options before anything is loaded.

    Raises:
        ConfigError: if an option is invalid; the message names it.

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
        raise ConfigError(f"{' and '.join(sources)} cannot be combined. Use one of them.")
    if any(count < 1 for count in options.deletions):
        raise ConfigError(f"--deletions takes numbers of branches, each at least 1, got {min(options.deletions)}.")
    if any(size < 1 for size in options.shape):
        raise ConfigError(f"--shape takes sizes of at least 1, got {' '.join(map(str, options.shape))}.")
