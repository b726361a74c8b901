"""Everything that is found out about a model, one thing after the other."""

import sys
from collections.abc import Callable, Sequence

import torch

from thruway.cli.dissect_data import Material
from thruway.cli.dissect_options import DissectOptions
from thruway.cli.dissect_target import Target
from thruway.cli.dissect_task import Task, task_for
from thruway.dissecting import DissectError, Dissection, DrawnLesions, dissect
from thruway.dissecting.paths.lengths import PathLengths
from thruway.dissecting.paths.results import PathGradients, SampledPaths
from thruway.dissecting.ranking.rankings import Rankings
from thruway.errors import ConfigError, ThruwayError
from thruway.report import DissectionFindings
from thruway.seeding import generator

__all__ = ["default_counts", "find_out", "opened"]

SWAPS = (1, 2, 4, 8, 16)
SHARES = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)  # of the branches, left out together

Say = Callable[[str], None]


def opened(target: Target, material: Material) -> Dissection:
    """The model dissected; an error of its own on this input is told as one of the input.

    Raises:
        ConfigError: if the model cannot be run on the example.
    """
    if target.dissection is not None:
        return target.dissection
    try:
        return dissect(target.model, material.example)
    except ThruwayError:
        raise
    except Exception as error:  # whatever a model of the user's raises
        raise _failed(target, material.example_about, error) from error


def find_out(target: Target, material: Material, options: DissectOptions, say: Say) -> DissectionFindings:
    """The structure; and with data lesions, orders, rankings and paths.

    Args:
        say: told before each part what comes.
    Raises:
        ConfigError, DissectError: if the model cannot be run on the data, or the options do not fit its branches.
    """
    dissection = opened(target, material)
    counts = _counts(dissection, options)
    paths = _lengths(dissection) if target.has_shortcuts else None
    structure = DissectionFindings(dissection, target.name, target.about, material.example_about, paths=paths)
    if not material.batches or not dissection.branches:
        return structure
    try:
        task = task_for(dissection, material, options)
        return _measured(structure, task, material, options, counts, say)
    except ThruwayError:
        raise
    except Exception as error:  # of the model, on data that is not of its form
        raise _failed(target, material.about, error) from error


def default_counts(branches: int) -> tuple[int, ...]:
    """How many branches are left out together where the user does not say: up to half of them.

    >>> default_counts(54), default_counts(3)
    ((1, 3, 5, 11, 16, 22, 27), (1, 2))
    """
    return tuple(sorted({max(1, round(share * branches + 0.001)) for share in SHARES}))


def _measured(
    structure: DissectionFindings,
    task: Task,
    material: Material,
    options: DissectOptions,
    counts: Sequence[int],
    say: Say,
) -> DissectionFindings:
    dissection, notes = structure.dissection, list[str]()
    shows = sys.stderr.isatty()
    n = len(dissection.branches)
    deletions = []
    for metric in task.metrics:
        say(f"leaving out each of {n} branches: {metric.name}")
        deletions.append(dissection.delete_each(metric, progress=shows, generator=_coins(options, "bootstrap")))
    first = task.metrics[0]
    say(f"leaving out {', '.join(map(str, counts))} branches, {options.draws} times each")
    drawn = dissection.delete(counts, options.draws, first, _coins(options, "deleted"), progress=shows)
    reordered = _reordered(dissection, task, options, notes, say, shows)
    say("ranking the branches without leaving them out")
    rankings = _rankings(dissection, task, deletions[-1].table()["change"].tolist(), notes)
    gradients, sampled = _paths(structure.paths, dissection, task, options, notes, say)
    return DissectionFindings(
        dissection,
        structure.name,
        structure.about,
        structure.example,
        data=material.about,
        units=task.units,
        paths=structure.paths,
        deletions=tuple(deletions),
        drawn=drawn,
        reordered=reordered,
        rankings=rankings,
        rankings_agree_with=f"the measured change of the {deletions[-1].metric}",
        gradients=gradients,
        sampled=sampled,
        path_loss=task.path_loss_about,
        path_unit=task.path_unit,
        notes=tuple(notes),
    )


def _counts(dissection: Dissection, options: DissectOptions) -> tuple[int, ...]:
    n = len(dissection.branches)
    if options.deletions and max(options.deletions) > n:
        raise ConfigError(
            f"--deletions asks for {max(options.deletions)} branches, and {n} were found. Take at most {n}."
        )
    return tuple(dict.fromkeys(options.deletions)) or default_counts(n)


def _lengths(dissection: Dissection) -> PathLengths | None:
    if not dissection.branches or all(branch.kind == "module" for branch in dissection.branches):
        return None
    try:
        return dissection.path_lengths()
    except DissectError:
        return None


def _reordered(
    dissection: Dissection, task: Task, options: DissectOptions, notes: list[str], say: Say, shows: bool
) -> DrawnLesions | None:
    say("running the branches in other orders")
    coins = _coins(options, "swapped")
    try:
        return dissection.permute_pairs(SWAPS, options.draws, task.metrics[0], coins, progress=shows)
    except (ConfigError, DissectError) as error:  # no two fit into each other's places
        notes.append(f"The branches were not run in another order: {error}")
        return None


def _rankings(dissection: Dissection, task: Task, changes: list[float], notes: list[str]) -> Rankings | None:
    try:
        found = dissection.rankings(task.batches, loss=task.loss, measured=changes)
    except DissectError as error:
        notes.append(f"The branches were not ranked: {error}")
        return None
    if task.loss is None:
        notes.append(
            "There is no first-order prediction: the intact model is where its own output has changed least, so that "
            "nothing follows from a gradient there."
        )
    return found


def _paths(
    paths: PathLengths | None, dissection: Dissection, task: Task, options: DissectOptions, notes: list[str], say: Say
) -> tuple[PathGradients | None, SampledPaths | None]:
    if paths is None:
        notes.append("There are no paths to tell apart: the model has no shortcuts.")
        return None, None
    if options.path_examples == 0:
        notes.append("The gradient was not taken apart by path length: --path-examples is 0.")
        return None, None
    try:
        say("taking the gradient apart by path length")
        exact = dissection.path_gradients(task.path_loss, task.path_inputs)
        if options.paths == 0:
            return exact, None
        say(f"following {options.paths} single paths of each length")
        coins = _coins(options, "paths")
        return exact, dissection.sampled_paths(task.path_loss, task.path_inputs, draws=options.paths, generator=coins)
    except DissectError as error:
        notes.append(f"The gradient was not taken apart by path length: {error}")
        return None, None


def _coins(options: DissectOptions, name: str) -> torch.Generator:
    return generator(options.seed, name)


def _failed(target: Target, what: str, error: Exception) -> ConfigError:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}{': ' + lines[0][:300].rstrip('.') if lines else ''}"
    return ConfigError(
        f"{type(target.model).__name__} cannot be run on {what}: {reason}. Give inputs of its form: --data NAME, "
        "--inputs FILE, --shape 3 32 32, or a function that returns (model, example_inputs)."
    )
