"""Sites: the inputs, outputs, gradients and parameters of a network that are measured, and a registry of them."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor

__all__ = ["KINDS", "GateRole", "Kind", "Registry", "Site", "StackLayers"]

Kind = Literal["output", "gradient", "parameter", "parameter_gradient", "update", "input", "step"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What a gate multiplies in a sum of two signals, of which the newer was computed from the older:
#   transform  the newer, and its complement the older: t in t * h + (1 - t) * x
#   carry      the older, and its complement the newer: c in c * x + (1 - c) * h
#   input      the newer alone, beside another gate: i in f * c + i * g
#   forget     the older alone, beside another gate: f in f * c + i * g
GateRole = Literal["transform", "carry", "input", "forget"]


@dataclass(eq=False, slots=True)
class Site:
    """One measured place: an input, an output, the gradient with respect to an output, a parameter, or the whole step.

    `name` is the path of a module. For a function called in a module's own code, it is the path and the operation
    ("blocks.3.add"). From the second call of a shared module on, the number of the call is appended ("encoder#2"). An
    output and its gradient have the same name. `shape` is that of the tensor when it was first captured, with its batch
    dimension; () also in traces of older files.
    """

    name: str
    kind: Kind
    operation: str  # class of the module, name of the function, "parameter", "input" or "step"
    activation: str | None = None  # for outputs of activation functions: a key of ENDS or ACTIVATIONS
    unit_dim: int = -1  # the dimension of the units (features or channels); 0 for parameters and single numbers
    is_gate: bool = False  # the output of a sigmoid that blends two signals
    order: int = 0  # position in the registry
    shape: tuple[int, ...] = ()
    gate_role: GateRole | None = None  # None if unknown, as in traces of older files
    group: Any = field(default=None, repr=False)  # the collector's group of tensors that are reduced together

    @property
    def key(self) -> tuple[Kind, str]:
        return self.kind, self.name

    @property
    def is_activation(self) -> bool:
        """True for a layer's output of an activation function that acts on each value, which softmax does not."""
        return self.activation not in (None, "softmax", "log_softmax") and not self.is_scalar

    @property
    def is_scalar(self) -> bool:
        """True for a single number, such as a returned loss, which is no layer; False for parameters."""
        return self.unit_dim == 0 and self.operation != "parameter"

    def __repr__(self) -> str:
        what = f", {self.activation}" if self.activation else ""
        return f"<{self.kind} {self.name} ({self.operation}{what}{', gate' if self.is_gate else ''})>"


class StackLayers(NamedTuple):
    """The sites of the layers of a HighwayStack or a RecurrentHighway."""

    outputs: tuple[tuple[Site, ...], ...]  # transform, transform gate, output; the last output is the stack's own site
    gradients: tuple[Site, ...]  # with respect to the outputs, without the last where that is the stack's own site


@dataclass
class Registry:
    """Sites by kind and name, in the order in which they were first captured.

    `branches` holds, for the name of each residual sum, the names of the outputs of the branch and of the shortcut.
    """

    sites: dict[tuple[Kind, str], Site] = field(default_factory=dict)
    branches: dict[str, tuple[str, str]] = field(default_factory=dict)
    branch_operand: dict[str, int | None] = field(default_factory=dict)
    # Paths of the modules of which a whole call was captured with its Lineage, so that branches and gates are known.
    with_lineage: set[str] = field(default_factory=set)
    stacks: dict[str, StackLayers] = field(default_factory=dict)
    known_outputs: dict[str, tuple[Site, Site]] = field(default_factory=dict)

    def output(self, name: str, operation: str, activation: str | None, tensor: Tensor) -> tuple[Site, Site]:
        """Return the site of an output and the site of the gradient with respect to it."""
        pair = self.known_outputs.get(name)
        if pair is None:
            unit_dim, shape = _unit_dim(tensor, operation), tuple(tensor.shape)
            pair = self.known_outputs[name] = (
                self.add(Site(name, "output", operation, activation, unit_dim, shape=shape)),
                self.add(Site(name, "gradient", operation, None, unit_dim, shape=shape)),
            )
        return pair

    def parameter(self, name: str, kind: Kind, tensor: Tensor) -> Site:
        """Return the site of a parameter, of its gradient or of its update."""
        known = self.sites.get((kind, name))
        return known or self.add(Site(name, kind, "parameter", unit_dim=0, shape=tuple(tensor.shape)))

    def input(self, name: str, tensor: Tensor) -> Site:
        """Return the site of a tensor that is passed to the model."""
        known = self.sites.get(("input", name))
        unit_dim = _unit_dim(tensor, "input")
        return known or self.add(Site(name, "input", "input", unit_dim=unit_dim, shape=tuple(tensor.shape)))

    def step(self, name: str) -> Site:
        """Return the site of a number of the whole step."""
        return self.sites.get(("step", name)) or self.add(Site(name, "step", "step"))

    def stack_layers(
        self,
        path: str,
        depth: int,
        activation: str | None,
        *,
        is_recurrent: bool = False,
        shape: tuple[int, ...] = (),
    ) -> StackLayers:
        """Return the sites of a stack's layers, named after the parts of HighwayLinear.

        The gradient of the last layer is omitted unless the stack is recurrent: a recurrent stack also feeds the output
        of the last layer to its next time step, so this gradient differs from that with respect to the output of the
        stack.
        """
        known = self.stacks.get(path)
        if known is None:
            before = f"{path}." if path else ""
            found: list[tuple[Site, Site, Site, Site]] = []
            for layer in range(depth):
                name = f"{before}{layer}"
                h = Site(f"{name}.activation", "output", "transform", activation, shape=shape)
                t = Site(
                    f"{name}.transform_gate",
                    "output",
                    "transform gate",
                    "sigmoid",
                    is_gate=True,
                    shape=shape,
                    gate_role="transform",
                )
                y = Site(name, "output", "highway layer", shape=shape)
                slope = Site(name, "gradient", "highway layer", shape=shape)
                found.append((self.add(h), self.add(t), self.add(y), self.add(slope)))
            transforms, gates, outputs, gradients = zip(*found, strict=True)
            captured = gradients if is_recurrent else gradients[:-1]
            known = self.stacks[path] = StackLayers((transforms, gates, outputs[:-1]), captured)
        return known

    def add(self, site: Site) -> Site:
        """Add a site, and set its position in the order."""
        site.order = len(self.sites)
        self.sites[site.key] = site
        return site


def _unit_dim(tensor: Tensor, operation: str) -> int:
    """Return the dimension of the units: channels for images and "1d" layers, the last dimension otherwise.

    A single number has none, and 0 is returned, which marks it in files, too.
    """
    if tensor.dim() == 0:
        return 0
    has_channels = tensor.dim() >= 4 or (tensor.dim() == 3 and operation.lower().endswith("1d"))
    return 1 if has_channels else -1
