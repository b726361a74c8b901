"""The study of 1,000 layers, as the command line knows it."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.highway2015.very_deep import SCALES, Config
from thruway.experiments.highway2015.very_deep_report import write_report
from thruway.experiments.highway2015.very_deep_run import run_study
from thruway.experiments.image_parts import load_parts

__all__ = ["VERY_DEEP"]

VERY_DEEP = Experiment(
    name="highway2015.very_deep",
    title="a highway net of 1,000 layers trains; a plain one does not start",
    source="Srivastava, Greff & Schmidhuber 2015 (Highway Networks), sec. 3",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    report=write_report,
    example="--scale demo --depth 500",
)
