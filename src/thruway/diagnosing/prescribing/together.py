"""Training of many setups of one architecture in vectorised steps, with the optimizers of UPDATES."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from thruway.diagnosing.prescribing.measuring import measuring_mode
from thruway.diagnosing.prescribing.setup import Setup
from thruway.diagnosing.prescribing.snapshot import Snapshot
from thruway.diagnosing.prescribing.stacked import stacked_losses
from thruway.diagnosing.prescribing.updates import UPDATES
from thruway.train.population import architecture, tensors_of, with_tensors

__all__ = ["Together", "group_key", "reason_against"]

Batch = tuple[Any, Any]


def reason_against(setup: Setup) -> str:
    """Return the reason why a setup cannot be trained together with others; "" if it can."""
    optimizer = setup.optimizer
    if type(optimizer) not in UPDATES:
        known = ", ".join(kind.__name__ for kind in UPDATES)
        return f"the update of {type(optimizer).__name__} is not vectorised (those of {known} are)"
    settings = UPDATES[type(optimizer)].settings
    if len({tuple(group[name] for name in settings) for group in optimizer.param_groups}) > 1:
        return "the parameter groups of the optimizer have different settings"
    trained = [p for p in setup.model.parameters() if p.requires_grad]
    if len({(p.dtype, p.device) for p in trained}) > 1:
        return "the parameters have different dtypes or devices"
    return "" if trained else "no parameter is trainable"


def group_key(setup: Setup) -> list[Any]:
    """Return what must be equal in all setups that are trained together."""
    update = UPDATES[type(setup.optimizer)]
    settings = {name: setup.optimizer.param_groups[0][name] for name in update.settings}
    return [type(setup.optimizer), settings, setup.scaling, architecture(setup.model)]


class Together:
    """Setups of one architecture, trained together on the same batches, each with its own numbers.

    A member with a loss that is not finite is masked: its tensors are set to zero and its losses are NaN from then on.

    Args:
        setups: at least one; `reason_against` is "" and `group_key` is equal for all. They are not changed.
        loss: function of (outputs, targets) that returns the 0-d loss of one member.
    """

    def __init__(self, setups: Sequence[Setup], loss: Callable[[Any, Any], Tensor]) -> None:
        models = [setup.model for setup in setups]
        self._loss = loss
        self._update = UPDATES[type(setups[0].optimizer)]
        self._settings = {name: setups[0].optimizer.param_groups[0][name] for name in self._update.settings}
        self._template = with_tensors(models[0], {name: t.to("meta") for name, t in tensors_of(models[0]).items()})
        parameters, buffers = stack_module_state(models)
        self._buffers = {name: b.detach().clone() for name, b in buffers.items()}
        frozen = {name: p.detach() for name, p in parameters.items() if not p.requires_grad}
        trained = {name: p.detach() for name, p in parameters.items() if p.requires_grad}
        self._shapes = {name: p.shape[1:] for name, p in trained.items()}
        sizes = [p[0].numel() for p in trained.values()]
        self._flat = torch.cat([p.reshape(len(setups), -1) for p in trained.values()], dim=1)
        # A model whose parameters have an axis of members and share the memory of the flat ones, which updates write.
        pieces = torch.split(self._flat, sizes, dim=1)
        views = {
            name: piece.view(len(setups), *self._shapes[name]) for name, piece in zip(trained, pieces, strict=True)
        }
        self._model = with_tensors(models[0], {**views, **frozen, **self._buffers})
        self._parameters: dict[str, Tensor] = dict(self._model.named_parameters())
        self._tensors = [*self._model.parameters(), *self._model.buffers()]
        self._leaves = {name: self._parameters[name] for name in trained}
        self._gradient = torch.zeros_like(self._flat)
        self._state: dict[str, Tensor] = {}
        self._numbers = self._hyperparameters(setups)
        self._clip = self._column([float("inf") if s.clip is None else s.clip for s in setups])
        self._clips = any(setup.clip is not None for setup in setups)
        self._keeps = self._column([0.0 if setup.zero_grad else 1.0 for setup in setups])
        self._accumulates = any(not setup.zero_grad for setup in setups)
        self.diverged_at = torch.full((len(setups),), -1)  # step of divergence, or -1
        self._steps = 0
        self._pass: Callable[[Batch], Tensor] | None = None  # chosen in the first pass

    def step(self, batch: Batch) -> Tensor:
        """Update all members; return their losses before the update, float64 on the CPU, NaN if diverged."""
        losses = self._losses(batch)
        computed = torch.autograd.grad(losses.sum(), list(self._leaves.values()), allow_unused=True)
        with torch.no_grad():
            self._collect(computed)
            values = losses.detach().double().cpu()
            diverged = ~torch.isfinite(values) & (self.diverged_at < 0)
            if diverged.any():
                self._mask(diverged)
            if self._clips:
                norms = torch.linalg.vector_norm(self._gradient, dim=1, keepdim=True)
                self._gradient.mul_((self._clip / (norms + 1e-6)).clamp(max=1.0))  # as torch's clip_grad_norm_
            self._steps += 1
            self._update.apply(self._flat, self._gradient, self._numbers, self._settings, self._state, self._steps)
        return values.masked_fill(self.diverged_at >= 0, float("nan"))

    def measure(self, batches: Iterable[Batch]) -> Tensor:
        """Return the mean loss of every member over some batches, without dropout; float64, NaN if diverged."""
        kept = {name: b.clone() for name, b in self._buffers.items()}
        with torch.no_grad(), measuring_mode(self._template), measuring_mode(self._model):
            values = [self._losses(batch) for batch in batches]
            for name, buffer in kept.items():
                self._buffers[name].copy_(buffer)
        mean = torch.stack(values).double().mean(dim=0).cpu()
        return mean.masked_fill(self.diverged_at >= 0, float("nan"))

    def is_alive(self, member: int) -> bool:
        """Return False if a member has diverged."""
        return bool(self.diverged_at[member] < 0)

    def snapshot(self, member: int) -> Snapshot:
        """Return a copy of the training state of one member."""
        states: dict[str, dict[str, Tensor]] = {}
        offset = 0
        for name, shape in self._shapes.items():
            piece = slice(offset, offset + shape.numel())
            offset += shape.numel()
            states[name] = {key: t[member, piece].view(shape).clone() for key, t in self._state.items()}
            if self._update.counts and self._steps:
                states[name]["step"] = torch.tensor(float(self._steps))
            if self._accumulates and self._keeps[member]:
                states[name]["gradient"] = self._gradient[member, piece].view(shape).clone()
        tensors = {**self._parameters, **self._buffers}
        return Snapshot({name: t[member].detach().clone() for name, t in tensors.items()}, states)

    def _losses(self, batch: Batch) -> Tensor:
        if self._pass is None:
            self._pass = self._fastest_pass(batch)
        return self._pass(batch)

    def _fastest_pass(self, batch: Batch) -> Callable[[Batch], Tensor]:
        """Return the fastest pass that gives the losses of vmap. Buffers are unchanged afterwards."""
        kept = {name: b.clone() for name, b in self._buffers.items()}
        expected: Tensor | None = None
        for stacked in (self._stacked_losses, self._stacked_outputs):
            try:
                with torch.no_grad():
                    expected = self._mapped_losses(batch) if expected is None else expected
                    found = stacked(batch)
                if found.shape == expected.shape and torch.allclose(
                    found, expected, rtol=1e-3, atol=1e-5, equal_nan=True
                ):
                    return stacked
            except Exception:  # a function without an entry, or one that the axis of members confuses
                continue
            finally:
                for name, buffer in kept.items():
                    self._buffers[name].copy_(buffer)
        return self._mapped_losses

    def _stacked_losses(self, batch: Batch) -> Tensor:
        return stacked_losses(self._model, self._tensors, self._loss, batch, is_loss_stacked=True)

    def _stacked_outputs(self, batch: Batch) -> Tensor:
        return stacked_losses(self._model, self._tensors, self._loss, batch, is_loss_stacked=False)

    def _mapped_losses(self, batch: Batch) -> Tensor:
        arguments, keywords = _arguments(batch[0])

        def loss_of(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return self._loss(functional_call(self._template, (parameters, buffers), arguments, keywords), batch[1])

        result: Tensor = torch.vmap(loss_of, randomness="different")(self._parameters, self._buffers)
        return result

    def _collect(self, computed: Sequence[Tensor | None]) -> None:
        """Write the gradients into the flat gradient, or add them where the loop does not zero it."""
        pieces = [
            g.reshape(len(self._flat), -1) if g is not None else leaf.new_zeros(len(self._flat), leaf[0].numel())
            for g, leaf in zip(computed, self._leaves.values(), strict=True)
        ]
        if self._steps == 0:
            self._skip_unused(computed)
        if self._accumulates:
            self._gradient.mul_(self._keeps).add_(torch.cat(pieces, dim=1))
        else:
            torch.cat(pieces, dim=1, out=self._gradient)

    def _skip_unused(self, computed: Sequence[Tensor | None]) -> None:
        """Set the rate of parameters on which the loss does not depend to zero: torch.optim skips them."""
        if all(g is not None for g in computed):
            return
        used = torch.cat(
            [
                self._flat.new_full((leaf[0].numel(),), float(g is not None))
                for g, leaf in zip(computed, self._leaves.values(), strict=True)
            ]
        )
        self._numbers["lr"] = self._numbers["lr"] * used

    def _mask(self, diverged: Tensor) -> None:
        self.diverged_at[diverged] = self._steps
        where = diverged.to(self._flat.device)
        for tensor in (self._flat, self._gradient, *self._state.values(), *self._buffers.values()):
            tensor[where] = 0

    def _hyperparameters(self, setups: Sequence[Setup]) -> dict[str, Tensor]:
        """Return the numbers of the parameter groups, (members, 1) or (members, P); the rate is 0 outside of them."""
        rows: dict[str, list[Tensor]] = {name: [] for name in self._update.numbers}
        uniform = True
        for setup in setups:
            group_of = {id(p): group for group in setup.optimizer.param_groups for p in group["params"]}
            named = dict(setup.model.named_parameters())
            groups = [group_of.get(id(named[name])) for name in self._shapes]
            uniform = uniform and len({id(group) for group in groups}) == 1
            for name, row in rows.items():
                row.append(
                    torch.cat(
                        [
                            torch.full(
                                (shape.numel(),),
                                _number(group, name, setup.optimizer.param_groups[0]),
                                dtype=torch.float64,
                            )
                            for group, shape in zip(groups, self._shapes.values(), strict=True)
                        ]
                    )
                )
        stacked = {name: torch.stack(row).to(self._flat) for name, row in rows.items()}
        return {name: values[:, :1].contiguous() for name, values in stacked.items()} if uniform else stacked

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).to(self._flat).unsqueeze(1)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, dict):
        return (), inputs
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def _number(group: dict[str, Any] | None, name: str, default: dict[str, Any]) -> float:
    if group is None:  # a parameter that the optimizer does not know; its other numbers must only be valid
        return 0.0 if name == "lr" else _number(default, name, default)
    if name.startswith("beta"):
        return float(group["betas"][int(name[-1]) - 1])
    return float(group[name])
