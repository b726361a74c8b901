"""Mean singular value of a layer's Jacobian: the average factor by which the layer scales a small change of its input.

It is exact for a limited number of outputs, and otherwise estimated, with a standard error, from products with the
Jacobian.
"""

import contextlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError
from thruway.watching.modules import evaluation_mode

__all__ = ["LayerJacobian", "depends_on", "layer_jacobian", "mean_singular_value"]

# Lanczos steps per direction. For square random matrices, whose singular values reach down to 0, where the square
# root is steepest, the relative bias is below 1e-3.
_LANCZOS_STEPS = 24
# Rows of a Jacobian that are computed in one call, which takes the memory of as many backward passes.
_ROWS_PER_CALL = 64


@dataclass(frozen=True)
class LayerJacobian:
    """The mean singular value over all examples and the standard error of its estimate.

    `singular_values` is (examples, min(inputs, outputs)), descending; None for an estimate.
    """

    mean_singular_value: float
    standard_error: float  # 0 if exact
    is_exact: bool
    singular_values: Tensor | None = None


def layer_jacobian(
    layer: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    exact_up_to: int = 512,
    directions: int = 4,
    generator: torch.Generator | None = None,
) -> LayerJacobian:
    """Compute the mean singular value of a layer's Jacobian: the factor by which it stretches a small change of its
    input.

        J = ∂z' / ∂z at every example,    mean of σ_k(J) over k = 1..min(inputs, outputs) and over the examples

    Layers of at most `exact_up_to` outputs are computed exactly, by singular value decomposition. Larger ones are
    estimated by stochastic Lanczos quadrature of tr (JᵀJ)^½ along random directions, for which the layer must be twice
    differentiable by autograd. For reference, a square matrix of independent entries with standard deviation σ gives
    0.849·σ·√n.

    Args:
        layer: a module, called in evaluation mode, or a function. Its output for an example may not depend on other
            examples.
        x: (batch, ...), the inputs at which the Jacobian is taken; all but the first dimension are flattened.
        exact_up_to: maximum number of outputs per example for the exact value. A decomposition of 512 x 512 takes about
            0.1 s per example.
        directions: number of random directions per example, at least 2. The standard error decreases with its square
            root.
        generator: generator of the directions, required for layers larger than `exact_up_to`.
    Raises:
        ShapeError: if the layer does not return one row per example.
        ConfigError: if there are too few directions, or there is no generator for a large layer.
    Source:
        Glorot & Bengio 2010, eq. 17; Ubaru, Chen & Saad 2017 (Fast estimation of tr(f(A)) via stochastic Lanczos
        quadrature), for large layers.

    >>> layer_jacobian(lambda z: z @ torch.diag(torch.tensor([1.0, 2.0, 6.0])), torch.ones(5, 3)).mean_singular_value
    3.0
    """
    mode = evaluation_mode(layer) if isinstance(layer, nn.Module) else contextlib.nullcontext()
    with mode, torch.enable_grad():
        start = x.detach().clone().requires_grad_()
        end = layer(start.clone())  # a copy, because a layer may modify its input
        if not isinstance(end, Tensor) or end.dim() == 0 or len(end) != len(x) or end.numel() == 0:
            got = f"shape {tuple(end.shape)}" if isinstance(end, Tensor) else type(end).__name__
            raise ShapeError(
                f"the Jacobian is computed per example: the input has {len(x)} examples, the output {got}. "
                f"Pass a layer that maps (batch, ...) to (batch, ...)."
            )
        return mean_singular_value(end, start, exact_up_to=exact_up_to, directions=directions, generator=generator)


def mean_singular_value(
    output: Tensor,
    source: Tensor,
    *,
    exact_up_to: int = 512,
    directions: int = 4,
    generator: torch.Generator | None = None,
) -> LayerJacobian:
    """Compute the same for `output` and `source`, (batch, ...) each, where `output` was computed from `source`."""
    pair = _Pair(output, source)
    if pair.outputs <= exact_up_to:
        singular = _singular_values(pair.jacobian())
        return LayerJacobian(singular.mean().item(), 0.0, True, singular)
    if directions < 2:
        raise ConfigError(f"a standard error needs at least 2 directions per example, got {directions}.")
    if generator is None:
        raise ConfigError(
            f"{pair.outputs} outputs are more than exact_up_to={exact_up_to}, so the value is estimated along random "
            "directions. Pass generator=torch.Generator().manual_seed(0), or raise exact_up_to."
        )
    draws = torch.stack([_draw(pair, generator) for _ in range(directions)])  # (directions, batch)
    # Only the directions are random, the examples are fixed.
    standard_error = draws.var(0).div(directions).sum().sqrt().item() / draws.shape[1]
    return LayerJacobian(draws.mean().item(), standard_error, False)


def depends_on(output: Tensor, source: Tensor) -> bool:
    """Return True if `output` is computed from `source`, and so has a Jacobian with respect to it."""
    if not (output.requires_grad and source.requires_grad):
        return False
    (product,) = torch.autograd.grad(
        output, source, torch.zeros_like(output), retain_graph=True, create_graph=False, allow_unused=True
    )
    return product is not None


class _Pair:
    """Products with the Jacobians of `output` with respect to `source`, one Jacobian per example."""

    def __init__(self, output: Tensor, source: Tensor) -> None:
        self._output = output
        self._source = source
        self.batch = len(output)
        self.outputs = output[0].numel()
        self.inputs = source[0].numel()
        self.device = output.device

    def transposed_times(self, u: Tensor, *, create_graph: bool = False) -> Tensor:
        """Return Jᵀu, (batch, inputs), for u (batch, outputs)."""
        return self._backward(u.to(self._output.dtype).reshape(self._output.shape), create_graph=create_graph).flatten(
            1
        )

    def _backward(self, u: Tensor, **options: bool) -> Tensor:
        product: Tensor | None = None
        if self._output.requires_grad:
            (product,) = torch.autograd.grad(
                self._output, self._source, u, retain_graph=True, allow_unused=True, **options
            )
        if product is None:
            raise ConfigError("the output is not computed from the input, so it has no Jacobian. Pass another pair.")
        return product

    def times(self, v: Tensor) -> Tensor:
        """Return Jv, (batch, outputs), for v (batch, inputs), as the derivative of Jᵀu, which is linear in u."""
        u = self._output.new_zeros(self.batch, self.outputs).requires_grad_()
        back = self.transposed_times(u, create_graph=True)
        (product,) = torch.autograd.grad(back, u, v.to(back.dtype))
        return product

    def jacobian(self) -> Tensor:
        """Return the Jacobians, (batch, outputs, inputs)."""
        try:
            parts = [self._rows_from(start) for start in range(0, self.outputs, _ROWS_PER_CALL)]
        except RuntimeError:  # autograd cannot batch every operation: one unit per call instead
            parts = [self.transposed_times(self._unit(unit)).detach()[:, None] for unit in range(self.outputs)]
        return torch.cat(parts, 1)

    def _unit(self, unit: int) -> Tensor:
        u = self._output.new_zeros(self.batch, self.outputs)
        u[:, unit] = 1.0
        return u

    def _rows_from(self, start: int) -> Tensor:
        """Return the rows of the units from `start` on, (batch, units, inputs).

        One call is a dozen times faster than many.
        """
        units = range(start, min(start + _ROWS_PER_CALL, self.outputs))
        directions = torch.stack([self._unit(unit) for unit in units]).reshape(-1, *self._output.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of functions that are not faster in a batch
            product = self._backward(directions, is_grads_batched=True)
        return product.flatten(2).transpose(0, 1)

    def gram_times(self, v: Tensor) -> Tensor:
        """Return JᵀJv, or JJᵀv if that matrix is smaller, in float64, so that a J of 1e-30 is not squared into 0."""
        is_wide = self.outputs < self.inputs
        half = (self.transposed_times(v) if is_wide else self.times(v)).double()
        size: Tensor = torch.linalg.vector_norm(half, dim=1, keepdim=True)
        unit = half / torch.where(size > 0, size, 1.0)
        return (self.times(unit) if is_wide else self.transposed_times(unit)).double() * size


def _draw(pair: _Pair, generator: torch.Generator) -> Tensor:
    """Estimate each example's mean singular value from one random direction, (batch,).

    For a unit vector v in a random direction, E[vᵀf(A)v] = tr f(A) / n; here f is the square root and A = JᵀJ. The
    Lanczos tridiagonal matrix T of A from v gives vᵀf(A)v = e₁ᵀf(T)e₁ up to a small error.
    """
    smaller = min(pair.inputs, pair.outputs)
    steps = min(_LANCZOS_STEPS, smaller)
    v = torch.randn(pair.batch, smaller, dtype=torch.float64, device=generator.device, generator=generator)
    v = v.to(pair.device)
    basis = (v / torch.linalg.vector_norm(v, dim=1, keepdim=True))[:, None]  # (batch, vectors so far, smaller)
    tridiagonal = v.new_zeros(pair.batch, steps, steps)
    for step in range(steps):
        w = pair.gram_times(basis[:, step])
        tridiagonal[:, step, step] = (w * basis[:, step]).sum(1)
        for _ in range(2):  # twice keeps the basis orthogonal up to rounding
            w = w - torch.einsum("bvn,bv->bn", basis, torch.einsum("bvn,bn->bv", basis, w))
        size = torch.linalg.vector_norm(w, dim=1)
        if step + 1 < steps:
            # An example whose Krylov space is exhausted continues with zeros, which have no weight below.
            continues = size > 1e-12 * tridiagonal[:, 0, 0]
            size = torch.where(continues, size, 0.0)
            tridiagonal[:, step, step + 1] = tridiagonal[:, step + 1, step] = size
            next_vector = torch.where(continues[:, None], w / size[:, None], 0.0)
            basis = torch.cat([basis, next_vector[:, None]], 1)
    # The result of a decomposition of NaN, or the error, depends on the library behind it.
    finite = tridiagonal.isfinite().all((1, 2))
    squares, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], tridiagonal, 0.0))
    value = (vectors[:, 0].square() * squares.clamp_min(0).sqrt()).sum(1)
    return torch.where(finite, value, math.nan)


def _singular_values(jacobian: Tensor) -> Tensor:
    """Return the singular values of every matrix, descending; NaN for one that is not finite."""
    rank = min(jacobian.shape[1:])
    return torch.stack(
        [
            torch.linalg.svdvals(j.double())
            if j.isfinite().all()
            else j.new_full((rank,), math.nan, dtype=torch.float64)
            for j in jacobian
        ]
    )
