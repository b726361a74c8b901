"""Studies found by name: Thruway's own, and those in the user's modules."""

from thruway.cli.importing import import_module, import_object
from thruway.errors import ConfigError, unknown_name
from thruway.experiments import STUDIES, Study
from thruway.runs import RunReader

__all__ = ["find_study", "studies_in", "study_of_run"]


def find_study(name: str) -> Study:
    """Return the study called `name`: a key of `STUDIES`, package.module:STUDY or path/to/file.py:STUDY.

    Raises:
        ConfigError: if there is no such study, or the named object is not a study.
    """
    if name in STUDIES:
        return STUDIES[name]
    if ":" not in name and not name.endswith(".py"):
        raise ConfigError(f"{unknown_name('study', name, STUDIES)} A study of your own: package.module:STUDY.")
    study: Study = import_object(name, "study", _is_study)
    # A run folder knows its study by this name alone.
    if STUDIES.get(study.name, study) is not study:
        raise ConfigError(f"{name} has the name {study.name!r} of one of Thruway's own studies. Give it another name.")
    return study


def _is_study(value: object) -> bool:
    return isinstance(value, Study)


def studies_in(module: str) -> dict[str, Study]:
    """Return the studies that a module or file defines, by the name they are run with.

    Raises:
        ConfigError: if there is no such module, or it defines no study.
    """
    found = {
        f"{module}:{each}": value for each, value in vars(import_module(module)).items() if isinstance(value, Study)
    }
    if not found:
        raise ConfigError(
            f"{module} defines no study. A study is an object made by compared_study, measured_study or Study, "
            "such as STUDY = compared_study(...)."
        )
    return found


def study_of_run(reader: RunReader, name: str | None) -> Study:
    """Return the study of a run folder.

    Modules are imported only if the user names them, never because a run folder does: opening a folder from somebody
    else must not run code.

    Args:
        reader: the run folder.
        name: the study as the user named it; None for Thruway's own.
    Raises:
        ConfigError: if the run belongs to another study, or to one that must be named.
    """
    study = None if name is None else find_study(name)
    if study is not None and study.name != reader.name:
        raise ConfigError(
            f"{reader.folder} holds a run of {reader.name}, but {name} was given. Leave the study out, or give the "
            "folder of the other run."
        )
    if study is None and reader.name not in STUDIES:
        command = " ".join(map(str, reader.meta.get("command", ())))
        raise ConfigError(
            f"{reader.folder} holds a run of {reader.name!r}, which is not one of Thruway's own studies. Name the "
            f"study: package.module:STUDY or path/to/file.py:STUDY. The run was started with: {command or 'unknown'}"
        )
    return STUDIES[reader.name] if study is None else study
