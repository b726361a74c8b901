"""All measurements of `thruway dissect`, one after the other."""

import sys
from collections.abc import Callable, Sequence

import torch

from thruway.cli.dissect_data import InputData
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

__all__ = ["default_counts", "dissected", "measure_all"]

SWAPS = (1, 2, 4, 8, 16)
SHARES = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)  # fractions of the branches left out together

Announce = Callable[[str], None]


def dissected(target: Target, data: InputData) -> Dissection:
    """Dissect the model. An error raised by the model is reported as an error in its input.

    Raises:
        ConfigError: if the model cannot be run on the example.
    """
    if target.dissection is not None:
        return target.dissection
    try:
        return dissect(target.model, data.example)
    except ThruwayError:
        raise
    except Exception as error:  # from the user's model
        raise _failed(target, data.example_about, error) from error


def measure_all(target: Target, data: InputData, options: DissectOptions, announce: Announce) -> DissectionFindings:
    """Find the branches and, if there is data, measure lesions, permutations, rankings and paths.

    Args:
        announce: called with a description before each measurement.
    Raises:
        ConfigError, DissectError: if the model cannot be run on the data, or the options do not fit its branches.
    """
    dissection = dissected(target, data)
    counts = _counts(dissection, options)
    paths = _lengths(dissection) if target.has_shortcuts else None
    structure = DissectionFindings(dissection, target.name, target.about, data.example_about, paths=paths)
    if not data.batches or not dissection.branches:
        return structure
    try:
        task = task_for(dissection, data, options)
        return _measured(structure, task, data, options, counts, announce)
    except ThruwayError:
        raise
    except Exception as error:  # from the model, on data of the wrong shape
        raise _failed(target, data.about, error) from error


def default_counts(branches: int) -> tuple[int, ...]:
    """The default numbers of branches to leave out together: up to half of them.

    >>> default_counts(54), default_counts(3)
    ((1, 3, 5, 11, 16, 22, 27), (1, 2))
    """
    return tuple(sorted({max(1, round(share * branches + 0.001)) for share in SHARES}))


def _measured(
    structure: DissectionFindings,
    task: Task,
    data: InputData,
    options: DissectOptions,
    counts: Sequence[int],
    announce: Announce,
) -> DissectionFindings:
    dissection, notes = structure.dissection, list[str]()
    progress = sys.stderr.isatty()
    n = len(dissection.branches)
    deletions = []
    for metric in task.metrics:
        announce(f"leaving out each of {n} branches: {metric.name}")
        deletions.append(dissection.delete_each(metric, progress=progress, generator=_generator(options, "bootstrap")))
    first = task.metrics[0]
    announce(f"leaving out {', '.join(map(str, counts))} branches, {options.draws} times each")
    drawn = dissection.delete(counts, options.draws, first, _generator(options, "deleted"), progress=progress)
    reordered = _reordered(dissection, task, options, notes, announce, progress)
    announce("ranking the branches without deletion")
    rankings = _rankings(dissection, task, deletions[-1].table()["change"].tolist(), notes)
    gradients, sampled = _paths(structure.paths, dissection, task, options, notes, announce)
    return DissectionFindings(
        dissection,
        structure.name,
        structure.about,
        structure.example,
        data=data.about,
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
        raise ConfigError(f"--deletions is up to {max(options.deletions)}, but only {n} branches were found.")
    return tuple(dict.fromkeys(options.deletions)) or default_counts(n)


def _lengths(dissection: Dissection) -> PathLengths | None:
    if not dissection.branches or all(branch.kind == "module" for branch in dissection.branches):
        return None
    try:
        return dissection.path_lengths()
    except DissectError:
        return None


def _reordered(
    dissection: Dissection, task: Task, options: DissectOptions, notes: list[str], announce: Announce, progress: bool
) -> DrawnLesions | None:
    announce("running the branches in random orders")
    rng = _generator(options, "swapped")
    try:
        return dissection.permute_pairs(SWAPS, options.draws, task.metrics[0], rng, progress=progress)
    except (ConfigError, DissectError) as error:  # no two branches can be swapped
        notes.append(f"Random orders of the branches were not measured: {error}")
        return None


def _rankings(dissection: Dissection, task: Task, changes: list[float], notes: list[str]) -> Rankings | None:
    try:
        found = dissection.rankings(task.batches, loss=task.loss, measured=changes)
    except DissectError as error:
        notes.append(f"The branches were not ranked: {error}")
        return None
    if task.loss is None:
        notes.append(
            "There is no first-order prediction: the change of the output is smallest for the intact model, so its "
            "gradient there is 0."
        )
    return found


def _paths(
    paths: PathLengths | None,
    dissection: Dissection,
    task: Task,
    options: DissectOptions,
    notes: list[str],
    announce: Announce,
) -> tuple[PathGradients | None, SampledPaths | None]:
    if paths is None:
        notes.append("There is no gradient by path length: the model has no shortcuts.")
        return None, None
    if options.path_examples == 0:
        notes.append("The gradient by path length was not computed: --path-examples is 0.")
        return None, None
    try:
        announce("computing the gradient by path length")
        exact = dissection.path_gradients(task.path_loss, task.path_inputs)
        if options.paths == 0:
            return exact, None
        announce(f"sampling {options.paths} single paths of each length")
        rng = _generator(options, "paths")
        return exact, dissection.sampled_paths(task.path_loss, task.path_inputs, draws=options.paths, generator=rng)
    except DissectError as error:
        notes.append(f"The gradient by path length was not computed: {error}")
        return None, None


def _generator(options: DissectOptions, name: str) -> torch.Generator:
    return generator(options.seed, name)


def _failed(target: Target, what: str, error: Exception) -> ConfigError:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}{': ' + lines[0][:300].rstrip('.') if lines else ''}"
    return ConfigError(
        f"{type(target.model).__name__} cannot be run on {what}: {reason}. Give inputs that it accepts: --data NAME, "
        "--inputs FILE, --shape 3 32 32, or a function that returns (model, example_inputs)."
    )
