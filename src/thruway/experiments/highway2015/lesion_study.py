"""The lesion study, as the command line knows it."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.highway2015.lesion import SCALES, Config
from thruway.experiments.highway2015.lesion_report import write_report
from thruway.experiments.highway2015.lesion_run import run_study
from thruway.experiments.image_parts import load_parts

__all__ = ["LESION"]

LESION = Experiment(
    name="highway2015.lesion",
    title="in a trained highway net of 50 layers the early ones matter, and most of the others can go",
    source="Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), fig. 4",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    report=write_report,
)
