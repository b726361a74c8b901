"""Table of the two published families of residual networks: stems, widths and depths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from thruway.errors import ConfigError
from thruway.networks.resnet_modules import BRANCHES, Order
from thruway.nn.checks import check_size

__all__ = ["IMAGENET_DEPTHS", "STYLES", "Style", "stages_of"]


@dataclass(frozen=True)
class Style:
    """A family of networks: its stem, its depths and the defaults of its other arguments."""

    stem: Callable[[int, int, Order], nn.Sequential]  # (channels of the images, first width, order)
    by_depth: Callable[[int, str | None, int], tuple[tuple[int, ...], str]]  # (depth, branch, stages)
    widths: tuple[int, ...]
    order: str
    shortcut: str
    classes: int


def _cifar_stem(inputs: int, width: int, order: Order) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1, bias=False), *order.stem_end(width))


def _imagenet_stem(inputs: int, width: int, order: Order) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 7, stride=2, padding=3, bias=False),
        *order.stem_end(width),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _cifar_depth(depth: int, branch: str | None, stages: int) -> tuple[tuple[int, ...], str]:
    """6n + 2 layers in three stages of n two-layer modules; 9n + 2 with bottlenecks."""
    branch = "basic" if branch is None else branch
    step = BRANCHES[branch].layers * stages
    each, rest = divmod(depth - 2, step)
    if rest or each < 1:
        below = max(each, 1) * step + 2
        raise ConfigError(
            f"depth must be {step}n + 2 for {stages} stages of n {branch} modules, the first and the last layer, got "
            f"{depth}: the nearest are {below} and {below + step}. Or pass the modules of each stage, such as "
            f"depth={(1,) * stages}."
        )
    return (each,) * stages, branch


IMAGENET_DEPTHS: dict[int, tuple[tuple[int, ...], str]] = {
    18: ((2, 2, 2, 2), "basic"),
    34: ((3, 4, 6, 3), "basic"),
    50: ((3, 4, 6, 3), "bottleneck"),
    101: ((3, 4, 23, 3), "bottleneck"),
    152: ((3, 8, 36, 3), "bottleneck"),
    200: ((3, 24, 36, 3), "bottleneck"),
}


def _imagenet_depth(depth: int, branch: str | None, stages: int) -> tuple[tuple[int, ...], str]:
    if depth not in IMAGENET_DEPTHS:
        raise ConfigError(
            f"no ImageNet network of depth={depth} was published. Known: {', '.join(map(str, IMAGENET_DEPTHS))}. Or "
            "pass the modules of each stage, such as depth=(3, 4, 6, 3), and branch=."
        )
    modules, published = IMAGENET_DEPTHS[depth]
    if branch not in (None, published):
        raise ConfigError(
            f"the {depth}-layer ImageNet network has {published} branches, got branch={branch!r}. For another network "
            f"pass the modules of each stage: depth={modules}."
        )
    return modules, published


STYLES: dict[str, Style] = {
    "cifar": Style(_cifar_stem, _cifar_depth, (16, 32, 64), "pre", "pad", 10),
    "imagenet": Style(_imagenet_stem, _imagenet_depth, (64, 128, 256, 512), "post", "project", 1000),
}


def stages_of(
    style: Style, depth: int | Sequence[int], branch: str | None, widths: Sequence[int]
) -> tuple[tuple[int, ...], str]:
    """Return the number of modules of each stage and the kind of their branches."""
    if isinstance(depth, Sequence) and not isinstance(depth, str):
        modules = tuple(check_size("the number of modules in a stage", number) for number in depth)
        branch = "basic" if branch is None else branch
    else:
        modules, branch = style.by_depth(check_size("depth", depth), branch, len(widths))
    if len(modules) != len(widths) or not modules:
        raise ConfigError(
            f"pass one width for each stage, at least one: got {len(modules)} stages, of {modules} modules, and "
            f"{len(widths)} widths, {tuple(widths)}."
        )
    return modules, branch
