"""The study of how nets start, as the command line knows it."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.glorot2010.initialization import SCALES, Config
from thruway.experiments.glorot2010.initialization_data import load_parts
from thruway.experiments.glorot2010.initialization_report import write_report
from thruway.experiments.glorot2010.initialization_run import run_study

__all__ = ["INITIALIZATION"]

INITIALIZATION = Experiment(
    name="glorot2010.initialization",
    title="the standard start makes signals shrink upwards and gradients downwards; the normalized one does not",
    source="Glorot & Bengio 2010, figs. 6 to 9, eqs. 4 to 17",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    report=write_report,
)
