"""Which command, and how it ends: 0 done, 1 it went wrong or was interrupted, 2 it was asked wrongly."""

import os
import re
import sys
from collections.abc import Callable, Sequence

from pydantic import ValidationError
from rich.console import Console

from thruway.cli.dissect import dissect_command
from thruway.cli.run import run_command
from thruway.cli.show import list_command, report_command
from thruway.errors import ConfigError, ThruwayError, unknown_name

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "list": (list_command, "the experiments, their scales and the data sets"),
    "run": (run_command, "run an experiment, or go on with an interrupted one"),
    "report": (report_command, "write the report of a run again, or open what a running one has so far"),
    "dissect": (dissect_command, "which layers of a trained net do the work: a run, a Hugging Face folder, your own"),
}

_USAGE = """\
usage: thruway COMMAND ...

Build, watch and dissect very deep networks.

{commands}

examples:
  thruway run highway2015.depth --scale demo
  thruway run --resume runs/highway2015.depth-demo
  thruway dissect mypackage.models:resnet --data digits
  thruway COMMAND --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    errors = Console(stderr=True, highlight=False)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        commands = "\n".join(f"  {name:8}{what}" for name, (_, what) in COMMANDS.items())
        print(_USAGE.format(commands=commands), end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"thruway {version('thruway')}")
        return 0
    try:
        if arguments[0] not in COMMANDS:
            raise ConfigError(unknown_name("command", arguments[0], COMMANDS))
        return COMMANDS[arguments[0]][0](arguments[1:])
    except ThruwayError as wrong:
        _say(errors, str(wrong))
        return 2 if isinstance(wrong, ConfigError) else 1
    except ValidationError as wrong:
        _say(errors, _fields(wrong))
        return 2
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:  # whoever read our output has seen enough: `thruway run --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as ended:  # tyro's own refusals and --help
        return ended.code if isinstance(ended.code, int) else 2


def _say(errors: Console, what: str) -> None:
    errors.print("[bold red]error[/]", end=" ")
    # What the user typed may look like markup.
    errors.print(what, markup=False, soft_wrap=True)


def _fields(wrong: ValidationError) -> str:
    """Pydantic's findings in one line each: the field, what came, what is allowed."""
    lines = []
    for error in wrong.errors():
        field = ".".join(str(part) for part in error["loc"])
        message = re.sub(" after validation, not [0-9]+$", "", error["msg"].removeprefix("Value error, "))
        came = "" if isinstance(error["input"], dict) else f"got {error['input']!r}: "
        where = f"{field}: " if field else ""  # what is wrong with several fields together names them itself
        lines.append(f"{where}{came}{message[0].lower()}{message[1:]}")
    return "\n      ".join(lines)
