"""The user's script: found, compiled and run as `__main__`, as the python command does it."""

import importlib.machinery
import importlib.util
import io
import os
import sys
import traceback
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thruway.errors import ConfigError, ThruwayError

__all__ = ["Script", "find_module", "find_script"]


@dataclass(frozen=True)
class Script:
    """A program that can be run as `__main__`.

    Attributes:
        name: path of the file or name of the module, as the user gave it.
        argv: `sys.argv` of the program.
        file: `__file__` of the program.
        folder: first entry of `sys.path`, where the program finds the modules beside it.
        spec: of a program that was given as a module (`-m`); None for a file.
    """

    name: str
    argv: tuple[str, ...]
    file: str
    folder: str
    spec: importlib.machinery.ModuleSpec | None = None

    def load(self) -> tuple[types.CodeType, types.ModuleType]:
        """Compile the program, and make it the `__main__` module.

        Workers started by the multiprocessing method "spawn" import the `__main__` module by its `__file__` or
        `__spec__`, and pickle finds classes in it, so the module is left in place afterwards.

        Raises:
            SyntaxError: if it is not valid Python.
        """
        module = types.ModuleType("__main__")
        values: dict[str, Any] = {"__builtins__": sys.modules["builtins"], "__annotations__": {}, "__file__": self.file}
        if self.spec is None:
            loader: Any = importlib.machinery.SourceFileLoader("__main__", self.file)
            values |= {"__loader__": loader, "__cached__": None}
            with io.open_code(self.file) as source:
                code = compile(source.read(), self.file, "exec", dont_inherit=True)
        else:
            loader = self.spec.loader
            values |= {"__loader__": loader, "__cached__": self.spec.cached, "__package__": self.spec.parent}
            code = loader.get_code(self.spec.name)
            values["__spec__"] = self.spec
        vars(module).update(values)
        sys.argv[:] = self.argv
        if not sys.flags.safe_path:
            sys.path[0] = self.folder  # where the thruway command or the current folder was
        sys.modules["__main__"] = module
        return code, module


def find_script(path: str, arguments: Sequence[str]) -> Script:
    """Return the program in a file.

    Raises:
        ConfigError: if there is no such file, or it does not contain Python.
    """
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder. Give the script itself, such as {os.path.join(path, 'train.py')}.")
    if not os.path.isfile(path):
        raise ConfigError(
            f"there is no script {path!r} in {os.getcwd()}. Give the path of a Python file, or -m MODULE."
        )
    _check_python(path)
    # As the python command does it: the path is not normalised, and the folder has no symbolic links.
    file = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    return Script(path, (path, *arguments), file, os.path.dirname(os.path.realpath(path)))


def _check_python(path: str) -> None:
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}. Give a Python file.") from error
    try:
        if b"\0" in source:
            raise ValueError("it has null bytes")
        importlib.util.decode_source(source)
        if Path(path).suffix not in (".py", ".pyw", ""):
            compile(source, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        if Path(path).suffix in (".py", ".pyw", ""):
            return  # shown as the python command shows it, when the script is run
        raise ConfigError(f"{path} is not a Python script: {error}. Give a Python file.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not a Python script: {error}. Give a Python file.") from error


def find_module(name: str, arguments: Sequence[str]) -> Script:
    """Return the program of a module or package, as `python -m` would run it.

    Raises:
        ConfigError: if there is no such module, or a package has no `__main__`.
        ThruwayError: if the package that contains it cannot be imported.
    """
    folder = os.getcwd()
    if not sys.flags.safe_path:
        sys.path[0] = folder
    if name.endswith(".py") and os.path.isfile(name):
        raise ConfigError(f"{name} is a file, not the name of a module. Give it without -m.")
    if not all(name.split(".")):
        raise ConfigError(f"{name!r} is not the name of a module. {_GIVE}")
    spec = _find_spec(name, f"there is no module {name!r}")
    if spec.submodule_search_locations is not None:
        spec = _find_spec(f"{name}.__main__", f"{name} is a package without a __main__ module, so it cannot be run")
    if spec.loader is None or not hasattr(spec.loader, "get_code") or spec.origin is None:
        raise ConfigError(f"the module {name!r} has no Python code. Give a module that `python -m` can run.")
    return Script(name, (spec.origin, *arguments), spec.origin, folder, spec)


_GIVE = "Give the name as for `python -m`, or a file."


def _find_spec(name: str, message: str) -> importlib.machinery.ModuleSpec:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken_package(name, error) from error
        spec = None
    except ValueError:  # a module without a spec
        spec = None
    except Exception as error:
        raise _broken_package(name, error) from error
    if spec is None:
        raise ConfigError(f"{message}. {_GIVE}")
    return spec


def _broken_package(name: str, error: Exception) -> ThruwayError:
    """Return the error of a package that raised one when it was imported to find the module."""
    where = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.isfile(frame.filename)]
    place = f" ({where[-1].filename}, line {where[-1].lineno})" if where and where[-1].filename != __file__ else ""
    package = name.rpartition(".")[0] or name
    return ThruwayError(f"the package {package!r} cannot be imported: {type(error).__name__}: {error}{place}")
