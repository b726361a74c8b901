"""Objects of the user's own modules, imported by name: package.module:NAME or path/to/file.py:NAME."""

import importlib
import importlib.util
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from thruway.errors import ConfigError, unknown_name

__all__ = ["error_in_words", "import_module", "import_object", "is_import_name"]

_IMPORT_NAME = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_import_name(text: str) -> bool:
    """Return True if a text has the form package.module:NAME or path/to/file.py:NAME.

    >>> is_import_name("mypackage.study:STUDY"), is_import_name("my/study.py:STUDY"), is_import_name("cuda:0")
    (True, True, False)
    """
    return _IMPORT_NAME.fullmatch(text) is not None


def import_object(name: str, kind: str, is_kind: Callable[[Any], bool]) -> Any:
    """Import the object called package.module:NAME or path/to/file.py:NAME.

    Args:
        name: a name of this form.
        kind: expected kind of object, such as "function", for error messages.
        is_kind: returns True for an object of this kind. It also selects the names that an error lists.
    Raises:
        ConfigError: if the name has a different form, there is no such module or object, or it is of a different kind.

    >>> import_object("math:pi", "number", lambda value: isinstance(value, float))
    3.141592653589793
    """
    if not is_import_name(name):
        raise ConfigError(
            f"{name!r} does not name a {kind}. Write package.module:NAME, as in an import, or path/to/file.py:NAME."
        )
    where, _, attribute = name.rpartition(":")
    found: Any = import_module(where)
    for part in attribute.split("."):
        known = [
            each
            for each, value in getattr(found, "__dict__", {}).items()
            if not each.startswith("_") and is_kind(value)
        ]
        if not hasattr(found, part):
            raise ConfigError(f"{where}: {unknown_name(kind, attribute, known)}")
        found = getattr(found, part)
    if not is_kind(found):
        there = f"Name a {kind}: {', '.join(known)}." if known else f"There is no {kind} in {where}."
        raise ConfigError(f"{name} is not a {kind}, but {_type_name(found)}. {there}")
    return found


def _type_name(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"


def import_module(name: str) -> ModuleType:
    """Import a module, given as package.module or as path/to/file.py. Packages in the working folder are also found.

    Raises:
        ConfigError: if there is no such module, or importing it fails.
    """
    path = Path(name) if name.endswith(".py") else None
    # The folder that Python itself puts first: that of a script, or the working folder for `python -m`. It stays, since
    # the module may import more when it is used.
    folder = str(Path.cwd() if path is None else path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name) if path is None else _import_file(path)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or name
        if path is None and (name == missing or name.startswith(f"{missing}.")):
            raise ConfigError(
                f"there is no module {missing!r}. Modules are looked for in the working folder and where Python is "
                "installed; a module in a package needs the package's name: package.module:NAME."
            ) from error
        raise ConfigError(f"{name} imports {missing!r}, which is not installed.") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"importing {name} failed: {error_in_words(error)}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}. Give the path of a Python file.")
    module_name = f"thruway_file_{path.stem}"  # cannot be the name of an installed module
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # pydantic looks annotations up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def error_in_words(error: BaseException) -> str:
    """Describe an error raised by the user's code in one line, with the place where it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_import_machinery(frame.filename)]
    # The deepest place in the user's own files, if there is one.
    frames = [frame for frame in frames if not _is_installed(frame.filename)] or frames
    # A syntax error says where it is.
    is_placed = bool(frames) and not isinstance(error, SyntaxError)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if is_placed else ""
    lines = str(error).strip().splitlines()
    if isinstance(error, ValidationError):
        lines = ["; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())]
    return f"{type(error).__name__}{': ' + lines[0][:300] if lines else ''}{where}."


def _is_installed(file: str) -> bool:
    return any(file.startswith(sysconfig.get_path(where)) for where in ("stdlib", "purelib", "platlib"))


def _is_import_machinery(file: str) -> bool:
    return Path(file).parent == Path(__file__).parent or file.startswith("<frozen")
