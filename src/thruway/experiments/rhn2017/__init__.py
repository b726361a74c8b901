"""Recurrent Highway Networks, Zilly, Srivastava, Koutník & Schmidhuber 2017."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.rhn2017.depth import SCALES, Config
from thruway.experiments.rhn2017.depth_report import write_report
from thruway.experiments.rhn2017.depth_training import load_text, run_study

__all__ = ["DEPTH"]

DEPTH = Experiment(
    name="rhn2017.depth",
    title="a recurrent net reads text better when its step is deeper and it has no more parameters",
    source="Zilly, Srivastava, Koutník & Schmidhuber 2017, sec. 5",
    config=Config,
    scales=SCALES,
    prepare=load_text,
    run=run_study,
    report=write_report,
    example="--scale demo --depths 1 4 --epochs 3",
)
