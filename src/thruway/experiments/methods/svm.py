"""Support vector machine with a Gaussian kernel, from scikit-learn."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from thruway.errors import ConfigError

__all__ = ["Fit", "fit_rbf_svm", "require_svm"]

# Up to this many training examples all kernel values fit in memory (0.8 GB) and are computed by matrix products, ten
# times as fast as one by one; beyond that, scikit-learn keeps a cache of them.
_AT_ONCE = 10_000
_CACHE_MB = 2000
_PREDICTED_AT_ONCE = 1000

Array = NDArray[np.float64]


class Fit(NamedTuple):
    """Settings and errors of one SVM."""

    cost: float
    gamma: float
    valid_error: float
    test_error: float
    seconds: float


def require_svm() -> Any:
    """Return scikit-learn's SVM module.

    Raises:
        ConfigError: if scikit-learn is not installed.
    """
    try:
        from sklearn import svm
    except ImportError as error:
        raise ConfigError(
            "the SVM needs scikit-learn, which is not installed: pip install 'thruway[baselines]'."
        ) from error
    return svm


def fit_rbf_svm(
    train: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    cost: float,
    gamma: float,
) -> Fit:
    """Fit an SVM with the kernel k(x, y) = exp(-g |x - y|^2), and compute its errors.

    Args:
        train, valid, test: (inputs (examples, inputs), labels (examples,)).
        cost: C, the weight of violations of the margin.
        gamma: g, multiplied by the number of inputs and the variance of all training inputs.
    Raises:
        ConfigError: if scikit-learn is not installed.
    Source:
        Cortes & Vapnik 1995 (Support-vector networks).

    >>> import torch
    >>> x = torch.linspace(-1, 1, 40).unsqueeze(1)
    >>> inside = (x.squeeze(1).abs() < 0.5, x)[::-1]
    >>> fit_rbf_svm((x, inside[1].long()), (x, inside[1].long()), (x, inside[1].long()), 10.0, 1.0).test_error
    0.0
    """
    svm, started = require_svm(), time.monotonic()
    inputs, labels = _arrays(train)
    width = gamma / (inputs.shape[1] * float(inputs.var()))
    shape = {"kernel": _gaussian(width)} if len(labels) <= _AT_ONCE else {"gamma": width}
    # Without a seed, scikit-learn would draw one from NumPy's global generator.
    machine = svm.SVC(C=cost, cache_size=_CACHE_MB, random_state=0, **shape).fit(inputs, labels)
    errors = []
    for held_out, truth in map(_arrays, (valid, test)):
        starts = range(0, len(truth), _PREDICTED_AT_ONCE)
        predicted = [machine.predict(held_out[start : start + _PREDICTED_AT_ONCE]) for start in starts]
        errors.append(float((np.concatenate(predicted) != truth).mean()))
    return Fit(cost, gamma, errors[0], errors[1], time.monotonic() - started)


def _arrays(examples: tuple[Tensor, Tensor]) -> tuple[Array, Array]:
    inputs, labels = examples
    return inputs.double().cpu().numpy(), labels.cpu().numpy()


def _gaussian(width: float) -> Callable[[Array, Array], Array]:
    """Return the kernel exp(-width |x - y|^2) of every row x of one array and y of another."""

    def kernel(first: Array, second: Array) -> Array:
        values = first @ second.T
        values *= 2
        values -= np.square(first).sum(axis=1)[:, None]
        values -= np.square(second).sum(axis=1)[None]
        values *= width
        return np.exp(values, out=values)

    return kernel
