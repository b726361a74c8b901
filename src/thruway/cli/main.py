"""Entry point of the command line. Exit codes: 0 success, 1 failure or interruption, 2 invalid arguments."""

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
    "list": (list_command, "list the studies, their scales and the data sets"),
    "run": (run_command, "run a study, or resume an interrupted run"),
    "report": (report_command, "write the report of a finished or running run"),
    "dissect": (
        dissect_command,
        "measure the importance of the layers of a trained net (a run, a model folder, your own)",
    ),
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
        commands = "\n".join(f"  {name:8}{description}" for name, (_, description) in COMMANDS.items())
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
    except ThruwayError as error:
        _print_error(errors, str(error))
        return 2 if isinstance(error, ConfigError) else 1
    except ValidationError as error:
        _print_error(errors, _field_errors(error))
        return 2
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:  # the reader closed the pipe, as in `thruway run --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as error:  # raised by tyro for invalid arguments and --help
        return error.code if isinstance(error.code, int) else 2


def _print_error(errors: Console, message: str) -> None:
    errors.print("[bold red]error[/]", end=" ")
    # Without markup, since the message may quote user input with brackets.
    errors.print(message, markup=False, soft_wrap=True)


def _field_errors(validation: ValidationError) -> str:
    """Format the errors found by pydantic, one per line: the field, its value, and what is allowed."""
    lines = []
    for error in validation.errors():
        field = ".".join(str(part) for part in error["loc"])
        message = re.sub(" after validation, not [0-9]+$", "", error["msg"].removeprefix("Value error, "))
        value = "" if isinstance(error["input"], dict) else f"got {error['input']!r}: "
        name = f"{field}: " if field else ""  # an error of several fields names them in its message
        lines.append(f"{name}{value}{message[0].lower()}{message[1:]}")
    return "\n      ".join(lines)
