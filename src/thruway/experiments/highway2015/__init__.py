"""Highway Networks and Training Very Deep Networks, Srivastava, Greff & Schmidhuber 2015."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.highway2015.conv_studies import CIFAR, MNIST_CONV
from thruway.experiments.highway2015.convergence_study import CONVERGENCE
from thruway.experiments.highway2015.depth import SCALES, Config
from thruway.experiments.highway2015.depth_report import write_report
from thruway.experiments.highway2015.depth_training import load_parts, run_search
from thruway.experiments.highway2015.gates_study import GATES
from thruway.experiments.highway2015.lesion_study import LESION
from thruway.experiments.highway2015.very_deep_study import VERY_DEEP

__all__ = ["CIFAR", "CONVERGENCE", "DEPTH", "GATES", "LESION", "MNIST_CONV", "VERY_DEEP"]

DEPTH = Experiment(
    name="highway2015.depth",
    title="plain nets stop training as they get deeper; highway and residual nets do not",
    source="Srivastava, Greff & Schmidhuber 2015, fig. 1 of both papers",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_search,
    report=write_report,
    example="--scale demo --data digits --trials 4 --learning-rate.high 0.1",
)
