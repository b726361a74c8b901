"""`thruway run`: run a study, found by its name, into a run folder, or resume an interrupted run."""

import argparse
import dataclasses
import difflib
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from pydantic import BaseModel
from rich.markup import escape

from thruway.cli.console import console_progress, duration, out, show_report
from thruway.cli.importing import import_module, import_object, is_import_name
from thruway.errors import ConfigError, unknown_name
from thruway.experiments import STUDIES, Study
from thruway.runs import Run, RunReader, open_run
from thruway.train import keep_freed_memory

__all__ = [
    "RunOptions",
    "check_device",
    "check_threads",
    "find_study",
    "free_folder",
    "run_command",
    "studies_in",
    "study_of_run",
]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Run a study into a run folder, and write its report there."""

    config: Path | None = None
    """A TOML file with fields of the study's config. Flags override it."""
    out: Path | None = None
    """The run folder to create. If unset, runs/<study>-<scale>, with a number if that exists."""
    resume: Path | None = None
    """Resume the interrupted run in this folder, with its own config."""
    threads: int | None = None
    """Number of CPU threads. If unset, PyTorch's default."""


def run_command(arguments: Sequence[str]) -> int:
    """Run a study, or resume a run."""
    first = argparse.ArgumentParser(prog="thruway run", add_help=False)
    first.add_argument("study", nargs="?")
    for flag in ("--scale", "--config", "--resume"):
        first.add_argument(flag)
    known, _ = first.parse_known_args(arguments)
    if known.resume is not None:
        return _resume(Path(known.resume), arguments)
    wants_help = "-h" in arguments or "--help" in arguments
    name = _study_in(arguments) or known.study
    if name is None and not wants_help:
        raise ConfigError(f"which study? Known: {', '.join(STUDIES)}. Example: thruway run {next(iter(STUDIES))}")
    study = find_study(name or next(iter(STUDIES)))
    rest = [*arguments]
    if name is not None:
        rest.remove(name)
    for at in [at for at, each in enumerate(rest) if each.partition("=")[0] == "--scale"][:1]:
        del rest[at : at + (1 if "=" in rest[at] else 2)]  # `base` has the scale; a config need not have the field
    scale, base = _base(study, known.scale, known.config)
    options, config = _parse(study, name, base, rest)
    folder = options.out or free_folder(Path("runs") / f"{study.name}-{scale}")
    check_threads(options.threads)
    check_device(getattr(config, "device", "cpu"))
    prepared = study.prepare(config)
    run = Run.create(
        folder,
        config.model_dump(mode="json"),
        name=study.name,
        command=["thruway", "run", *arguments],
        seeds={"seed": getattr(config, "seed", 0)},
        device=getattr(config, "device", "cpu"),
    )
    return _execute(study, str(name), config, prepared, run, options.threads)


def _study_in(arguments: Sequence[str]) -> str | None:
    """The argument that names the study. A flag's value may come before it: `run --trials 4 highway2015.depth`."""
    return (
        next((each for each in arguments if each in STUDIES), None)
        or next((each for each in arguments if is_import_name(each)), None)
        or next((each for each in arguments if difflib.get_close_matches(each, STUDIES)), None)
    )


def _parse(study: Study, name: str | None, base: BaseModel, arguments: Sequence[str]) -> tuple[RunOptions, BaseModel]:
    """Parse the command line, without the study's name, over the defaults of the chosen scale."""
    if taken := {field.name for field in dataclasses.fields(RunOptions)} & set(study.config.model_fields):
        raise ConfigError(
            f"{study.config.__name__} has the field {', '.join(sorted(taken))}, which is an option of thruway run. "
            "Give the field another name."
        )
    whole = dataclasses.make_dataclass(
        "run",
        [
            ("options", Annotated[RunOptions, tyro.conf.arg(name="")]),
            (
                "settings",
                Annotated[study.config, tyro.conf.arg(name="")],
                dataclasses.field(default_factory=lambda: base),
            ),
        ],
    )
    program = f"thruway run {name or study.name}"
    description = f"{RunOptions.__doc__}\n\nscales: {', '.join(study.scales)}\n\nexample: {program} {study.example}"
    if name is None:
        description += (
            f"\n\nEvery study has options of its own; these are those of {study.name}. "
            f"Others: {', '.join(other for other in STUDIES if other != study.name)}; and package.module:STUDY or "
            "path/to/file.py:STUDY for a study of your own."
        )
    parsed: Any = tyro.cli(whole, prog=program, args=list(arguments), description=description)
    return parsed.options, parsed.settings


def _resume(folder: Path, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="thruway run --resume", epilog="example: thruway run --resume runs/highway2015.depth-demo"
    )
    parser.add_argument("--resume", type=Path, required=True, help="the run folder to resume")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("study", nargs="?", help="needed only for a study of your own")
    options, changed = parser.parse_known_args(arguments)
    name = options.study
    if changed:
        if name is not None and name not in STUDIES and not is_import_name(name):  # the value of an option
            changed = [argument for argument in arguments if argument in {*changed, name}]
        raise ConfigError(
            f"a resumed run keeps its config, but {' '.join(changed)} was given. "
            "Leave it out, or start a new run without --resume."
        )
    check_threads(options.threads)
    reader = open_run(folder)
    study = study_of_run(reader, name)
    config = study.config.model_validate(reader.config)
    if reader.status == "done":
        out.print(f"{escape(str(folder))} is finished already; writing its report again.", soft_wrap=True)
        show_report(study, reader)
        return 0
    check_device(getattr(config, "device", "cpu"))
    prepared = study.prepare(config)
    return _execute(study, name or study.name, config, prepared, Run.resume(folder), options.threads)


def _execute(study: Study, name: str, config: BaseModel, prepared: Any, run: Run, threads: int | None) -> int:
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    folder, started = run.folder, time.monotonic()
    head = f"[bold]{escape(study.name)}[/]  {escape(study.title)}\nrun folder  {escape(str(folder))}"
    try:
        with run, console_progress(out) as progress:
            out.print(head, soft_wrap=True)
            study.run(config, prepared, run, progress)
    except KeyboardInterrupt:
        show_report(study, open_run(folder))
        # A study of the user's own is not found by the folder alone.
        resume = f"thruway run {'' if study.name in STUDIES else f'{name} '}--resume {folder}"
        out.print(f"\n[bold yellow]interrupted[/]  resume with:  {escape(resume)}", soft_wrap=True)
        return 1
    show_report(study, open_run(folder))
    out.print(f"done in {duration(time.monotonic() - started)}")
    return 0


def _base(study: Study, scale: str | None, file: str | None) -> tuple[str, BaseModel]:
    """The scale that flag or file name, else the first one, and its config with the fields of a TOML file over it."""
    fields = {} if file is None else _fields_of(study, file)
    named_there = fields.pop("scale", next(iter(study.scales)))
    chosen = scale or named_there
    if chosen not in list(study.scales):
        raise ConfigError(unknown_name("scale", chosen, study.scales))
    base = study.scales[chosen].model_dump()
    if "scale" in base:
        base["scale"] = chosen
    for name, value in fields.items():
        # One end of a range leaves the other as the scale has it, as the flag does.
        both = isinstance(value, dict) and isinstance(base[name], dict)
        base[name] = {**base[name], **value} if both else value
    return chosen, study.config.model_validate(base)


def _fields_of(study: Study, file: str) -> dict[str, Any]:
    """Return the fields in a TOML file. Raises ConfigError for a field that the study does not have."""
    try:
        fields = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {file} cannot be read: {error.strerror}. Give the path of a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file} is not TOML: {error}.") from error
    for name in fields:
        if name not in study.config.model_fields:
            raise ConfigError(f"{file}: {unknown_name('field', name, study.config.model_fields)}")
    return fields


def check_threads(threads: int | None) -> None:
    """Raise ConfigError for a number of threads below 1."""
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads must be at least 1, got {threads}.")


def check_device(device: str) -> None:
    """Raise ConfigError if tensors cannot be made on the device."""
    try:
        torch.zeros((), device=device).item()  # read back: the meta device makes tensors without numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0][:120]
        if reason.startswith("Expected one of"):  # every kind that torch was ever built for
            reason = "PyTorch does not know it"
        allowed = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ConfigError(f"device {device!r} is not available ({reason}). Allowed here: {allowed}.") from error


def free_folder(folder: Path) -> Path:
    """Return `folder`, or the first of folder-2, folder-3, ... that does not exist."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


# --- studies by name: Thruway's own, and those in the user's modules


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
    """Return the studies that a module or file defines, keyed by the name to pass to `thruway run`.

    Raises:
        ConfigError: if there is no such module, or it defines no study.
    """
    module = module.partition(":")[0]  # also if one of its studies was named
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
        ConfigError: if the run belongs to another study, or to one that the user has to name.
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
            "study: thruway run package.module:STUDY --resume FOLDER, or thruway report FOLDER --study "
            f"path/to/file.py:STUDY. The run was started with: {command or 'unknown'}"
        )
    return STUDIES[reader.name] if study is None else study
