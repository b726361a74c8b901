"""Highway Networks and Training Very Deep Networks, Srivastava, Greff & Schmidhuber 2015."""

from thruway.experiments.highway2015.cifar_page import STUDY as CIFAR
from thruway.experiments.highway2015.convergence_page import STUDY as CONVERGENCE
from thruway.experiments.highway2015.depth_page import STUDY as DEPTH
from thruway.experiments.highway2015.gates_page import STUDY as GATES
from thruway.experiments.highway2015.lesion_page import STUDY as LESION
from thruway.experiments.highway2015.mnist_conv import STUDY as MNIST_CONV
from thruway.experiments.highway2015.very_deep_page import STUDY as VERY_DEEP

__all__ = ["CIFAR", "CONVERGENCE", "DEPTH", "GATES", "LESION", "MNIST_CONV", "VERY_DEEP"]
