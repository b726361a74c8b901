"""The study of shortcuts, as the command line knows it."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.he2016.gates import SCALES, Config
from thruway.experiments.he2016.gates_report import write_report
from thruway.experiments.he2016.gates_run import run_study
from thruway.experiments.image_parts import load_parts

__all__ = ["GATES"]

GATES = Experiment(
    name="he2016.gates",
    title="gated shortcuts in a deep residual net: whether it is their bias that makes them fail",
    source="He, Zhang, Ren & Sun 2016 (Identity Mappings), table 1; Srivastava 2025 in reply",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    report=write_report,
)
