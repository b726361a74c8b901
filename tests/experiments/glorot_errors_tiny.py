"""A study of errors that takes a second, and functions that run it."""

from pathlib import Path
from typing import Any

from thruway.experiments import STUDIES
from thruway.experiments.glorot2010.errors import Config
from thruway.experiments.machinery import Silent
from thruway.runs import Run, open_run

ERRORS = STUDIES["glorot2010.errors"]

TINY = Config(
    data="digits",
    pairs=("tanh", "tanh-n", "sigmoid", "tanh-pretrained"),
    depths=(1, 2),
    width=6,
    learning_rates=(0.1, 0.3),
    seeds=2,
    search_updates=20,
    updates=30,
    evaluations=2,
    pretrain_updates=10,
    pretrain_rate=0.01,
    fixed_examples=40,
    fixed_updates=20,
    svm_gammas=(1.0,),
)
# Calls of `advance`: 2 layers, 2 evaluations in each of 3 stages, 2 SVMs.
REPORTS = 2 + 3 * 2 + 2


def create(folder: Path, config: Config) -> Run:
    return Run.create(
        folder,
        config.model_dump(mode="json"),
        name=ERRORS.name,
        command=["test"],
        seeds={"seed": config.seed},
        device="cpu",
    )


def complete(folder: Path, config: Config) -> Path:
    with create(folder, config) as run:
        ERRORS.run(config, ERRORS.prepare(config), run, Silent())
    return folder


def numbers(folder: Path) -> dict[tuple[str, ...], str]:
    """Every logged number but the time it took, by name; as text, so that NaN equals NaN."""
    table = open_run(folder).table()
    columns = zip(*(table[name] for name in ("site", "member", "step", "quantity", "value")), strict=True)
    return {tuple(map(str, row[:4])): str(row[4]) for row in columns if row[3] != "seconds"}


def final_row(pair: str, error: float, seed: int = 0, depth: int = 5, **more: Any) -> dict[str, Any]:
    """A row as a run would write it."""
    row = {"stage": "final", "pair": pair, "depth": depth, "seed": seed, "test_error": error, "learning_rate": 0.1}
    return row | {"diverged": error != error, "is_chosen_depth": True, "updates": 7} | more
