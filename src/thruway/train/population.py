"""Populations: many networks of the same architecture, trained together in vectorised steps.

A random search trains the same network dozens of times with different hyper-parameters. For narrow deep networks the
time is dominated by the number of calls, not by arithmetic, so one call for all members takes little more time than a
call for a single network. Every parameter has a leading axis of members, the losses of all members are computed by one
vmap, and the update consists of a few broadcast operations with a learning rate, momentum and weight decay per member.

Members are independent: a member that diverges to NaN or infinity is masked, and the others are not affected.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

from thruway.errors import CheckpointError, ConfigError
from thruway.nn import RandomSubset, Residual
from thruway.train.memory import Arena

__all__ = ["SGD", "Population", "architecture", "tensors_of", "with_tensors"]

# Attributes that determine only the initial weights of a member, not its computation.
_MAY_DIFFER = {"gate_bias"}


@dataclass(frozen=True)
class SGD:
    """The update rule of one member.

        g <- dL/dw + weight_decay w       v <- momentum v + g       w <- w - lr (v, or g + momentum v with Nesterov)

    `lr_decay` is the factor by which the learning rate is multiplied after each epoch.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    lr_decay: float = 1.0

    def __post_init__(self) -> None:
        for name, value, is_allowed, allowed in (
            ("lr", self.lr, 0 < self.lr < math.inf, "finite and above 0"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "finite and at least 0"),
            ("lr_decay", self.lr_decay, 0 < self.lr_decay <= 1, "in (0, 1]"),
        ):
            if not is_allowed:
                raise ConfigError(f"{name} must be {allowed}, got {value!r}.")


class Population:
    """A set of networks of the same architecture, trained together, each with its own SGD state.

    As with PyTorch's optimizers, parameters with requires_grad=False and parameters on which the loss does not depend
    are not changed. Tied weights stay tied.

    Args:
        models: the members, with their own initial weights (and gate biases). Their state is copied. They run in their
            current mode, training or evaluation.
        rules: one SGD rule per member.
        nesterov: if True, use Nesterov momentum for all members.
        clip: maximum L2 norm of the gradient of each member. If None, gradients are not clipped.
        loss: function of (outputs, targets) that returns the 0-d loss of one member.
    Raises:
        ConfigError: if there are no models, the numbers of models and rules differ, the architectures differ (callable
            activations must be the same function object), there are no parameters to train, a module skips branches at
            random in training, or `clip` is not above 0.

    >>> nets = [nn.Linear(2, 2) for _ in range(3)]
    >>> population = Population(nets, [SGD(lr=0.1), SGD(lr=0.2), SGD(lr=0.3, momentum=0.9)])
    >>> population.step(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)).shape
    torch.Size([3])
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        rules: Sequence[SGD],
        *,
        nesterov: bool = False,
        clip: float | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    ) -> None:
        _check_members(models, rules)
        if clip is not None and not clip > 0:
            raise ConfigError(f"clip must be above 0 (or None for no clipping), got {clip!r}.")
        params, buffers = stack_module_state(list(models))
        self._template = with_tensors(models[0], {name: t.to("meta") for name, t in tensors_of(models[0]).items()})
        self.parameters: dict[str, Tensor] = {
            name: p.detach().requires_grad_(p.requires_grad) for name, p in params.items()
        }
        self.buffers: dict[str, Tensor] = {name: b.detach().clone() for name, b in buffers.items()}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.parameters.items() if p.requires_grad}
        self.rules, self.nesterov, self.clip, self.epoch = tuple(rules), nesterov, clip, 0.0
        device = next(iter(self.parameters.values())).device
        self.diverged_at = torch.full((len(models),), -1, dtype=torch.long)  # step of divergence, or -1
        self.steps = 0
        self._loss, self._arena = loss, Arena()
        self._momentum = _column(rules, "momentum", device)
        self._weight_decay = _column(rules, "weight_decay", device)
        self._decays = any(rule.weight_decay > 0 for rule in rules)

    def __len__(self) -> int:
        return len(self.rules)

    @property
    def is_alive(self) -> Tensor:
        """True for members that have not diverged: bool, (members,), on the CPU."""
        return self.diverged_at < 0

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return the outputs of all members for one batch, (members, batch, ...), without gradient; NaN if diverged.

        Members run in the mode of the models passed to the constructor: in training mode, batch norm uses the
        statistics of the batch and dropout is active. The state of the population, including running statistics, does
        not change.
        """
        buffers = {name: b.clone() for name, b in self.buffers.items()}  # batch norm writes into them

        def output_of(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return functional_call(self._template, (params, buffers), (inputs,))  # type: ignore[no-any-return]

        with torch.no_grad():
            outputs: Tensor = torch.vmap(output_of, randomness="different")(self.parameters, buffers)
        return outputs.masked_fill(_over(~self.is_alive, outputs).bool().to(outputs.device), float("nan"))

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Update all members that have not diverged; return the losses before the update, (members,), NaN if diverged.

        Args:
            inputs, targets: one batch, used for all members.
        """
        with self._arena.step():
            losses = self._member_losses(inputs, targets)
            # Members share no parameters, so the gradient of the sum contains the gradient of each member.
            trained = [self.parameters[name] for name in self.velocity]
            computed = torch.autograd.grad(losses.sum(), trained, allow_unused=True)
            gradients = {name: g for name, g in zip(self.velocity, computed, strict=True) if g is not None}
            losses = losses.detach()
            with torch.no_grad():
                self._mask_diverged(losses, gradients)
                self._update(gradients)
        self.steps += 1
        return self._mask_losses(losses)

    def model(self, member: int) -> nn.Module:
        """Return a copy of one member as an ordinary module."""
        state = {**self.parameters, **self.buffers}
        return with_tensors(self._template, {name: t[member].detach().clone() for name, t in state.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return the training state except `epoch` as named tensors, for a checkpoint.

        They share memory with the population: copy or save them before the next step.
        """
        kinds = {"parameters": self.parameters, "buffers": self.buffers, "velocity": self.velocity}
        named = {f"{kind}/{name}": t.detach() for kind, tensors in kinds.items() for name, t in tensors.items()}
        return {**named, "diverged_at": self.diverged_at, "steps": torch.tensor(self.steps)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state returned by `tensors()`. After `epoch` is set as well, training continues bit for bit.

        Raises:
            CheckpointError: if a tensor is missing or unknown, or has another shape or dtype. In this case nothing is
                changed.
        """
        own = self.tensors()
        mismatched = sorted(set(own) ^ set(tensors)) or sorted(
            name for name, t in own.items() if (t.shape, t.dtype) != (tensors[name].shape, tensors[name].dtype)
        )
        if mismatched:
            raise CheckpointError(
                f"the checkpoint belongs to another population: {', '.join(mismatched[:5])} do not match."
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])
        self.steps = int(tensors["steps"])

    def _member_losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        def loss_of(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return self._loss(functional_call(self._template, (params, buffers), (inputs,)), targets)

        result: Tensor = torch.vmap(loss_of, randomness="different")(self.parameters, self.buffers)
        return result

    def _mask_diverged(self, losses: Tensor, gradients: Mapping[str, Tensor]) -> None:
        """Mark members whose loss is not finite, and set all their tensors to 0; they are not updated any more.

        A network of zeros has a finite loss, so later steps need no mask.
        """
        diverged = ~torch.isfinite(losses).cpu() & self.is_alive
        if diverged.any():
            self.diverged_at[diverged] = self.steps
            for tensors in (self.parameters, self.velocity, gradients, self.buffers):
                for tensor in tensors.values():
                    tensor[diverged.to(tensor.device)] = 0

    def _mask_losses(self, losses: Tensor) -> Tensor:
        """Replace the losses of diverged members by NaN."""
        return losses.masked_fill(~self.is_alive.to(losses.device), float("nan"))

    def _update(self, gradients: dict[str, Tensor]) -> None:
        rates = [rule.lr * rule.lr_decay**self.epoch for rule in self.rules]
        lr = (torch.tensor(rates, dtype=torch.float64) * self.is_alive).to(self._momentum.device)
        if self.clip is not None and gradients:
            norms = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
            shrink = (self.clip / (norms + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
            gradients = {name: g * _over(shrink, g) for name, g in gradients.items()}
        for name, g in gradients.items():
            w, v = self.parameters[name], self.velocity[name]
            momentum = _over(self._momentum, w)
            if self._decays:
                g = torch.addcmul(g, w, _over(self._weight_decay, w))
            v.mul_(momentum).add_(g)
            w.addcmul_(torch.addcmul(g, v, momentum) if self.nesterov else v, _over(lr, w), value=-1)


def _column(rules: Sequence[SGD], field: str, device: torch.device) -> Tensor:
    """Return one field of all rules, float64, (members,)."""
    return torch.tensor([getattr(rule, field) for rule in rules], dtype=torch.float64, device=device)


def _check_members(models: Sequence[nn.Module], rules: Sequence[SGD]) -> None:
    if not models or len(models) != len(rules):
        raise ConfigError(
            f"a population needs at least one model, and one rule per model, got {len(models)} models, "
            f"{len(rules)} rules."
        )

    first = architecture(models[0])
    for index, model in enumerate(models[1:], start=1):
        if architecture(model) != first:
            raise ConfigError(
                f"all members must share one architecture: model {index} differs from model 0. Use a separate "
                "population for networks of a different depth, width or activation. A callable activation must be the "
                "same function object in all members, and the same parameters must be frozen or tied."
            )
    if not any(p.requires_grad for p in models[0].parameters()):
        raise ConfigError("a population needs parameters to train: the models have none with requires_grad=True.")
    for name, module in models[0].named_modules():
        if isinstance(module, Residual) and module.training and module.drop > 0:
            raise ConfigError(
                f"the Residual at {name or 'the top'!r} skips its branch at random (drop={module.drop}), which members "
                "that run together cannot do separately. Train such networks one by one with train()."
            )
        if isinstance(module, RandomSubset) and module.training:
            raise ConfigError(
                f"the RandomSubset at {name or 'the top'!r} uses a random subset of its branches, which members that "
                "run together cannot draw separately. Train such networks one by one with train()."
            )


def architecture(model: nn.Module) -> tuple[Any, ...]:
    """Return what must be equal in all members: shapes, frozen and tied parameters, modules and their settings."""
    shapes = {name: (t.shape, t.dtype) for name, t in model.state_dict().items()}
    trained = {name: p.requires_grad for name, p in model.named_parameters()}  # tied parameters once
    return (shapes, trained), [(name, type(module), _settings(module)) for name, module in model.named_modules()]


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers, tied ones once, with names as in `torch.func.stack_module_state`."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def with_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of `model` with the given tensors. Unlike `.to("meta")`, it keeps tied parameters tied."""
    memo: dict[int, Any] = {}
    for name, own in tensors_of(model).items():
        is_parameter = isinstance(own, nn.Parameter)
        memo[id(own)] = nn.Parameter(tensors[name], own.requires_grad) if is_parameter else tensors[name]
    return copy.deepcopy(model, memo)


def _over(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values of shape (members,) so that they broadcast over a parameter with a members axis."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that affect the output of a module.

    They must be equal, since one template computes all members.
    """
    plain = (bool, int, float, str, tuple)
    return {n: v for n, v in vars(module).items() if (isinstance(v, plain) or callable(v)) and n not in _MAY_DIFFER}
