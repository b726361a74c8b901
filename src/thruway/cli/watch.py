"""The command `thruway watch`: a training script, unchanged, while its layers are recorded."""

import dataclasses
import functools
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from thruway.cli.watch_findings import show_findings
from thruway.errors import ConfigError
from thruway.launch import Destination, Program, WatchSettings, find_module, find_script

__all__ = ["WatchOptions", "split_arguments", "watch_command"]

EXAMPLES = """\
examples:
  thruway watch train.py --epochs 3
  thruway watch --every 10 --out watched -m mypackage.train --epochs 3
  torchrun --nproc-per-node 2 -m thruway.watch train.py"""


@dataclasses.dataclass(frozen=True)
class WatchOptions:
    """Run a training script unchanged, record what its layers do, and report what is wrong with the training.

    The options below stand before the script; everything after it belongs to the script. When the script ends, also by
    an error or Ctrl-C, the diagnosis is printed to the standard error, and the traces and reports are saved. Exit code,
    output and random numbers are those of `python train.py`.
    """

    script: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="train.py ...")] = ""
    """The script, and its own arguments."""
    module: Annotated[str | None, tyro.conf.arg(aliases=["-m"])] = None
    """Module to run instead of a script, as with `python -m`."""
    every: int = 1
    """Record every n-th training step."""
    quantities: str | None = None
    """Names of the quantities to record, separated by commas. If unset, the default ones."""
    memory: int = 256
    """Maximum size of the numbers of one trace in memory, in MB. When it is reached, every other step is dropped."""
    out: Path | None = None
    """Folder for the traces and reports. If unset, thruway-watch, numbered if it exists."""
    report: bool = True
    """Write a report for every trace."""


VALUED = {"-m": "--module"} | {
    f"--{field.name}": f"--{field.name}"
    for field in dataclasses.fields(WatchOptions)
    if field.name in ("module", "every", "quantities", "memory", "out")
}


def watch_command(arguments: Sequence[str]) -> Callable[[], int]:
    """Check the options, and return a function that runs the script."""
    ours, theirs = split_arguments(arguments)
    for name in ("every", "memory"):
        _check_number(name, ours)
    options = tyro.cli(
        WatchOptions,
        prog="thruway watch",
        args=ours,
        description=f"{inspect.getdoc(WatchOptions)}\n\n{EXAMPLES}",
    )
    if not options.script and options.module is None:
        raise ConfigError(f"no script was given.\n{EXAMPLES}")
    settings = WatchSettings(
        options.every,
        _names(options.quantities),
        options.memory << 20,
        options.out,
    )
    if options.module is None:
        script = find_script(options.script, theirs)
    else:
        script = find_module(options.module, theirs)
    destination = Destination(options.out, os.environ)
    destination.check()
    finish = functools.partial(show_findings, writes_report=options.report)
    return Program(script, settings, destination, finish).run


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments after the script or the name of the module.

    >>> split_arguments(["--every", "2", "train.py", "--every", "5"])
    (['--every', '2', 'train.py'], ['--every', '5'])
    >>> split_arguments(["-m", "package.train", "--help"])
    (['--module', 'package.train'], ['--help'])
    """
    ours: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        name, _, value = word.partition("=")
        if word == "--":
            return [*ours, *left[:1]], left[1:]
        if not word.startswith("-") or word == "-":
            return [*ours, word], left
        ours.append(VALUED.get(word, word))
        if name in VALUED:
            if not value and "=" not in word and left:
                ours.append(left.pop(0))
            if VALUED[name] == "--module":
                return ours, left
    return ours, []


def _check_number(name: str, arguments: Sequence[str]) -> None:
    """Check the value of an option before the arguments are parsed, whose error speaks of Python's int()."""
    for index, word in enumerate(arguments):
        option, _, value = word.partition("=")
        if option != f"--{name}":
            continue
        if "=" not in word:
            value = arguments[index + 1] if index + 1 < len(arguments) else ""
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            got = repr(value) if value else "nothing"
            raise ConfigError(
                f"--{name} must be a whole number of at least 1, got {got}. Give, for example, {_USE[name]}."
            )


_USE = {"every": "--every 10 before the script", "memory": "--memory 512 before the script"}


def _names(quantities: str | None) -> tuple[str, ...]:
    """Return the names of quantities after a check in another process, since torch is not to be imported in this one.

    Raises:
        ConfigError: if one is unknown.
    """
    if quantities is None:
        return ()
    names = tuple(name.strip() for name in quantities.split(",") if name.strip())
    checked = subprocess.run(
        [sys.executable, "-c", _CHECK, *names], capture_output=True, text=True, check=False, env=_same_path()
    )
    if checked.returncode != 0:
        raise ConfigError(checked.stdout.strip() or f"--quantities cannot be checked: {checked.stderr.strip()}")
    return names


_CHECK = """\
import sys
from thruway.errors import ConfigError
from thruway.watching.arguments import check_probe, select_quantities
try:
    check_probe(select_quantities(sys.argv[1:]), None)
except ConfigError as error:
    sys.exit(print(error) or 2)
"""


def _same_path() -> dict[str, str]:
    """Return an environment in which Python finds the same thruway."""
    here = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))}
