"""The study of the reply, as the command line knows it."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.image_parts import load_parts
from thruway.experiments.srivastava2025.reply import SCALES, Config
from thruway.experiments.srivastava2025.reply_report import write_report
from thruway.experiments.srivastava2025.reply_run import run_study

__all__ = ["REPLY"]

REPLY = Experiment(
    name="srivastava2025.reply",
    title="a gated net of 110 layers is as good as a residual one, if its gates start nearly shut",
    source="Srivastava 2025 (highway-resnet-comparison)",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    report=write_report,
)
