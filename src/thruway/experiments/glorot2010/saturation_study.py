"""The study as one object."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.glorot2010.saturation import SCALES, Config
from thruway.experiments.glorot2010.saturation_data import load_parts
from thruway.experiments.glorot2010.saturation_report import write_report
from thruway.experiments.glorot2010.saturation_training import run_study

__all__ = ["SATURATION"]

SATURATION = Experiment(
    name="glorot2010.saturation",
    title="which layers of a deep net saturate, and when: sigmoid, tanh, softsign, normalized tanh",
    source="Glorot & Bengio 2010, figs. 2, 3, 4 and 10",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    report=write_report,
)
