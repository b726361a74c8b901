"""General methods used by studies: an SVM, denoising autoencoders and significance tests.

They do not depend on any study.
"""

from thruway.experiments.methods.autoencoder import denoise_step_
from thruway.experiments.methods.plain_nets import SLOPES, PlainNets, error_rates, layers_of
from thruway.experiments.methods.significance import mcnemar, paired_t
from thruway.experiments.methods.svm import Fit, fit_rbf_svm, require_svm

__all__ = [
    "SLOPES",
    "Fit",
    "PlainNets",
    "denoise_step_",
    "error_rates",
    "fit_rbf_svm",
    "layers_of",
    "mcnemar",
    "paired_t",
    "require_svm",
]
