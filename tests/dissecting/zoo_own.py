"""The zoo's own networks, with their inputs and branches."""

import torch
from torch import nn

from thruway.networks import gated_resnet, mlp, resnet, vgg
from thruway.nn import HighwayConv2d, HighwayLinear

from .zoo_images import (
    Dense,
    Diffusion,
    Inception,
    LayerScaled,
    PooledShortcut,
    Pyramid,
    Reparameterised,
    Reversible,
    Shuffle,
    Siamese,
    SqueezeExcite,
    UNet,
    built,
    image,
)
from .zoo_rows import Case, each, gated, identity, module, projection
from .zoo_sequences import (
    WIDTH,
    CarryGate,
    Euler,
    Experts,
    GatedRecurrent,
    GatedTransformer,
    Graph,
    LongShortTerm,
    Mixer,
    Recurrent,
    ReZero,
    Routed,
    SpatialGate,
    Universal,
    WaveNet,
    WithLoss,
    chain,
    labelled,
    sequences,
    vectors,
)

MIXER = (identity("{}.positions", "{}.positions"), identity("{}.channels", "{}.channels"))

OWN: dict[str, Case] = {
    # --- images
    "ResNet for CIFAR": Case(  # pre-activation, option A: a zero-padded shortcut where a stage begins
        lambda: resnet((2, 2, 1), widths=(4, 6, 8)),
        image,
        tuple(
            row
            for place, kind in enumerate((identity, identity, projection, identity, projection))
            for row in each([place], kind("blocks.{}", "blocks.{}.branch"))
        ),
    ),
    "ResNet for ImageNet": Case(  # bottlenecks, a rectifier after the sum, 1x1 projections
        lambda: resnet((2, 1), widths=(2, 4), style="imagenet", branch="bottleneck", classes=5),
        lambda: torch.randn(2, 3, 32, 32),
        (
            projection("blocks.0", "blocks.0.branch"),
            identity("blocks.1", "blocks.1.branch"),
            projection("blocks.2", "blocks.2.branch"),
        ),
    ),
    "stochastic depth": Case(  # counted p times in evaluation
        lambda: resnet((2,), widths=(4,), order="post", survival=0.5),
        image,
        each(range(2), identity("blocks.{}", "blocks.{}.branch")),
    ),
    "random subset": Case(
        lambda: resnet((3,), widths=(4,), subset=1), image, each(range(3), identity("blocks.{}", "blocks.{}.branch"))
    ),
    "VGG": Case(  # a layer that changes its channels cannot go
        lambda: vgg(widths=((4, 4), (8, 8)), hidden=(8,)),
        image,
        (
            module("layers.conv1_2.0", "layers.conv1_2"),
            module("layers.conv2_2.0", "layers.conv2_2"),
            module("head.2.0", "head.2"),
        ),
        refused=("so it cannot be left out",),
    ),
    "DenseNet": Case(Dense, image, (), refused=("so it cannot be left out",)),
    "U-Net, added": Case(  # the outer way goes round the inner
        lambda: UNet(adds=True),
        image,
        (identity("the whole model", "up2"), identity("the whole model (2)", "up1")),
    ),
    "U-Net, concatenated": Case(
        # No way round is added, so that it counts as a chain; what lies below a concatenation is part of one layer.
        lambda: UNet(adds=False),
        image,
        (module("enter.1.0", "enter.1"),),
        refused=("so it cannot be left out",),
    ),
    "attention U-Net": Case(  # the gate adds maps of both of its signals, one of which is made of the other
        lambda: UNet(adds=False, weighs=True),
        image,
        (module("enter.1.0", "enter.1"),),
        refused=("its output is only used as a gate",),
    ),
    "Inception, added": Case(  # columns, none of which is the way round; a whole block can be left out
        lambda: built(Inception(), Inception()),
        image,
        (module("1", "1"), module("2", "2")),
        refused=("neither operand",),
    ),
    "RepVGG": Case(  # both maps are one branch, and the shortcut is normed
        lambda: built(Reparameterised(), Reparameterised()),
        image,
        each((1, 2), projection("{}", "{}.wide", "{}.small")),
        refused=("both operands are maps of one signal",),
    ),
    "squeeze-and-excitation": Case(
        lambda: built(SqueezeExcite(), SqueezeExcite()),
        image,
        each((1, 2), identity("{}", "{}.maps")),
    ),
    "ResNet-D": Case(lambda: built(PooledShortcut()), image, (projection("1", "1.maps"),)),
    "ShuffleNet": Case(lambda: built(Shuffle(), Shuffle()), image, each((1, 2), module("{}.changed", "{}.changed"))),
    "RevNet": Case(  # what stays is half of what came in
        lambda: built(Reversible(), Reversible()),
        image,
        each((1, 2), projection("{}", "{}.f"), projection("{} (2)", "{}.g")),
    ),
    "diffusion U-Net": Case(
        Diffusion,
        lambda: {"x": image(), "t": torch.tensor([3.0, 40.0])},
        (
            identity("down", "down.conv2"),
            projection("middle", "middle.conv2"),
            identity("the whole model", "out"),
            projection("up", "up.conv2"),
        ),
        refused=("differ in shape",),
    ),
    "feature pyramid": Case(Pyramid, image, (projection("the whole model", "grow"),)),
    "Siamese": Case(
        Siamese,
        lambda: (image(), image()),
        (identity("net.blocks.0", "net.blocks.0.branch@0"), identity("net.blocks.0 (2)", "net.blocks.0.branch@1")),
    ),
    "LayerScale, drop path": Case(
        lambda: built(LayerScaled(), LayerScaled()), image, each((1, 2), identity("{}", "{}.narrow"))
    ),
    "highway maps": Case(
        lambda: built(HighwayConv2d(4, 3), HighwayConv2d(4, 3, carry="independent")),
        image,
        each((1, 2), gated("{}", "{}")),
    ),
    # --- vectors and sequences
    "plain MLP": Case(
        lambda: mlp("plain", 4, WIDTH, inputs=9, classes=3),
        lambda: torch.randn(3, 9),
        each(range(3), module("blocks.{}", "blocks.{}")),
        refused=("so it cannot be left out",),
    ),
    "residual MLP": Case(
        lambda: mlp("residual", 4, WIDTH, inputs=9, classes=3),
        lambda: torch.randn(3, 9),
        each(range(3), identity("blocks.{}", "blocks.{}.branch")),
    ),
    "highway MLP": Case(
        lambda: mlp("highway", 4, WIDTH, inputs=9, classes=3, gate_bias=0.0),
        lambda: torch.randn(3, 9),
        each(range(3), gated("blocks.{}", "blocks.{}")),
    ),
    "highway MLP, two gates": Case(
        lambda: mlp("highway", 3, WIDTH, inputs=9, classes=3, gate_bias=0.0, carry="independent"),
        lambda: torch.randn(3, 9),
        each(range(2), gated("blocks.{}", "blocks.{}")),
    ),
    "highway MLP, fused": Case(  # the layers are not modules: no null of the model's own
        lambda: mlp("highway", 4, WIDTH, inputs=9, classes=3, gate_bias=0.0, fused=True),
        lambda: torch.randn(3, 9),
        (gated("blocks"), gated("blocks (2)"), gated("blocks (3)")),
    ),
    "characters' highway": Case(
        lambda: chain(CarryGate(), CarryGate(), HighwayLinear(WIDTH)),
        sequences,
        each((1, 2, 3), gated("{}", "{}")),
    ),
    "ResNet with gated shortcuts": Case(  # the gate weighs the shortcut alone
        lambda: gated_resnet((3,), "shortcut", -1.0, widths=(4,)),
        image,
        each(range(3), gated("blocks.{}", "blocks.{}")),
    ),
    "gated transformer": Case(  # what a gate weighs holds attention as well; without it the stream passes
        lambda: chain(GatedTransformer(), GatedTransformer()),
        sequences,
        each((1, 2), gated("{}.gate1", "{}.gate1"), gated("{}.gate2", "{}.gate2")),
        refused=("its output is only used as a gate",),
    ),
    "universal transformer": Case(
        lambda: chain(Universal()),
        sequences,
        tuple(
            row
            for time, ordinal in enumerate(("", " (2)", " (3)"))
            for row in (
                identity(f"1.attention{ordinal}", f"1.attention@{time}"),
                identity(f"1.feed{ordinal}", f"1.feed@{time}"),
            )
        ),
    ),
    "experts, weighed": Case(
        lambda: chain(Experts(), Experts()), sequences, each((1, 2), identity("{}", "{}.first", "{}.second"))
    ),
    "experts, routed": Case(lambda: chain(Routed(), Routed()), sequences, each((1, 2), identity("{}", "{}.after"))),
    "MLP-Mixer": Case(lambda: chain(Mixer(), Mixer()), sequences, each((1, 2), *MIXER)),
    "gMLP": Case(lambda: chain(SpatialGate()), sequences, (identity("1", "1.leave"),)),
    "WaveNet": Case(WaveNet, sequences, (identity("wide.0", "onward.0"), identity("wide.1", "onward.1"))),
    "Euler steps": Case(
        Euler,
        vectors,
        tuple(identity("the whole model" + n, f"field@{t}") for t, n in enumerate(("", " (2)", " (3)", " (4)"))),
    ),
    "ReZero": Case(lambda: chain(ReZero(), ReZero()), vectors, each((1, 2), identity("{}", "{}.maps"))),
    "graph": Case(
        Graph,
        lambda: {"nodes": vectors(), "edges": torch.rand(3, 3)},
        each(range(2), identity("messages.{}", "passed.{}")),
    ),
    "LSTM": Case(lambda: Recurrent(nn.LSTM), sequences, (), refused=("so it cannot be left out",)),
    "GRU": Case(lambda: Recurrent(nn.GRU), sequences, (), refused=("so it cannot be left out",)),
    "LSTM by hand": Case(LongShortTerm, sequences, (), refused=("neither operand",)),
    "GRU by hand": Case(  # in time it is a highway: h = (1 - z)·n + z·h, where the first h is no signal yet
        GatedRecurrent,
        sequences,
        (gated("the whole model"), *(gated(f"the whole model ({step})") for step in (2, 3, 4))),
    ),
    "loss inside, dataclass": Case(WithLoss, labelled, each(("blocks.0", "blocks.1"), *MIXER)),
}
