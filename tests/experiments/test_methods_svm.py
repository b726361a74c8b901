"""The SVM, compared with scikit-learn's in its units, and its error if scikit-learn is missing."""

import sys

import numpy as np
import pytest
import torch

from thruway.errors import ConfigError
from thruway.experiments.glorot2010.errors import Config, load_parts
from thruway.experiments.methods import fit_rbf_svm, require_svm


def part(count, seed):
    """Two rings, which no line parts; far from unit variance."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=rng)
    angle = 6.283 * torch.rand(count, generator=rng)
    radius = 50 * (1 + labels + 0.45 * torch.randn(count, generator=rng))
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), labels


def test_gamma_counts_in_inputs_times_variance_and_errors_are_shares():
    svm = pytest.importorskip("sklearn.svm")
    train, valid, test = part(150, 0), part(90, 1), part(110, 2)
    for gamma in (1.0, 0.2):
        fit = fit_rbf_svm(train, valid, test, 2.0, gamma)
        x = train[0].double().numpy()
        machine = svm.SVC(C=2.0, gamma=gamma / (2 * x.var()), random_state=0).fit(x, train[1].numpy())
        for error, (inputs, labels) in ((fit.valid_error, valid), (fit.test_error, test)):
            wrong = (machine.predict(inputs.double().numpy()) != labels.numpy()).mean()
            # Gamma differs in the seventh digit, which may tip one example on the border.
            assert abs(error - wrong) <= 1.5 / len(labels)
            assert 0 < error < 0.4


def test_kernel_values_one_by_one_give_the_same_errors(monkeypatch):
    """With kernel values one by one, as for a set whose kernel does not fit in memory."""
    pytest.importorskip("sklearn")
    parts = part(150, 0), part(90, 1), part(1110, 2)  # more than are predicted at once
    at_once = fit_rbf_svm(*parts, 2.0, 0.5)
    monkeypatch.setattr("thruway.experiments.methods.svm._AT_ONCE", 100)
    one_by_one = fit_rbf_svm(*parts, 2.0, 0.5)
    # Kernel values agree to 1e-12, and the solvers stop at a tolerance of 1e-3: one or two may lie on the border.
    assert abs(at_once.valid_error - one_by_one.valid_error) <= 1.5 / 90
    assert abs(at_once.test_error - one_by_one.test_error) <= 2.5 / 1110


def test_the_global_generator_of_numpy_is_left_alone():
    numbers, place = np.random.get_state()[1:3]
    fit_rbf_svm(part(30, 0), part(5, 1), part(5, 2), 1.0, 1.0)
    after = np.random.get_state()
    assert np.array_equal(numbers, after[1])
    assert place == after[2]


def test_without_scikit_learn_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"scikit-learn.*thruway\[baselines\]"):
        require_svm()
    with pytest.raises(ConfigError, match=r"scikit-learn.*thruway\[baselines\].*--fixed-examples 0"):
        load_parts(Config())
