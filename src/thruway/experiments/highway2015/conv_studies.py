"""The two studies of convolutional nets, as the command line knows them."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.highway2015 import (
    cifar,
    cifar_report,
    cifar_run,
    mnist_conv,
    mnist_conv_report,
    mnist_conv_run,
)
from thruway.experiments.image_parts import load_parts

__all__ = ["CIFAR", "MNIST_CONV"]

MNIST_CONV = Experiment(
    name="highway2015.mnist_conv",
    title="a convolutional highway net of 10 layers and 39,000 parameters, beside a plain one as large",
    source="Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), table 1",
    config=mnist_conv.Config,
    scales=mnist_conv.SCALES,
    prepare=mnist_conv_run.load_large_enough,
    run=mnist_conv_run.run_study,
    report=mnist_conv_report.write_report,
)
CIFAR = Experiment(
    name="highway2015.cifar",
    title="highway nets of 19 and 32 layers learn in one go, where thin deep nets needed stages and hints",
    source="Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), tables 2 and 3",
    config=cifar.Config,
    scales=cifar.SCALES,
    prepare=load_parts,
    run=cifar_run.run_study,
    report=cifar_report.write_report,
    example="--scale demo --nets highway-b plain-b",
)
