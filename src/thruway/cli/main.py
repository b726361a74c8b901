"""Entry point of the command line. Exit codes: 0 success, 1 failure or interruption, 2 invalid arguments."""

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence

from pydantic import ValidationError
from rich.console import Console

from thruway.errors import ConfigError, ThruwayError, unknown_name

__all__ = ["COMMANDS", "main"]

# name: (its function, package.module:function, which is imported when it is called; description). A function returns
# the exit code or, to run a program of the user's, a function that does and returns the exit code.
COMMANDS: dict[str, tuple[str, str]] = {
    "list": ("thruway.cli.show:list_command", "list the studies, their scales and the data sets"),
    "run": ("thruway.cli.run:run_command", "run a study, or resume an interrupted run"),
    "report": ("thruway.cli.show:report_command", "write the report of a finished or running run"),
    "dissect": (
        "thruway.cli.dissect:dissect_command",
        "measure the importance of the layers of a trained net (a run, a model folder, your own)",
    ),
    "watch": ("thruway.cli.watch:watch_command", "run a training script unchanged, and report what is wrong with it"),
}

_USAGE = """\
usage: thruway COMMAND ...

Build, watch and dissect very deep networks.

{commands}

examples:
  thruway run highway2015.depth --scale demo
  thruway run --resume runs/highway2015.depth-demo
  thruway dissect mypackage.models:resnet --data digits
  thruway watch train.py --epochs 3
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
        outcome = _command(arguments[0])(arguments[1:])
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
    # Outside of the handlers above, because the exceptions of the user's program are its own.
    return outcome if isinstance(outcome, int) else outcome()


def _command(name: str) -> Callable[[Sequence[str]], int | Callable[[], int]]:
    module, _, function = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


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
