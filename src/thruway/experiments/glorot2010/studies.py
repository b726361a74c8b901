"""The paper's four studies, as the command line knows them."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.glorot2010 import (
    errors,
    errors_data,
    errors_report,
    errors_training,
    initialization,
    initialization_data,
    initialization_report,
    initialization_run,
)

__all__ = ["ERRORS", "INITIALIZATION"]

ERRORS = Experiment(
    name="glorot2010.errors",
    title="how far a deep net gets depends on its activation and on how its weights start",
    source="Glorot & Bengio 2010, Table 1, figs. 11 and 12",
    config=errors.Config,
    scales=errors.SCALES,
    prepare=errors_data.load_parts,
    run=errors_training.run_study,
    report=errors_report.write_report,
    example="--scale demo --data digits --pairs tanh tanh-n --depths 1 3 --learning-rates 0.03 0.1",
)
INITIALIZATION = Experiment(
    name="glorot2010.initialization",
    title="the standard start makes signals shrink upwards and gradients downwards; the normalized one does not",
    source="Glorot & Bengio 2010, figs. 6 to 9, eqs. 4 to 17",
    config=initialization.Config,
    scales=initialization.SCALES,
    prepare=initialization_data.load_parts,
    run=initialization_run.run_study,
    report=initialization_report.write_report,
    example="--scale demo --data digits --depth 8 --width 100 --trained-seeds 0",
)
