"""Exact gradients by path length: the backward pass of a product of (I + t·J) as a polynomial in t."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thruway.dissecting.paths.cutting import CutPass, cut_pass
from thruway.dissecting.paths.results import PathGradients
from thruway.dissecting.paths.routes import START, Counts
from thruway.dissecting.paths.segments import vjp
from thruway.dissecting.paths.start import Where
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.tracing.arguments import accepts, as_call
from thruway.dissecting.tracing.structure import map_structure, reachable_tensors
from thruway.errors import ConfigError

__all__ = ["Loss", "cut_passes", "gradients_by_length", "path_gradients"]

Loss = Callable[..., Tensor]

AT_ONCE = 8  # lengths in one backward pass. It needs memory for as many gradients within one branch.


def path_gradients(
    engine: Engine,
    loss: Loss,
    inputs: Any = None,
    targets: Any = None,
    *,
    where: Where | None = None,
    examples: int | None = None,
    at_once: int = AT_ONCE,
    keep: bool = False,
) -> PathGradients:
    """Decompose the gradient of the loss with respect to the input by the number of branches on the path.

        dL/dx = g_0 + g_1 + ... + g_n,     g_k = sum over all paths through exactly k branches

    The result is exact: the g_k are vector sums, including all cancellation, and add up to the gradient of autograd.
    A projection does not count as a branch. In a gated block the path along C·x with C constant does not count;
    all other paths, including those through the gates, count as paths through the branch.

    Args:
        loss: function of the model's output, and of the targets if given. It returns one number, or one per example.
        inputs: arguments of the model, as in `dissect`. Default: the example it was dissected with.
        targets: a tensor or nested structure of tensors, passed to the loss as its second argument.
        where: start of the paths: "input", or "stream", the tensor that the first branch reads. Default: the input if
            it is floating-point, else the stream.
        examples: maximum number of examples in one pass, which limits memory. The loss must then return one number per
            example.
        at_once: number of lengths in one backward pass. A smaller number needs less memory and more time.
        keep: If True, the result also holds the g_k themselves, (lengths, batch, ...).
    Returns:
        Norms of g_k for each length and example, from which shares, effective paths and depth follow.
    Raises:
        ConfigError: if `examples` is given and the loss returns one number for all, or the model uses batch statistics.
        DissectError: if the model makes other calls than the recorded pass, or the loss has no gradient.
        ShapeError: if the loss is neither one number nor one for each example.
    Source:
        After Veit, Wilber & Belongie 2016, sec. 4.2-4.3, who sample single paths; the exact sum is ours.

    >>> from torch import nn
    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> branch = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(branch.weight, 0.5)
    >>> net = nn.Sequential(Residual(branch), Residual(branch))           # y = (1 + a)^2·x with a = 1/2
    >>> d = dissect(net, torch.ones(1, 1))
    >>> d.path_gradients(lambda y: y.sum()).mean                         # 1, 2a, a^2
    tensor([1.0000, 1.0000, 0.2500])
    """
    parts = [_of_pass(cut, at_once, keep) for cut in cut_passes(engine, loss, inputs, targets, where, examples)]
    norms, along = torch.cat([part.norms for part in parts], 1), torch.cat([part.along for part in parts], 1)
    full = torch.cat([part.full for part in parts])
    gradients = torch.cat([part.gradients for part in parts if part.gradients is not None], dim=1) if keep else None
    return PathGradients(parts[0].counts, norms, along, full, gradients)


class _Part(NamedTuple):
    counts: Counts
    norms: Tensor
    along: Tensor
    full: Tensor
    gradients: Tensor | None


def _of_pass(cut: CutPass, at_once: int, keep: bool) -> _Part:
    counts = cut.routes().counts()
    start = cut.start
    by_length = gradients_by_length(cut, at_once)
    whole = torch.zeros_like(start)
    for gradient in by_length.values():
        whole += gradient
    zero = torch.zeros_like(start)
    each = [by_length.get(length, zero) for length in range(len(counts))]
    norms = torch.stack([_flat(gradient).norm(dim=1) for gradient in each])
    along = torch.stack([(_flat(gradient) * _flat(whole)).sum(1) for gradient in each])
    return _Part(counts, norms, along, _flat(whole).norm(dim=1), torch.stack(each) if keep else None)


def gradients_by_length(cut: CutPass, at_once: int = AT_ONCE) -> dict[int, Tensor]:
    """Compute each g_k at the start of a cut pass. Lengths without a path are omitted. The pieces are freed.

    From the loss backwards, the coefficients of every join are passed on: unchanged along the shortcut, and with the
    length increased by one through the branch. n joins in a row take n(n+1)/2 vector-Jacobian products through
    branches.
    """
    at: dict[int, dict[int, Tensor]] = {place: {} for place in (START, *(join.index for join in cut.joins))}

    def pass_on(length: int, gradients: dict[int, Tensor]) -> None:
        for leaf, gradient in gradients.items():
            so_far = at[leaf].get(length)
            at[leaf][length] = gradient if so_far is None else so_far + gradient

    if cut.end is not None:
        for gradients in vjp(cut.end, [cut.loss_form], 1):
            pass_on(0, gradients)
    while cut.joins:
        join = cut.joins.pop()  # frees its graph after this step
        lengths = at.pop(join.index)
        for piece, step in ((join.skip, 0), (join.through, 1)):
            if piece is not None:
                for length, gradients in zip(lengths, vjp(piece, list(lengths.values()), at_once), strict=True):
                    pass_on(length + step, gradients)
    return dict(sorted(at[START].items()))


def cut_passes(
    engine: Engine, loss: Loss, inputs: Any, targets: Any, where: Where | None, examples: int | None
) -> Iterator[CutPass]:
    """Run the inputs through the model in passes of at most `examples` examples, each cut at its joins."""
    args, kwargs = as_call(engine.example_inputs if inputs is None else inputs)
    first = next((len(t) for t in reachable_tensors((args, kwargs)) if t.dim()), 1)
    if examples is None or examples >= first:
        yield cut_pass(engine, args, kwargs, _with_targets(loss, targets), where)
        return
    if examples < 1:
        raise ConfigError(f"examples is the number of examples in one pass, at least 1, got {examples}.")
    if engine.tape.writes_state:
        raise ConfigError(
            "in this mode the model uses statistics of the batch, so smaller batches give different results. "
            "Call model.eval() and dissect it again, or leave `examples` out."
        )
    for begin in range(0, first, examples):

        def part(leaf: Any, begin: int = begin) -> Any:
            is_batched = isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == first
            return leaf[begin : begin + examples] if is_batched else leaf

        few_args, few_kwargs = map_structure((args, kwargs), part)
        cut = cut_pass(engine, few_args, few_kwargs, _with_targets(loss, map_structure(targets, part)), where)
        if not cut.per_example:
            raise ConfigError(
                "with `examples`, the loss must return one number for each example, since one number may be a sum or a "
                'mean. Use reduction="none".'
            )
        yield cut


def _with_targets(loss: Loss, targets: Any) -> Callable[[Any], Tensor]:
    if not accepts(loss, 1 if targets is None else 2):
        name = getattr(loss, "__name__", type(loss).__name__)
        wanted = "the model's output" if targets is None else "the model's output and the targets"
        raise ConfigError(
            f"the loss is called with {wanted}, which {name} does not accept. Pass another function, "
            + ("or pass `targets`." if targets is None else "or leave `targets` out.")
        )
    return loss if targets is None else lambda output: loss(output, targets)


def _flat(tensor: Tensor) -> Tensor:
    """Flatten to (batch, elements), in at least float32."""
    wide = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
    return wide.reshape(len(wide), -1) if wide.dim() else wide.reshape(1, 1)
