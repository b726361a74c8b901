"""The stage after all others: every SVM of the grid, on the fixed training set."""

import torch

from thruway.experiments.experiment import Progress
from thruway.experiments.glorot2010.errors import Config
from thruway.experiments.glorot2010.errors_data import Parts
from thruway.experiments.glorot2010.svm import Fit, fit_rbf_svm
from thruway.runs import Run

__all__ = ["fit_svms", "svm_work"]

# Of a kernel value, per input, in updates of a weight; measured up to ten thousand examples.
_WORK = 0.06


def fit_svms(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Fit what is left of the grid; each fit is kept, since nothing inside it can be."""
    if parts.fixed is None:
        return
    kept, grid = _kept(run), _grid(config)
    for member, (cost, gamma) in enumerate(grid):
        if member >= len(kept):
            kept.append(fit_rbf_svm(parts.fixed, parts.valid, parts.test, cost, gamma))
            run.log(0, kept[-1]._asdict(), site="fixed/svm", member=member)
            run.save("svm", {"fits": torch.tensor(len(kept))}, state={"fits": [list(fit) for fit in kept]})
            progress.advance(_work_of_one(config, parts), f"SVM {member + 1} of {len(grid)}")


def svm_work(config: Config, parts: Parts, run: Run) -> float:
    """What is left of it, in weights updated by one batch."""
    return 0.0 if parts.fixed is None else (len(_grid(config)) - len(_kept(run))) * _work_of_one(config, parts)


def _grid(config: Config) -> list[tuple[float, float]]:
    return [(cost, gamma) for cost in config.svm_costs for gamma in config.svm_gammas]


def _kept(run: Run) -> list[Fit]:
    state = run.load("svm").state if "svm" in run.checkpoints() else None
    return [Fit(*numbers) for numbers in state["fits"]] if state else []


def _work_of_one(config: Config, parts: Parts) -> float:
    """Kernel values among the training examples, and between them and those held out."""
    held_out = len(parts.valid[1]) + len(parts.test[1])
    return _WORK * config.fixed_examples * (config.fixed_examples + held_out) * parts.inputs
