"""The study of gates, as the command line knows it."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.highway2015.gates import SCALES, Config
from thruway.experiments.highway2015.gates_report import write_report
from thruway.experiments.highway2015.gates_run import load_looked_at, run_study

__all__ = ["GATES"]

GATES = Experiment(
    name="highway2015.gates",
    title="in a trained highway net gates are mostly shut, and each example opens its own few",
    source="Srivastava, Greff & Schmidhuber 2015, fig. 2 of both papers and fig. 3 of Training Very Deep Networks",
    config=Config,
    scales=SCALES,
    prepare=load_looked_at,
    run=run_study,
    report=write_report,
    example="--scale demo --example 3",
)
