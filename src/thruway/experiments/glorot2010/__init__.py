"""Understanding the difficulty of training deep feedforward neural networks, Glorot & Bengio 2010."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.glorot2010.errors import SCALES, Config
from thruway.experiments.glorot2010.errors_data import load_parts
from thruway.experiments.glorot2010.errors_report import write_report
from thruway.experiments.glorot2010.errors_training import run_study

__all__ = ["ERRORS"]

ERRORS = Experiment(
    name="glorot2010.errors",
    title="how far a deep net gets depends on its activation and on how its weights start",
    source="Glorot & Bengio 2010, Table 1, figs. 11 and 12",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    report=write_report,
)
