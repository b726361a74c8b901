"""The paper's four studies, as the command line knows them."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.glorot2010 import (
    errors,
    errors_data,
    errors_report,
    errors_training,
)

__all__ = ["ERRORS"]

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
