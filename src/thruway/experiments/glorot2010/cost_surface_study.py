"""The study of two costs, as the command line knows it."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.glorot2010.cost_surface import SCALES, Config
from thruway.experiments.glorot2010.cost_surface_report import write_report
from thruway.experiments.glorot2010.cost_surface_run import prepare, run_study

__all__ = ["COST_SURFACE"]

COST_SURFACE = Experiment(
    name="glorot2010.cost_surface",
    title="the quadratic cost of a classifier has more plateaus than its cross-entropy",
    source="Glorot & Bengio 2010, fig. 5",
    config=Config,
    scales=SCALES,
    prepare=prepare,
    run=run_study,
    report=write_report,
)
