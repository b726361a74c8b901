"""The study of convergence, as the command line knows it: the search of highway2015.depth, seen by its top tenth."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.highway2015.convergence import SCALES
from thruway.experiments.highway2015.convergence_report import write_report
from thruway.experiments.highway2015.depth import Config
from thruway.experiments.highway2015.depth_training import load_parts, run_search

__all__ = ["CONVERGENCE"]

CONVERGENCE = Experiment(
    name="highway2015.convergence",
    title="highway nets converge faster than plain ones of the same depth, the top tenth of a search as its best",
    source="Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), fig. 1, right",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_search,
    report=write_report,
    example="--scale demo --trials 10",
)
