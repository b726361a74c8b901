"""Benchmarks of the dissection on a CIFAR ResNet-110: lesions, the gradient by path length, the intact forward pass.

Lesions: each module is skipped in turn, on 2,000 images, compared with the usual implementation: forward hooks that
return the input, so that each module is still computed and every lesion needs a full forward pass. The two alternate
batch by batch, and all predictions must agree.

python -m benchmarks.dissecting --nnsight     compare with nnsight's .skip instead; needs nnsight,
                                              in a separate environment; 0.8.1 was used
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, ratio
from benchmarks.stack import Row, verdict
from thruway.dissecting import Dissection, Error, dissect
from thruway.networks import ResNet, resnet

DEPTH = 110
IMAGES = 2_000
BATCH = 125
SIZE = 32
TARGET = 1.8
PATH_TARGET = 60
INTACT_TARGET = 1.05


def trained_like(depth: int = DEPTH) -> ResNet:
    """Return the published architecture with random weights, which do not affect the time."""
    net = resnet(depth, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in net.modules():
            # Running statistics other than 0 and 1, as after training.
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    return net.eval()


def batches(images: int = IMAGES, batch: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of random images and labels in the format of CIFAR-10."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(images // batch):
        x = torch.randn(batch, 3, SIZE, SIZE, generator=generator)
        yield x, torch.randint(10, (batch,), generator=generator)


@torch.no_grad()
def with_hooks(net: ResNet, x: Tensor, target: Tensor) -> list[Tensor]:
    """Return the misclassified examples, intact and with each module's output replaced by its shortcut."""
    wrong = [net(x).argmax(1) != target]
    for module in net.blocks:

        def carry(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            carried: Tensor = block.shortcut(inputs[0])  # type: ignore[operator]
            return carried

        handle = module.register_forward_hook(carry)
        try:
            wrong.append(net(x).argmax(1) != target)
        finally:
            handle.remove()
    return wrong


def with_nnsight(net: ResNet) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """Return a function that does the same with nnsight, which skips the computation of each module."""
    from nnsight import NNsight  # type: ignore[import-not-found, unused-ignore]

    model = NNsight(net)

    @torch.no_grad()
    def wrong(x: Tensor, target: Tensor) -> list[Tensor]:
        answers = [net(x).argmax(1) != target]
        for index, block in enumerate(net.blocks):
            with model.trace(x):
                model.blocks[index].skip(block.shortcut(model.blocks[index].input))
                output = model.output.save()
            answers.append(output.argmax(1) != target)
        return answers

    return wrong


def with_thruway(d: Dissection, x: Tensor, target: Tensor) -> list[Tensor]:
    """Return the misclassified examples computed by delete_each."""
    found = d.delete_each(Error([(x, target)]), resamples=1)
    assert found.scores is not None
    assert found.intact_scores is not None
    return [found.intact_scores.bool(), *found.scores.bool()]


def compared(
    other: Callable[[Tensor, Tensor], list[Tensor]], d: Dissection, images: int
) -> tuple[list[float], list[float], int]:
    """Return the seconds per batch of the other implementation and of ours, and the number of different predictions."""
    slow: list[float] = []
    fast: list[float] = []
    differ = 0
    for x, target in batches(images):
        answers: list[list[Tensor]] = []
        for seconds, method in ((slow, other), (fast, lambda x, target: with_thruway(d, x, target))):
            started = time.perf_counter()
            answers.append(method(x, target))
            seconds.append(time.perf_counter() - started)
        differ += sum(int((a != b).sum()) for a, b in zip(*answers, strict=True))
    return slow, fast, differ


def lesions(name: str = "forward hooks", images: int = IMAGES) -> Iterator[Row]:
    """All single deletions, compared with another implementation."""
    net = trained_like()
    other = with_nnsight(net) if name == "nnsight .skip" else lambda x, target: with_hooks(net, x, target)
    x, _ = next(batches())
    d = dissect(net, x)
    d.without(0)(x[:1])  # warm-up
    slow, fast, differ = compared(other, d, images)
    low, middle, high = ratio(slow, fast) if len(slow) > 1 else (slow[0] / fast[0],) * 3
    total = sum(slow) / sum(fast)
    yield (
        f"deleting each of {len(d.branches)} modules of a ResNet-{DEPTH}, {images:,} images of {SIZE} x {SIZE} in "
        f"batches of {BATCH}, against {name}; predictions that differ: {differ}",
        f">= {TARGET}x, 0 differ",
        f"{middle:.2f}x ({low:.2f}-{high:.2f}), {sum(fast):.0f} s",
        verdict(middle >= TARGET and total >= TARGET and differ == 0),
    )


def paths(images: int = 8, rounds: int = 4) -> Iterator[Row]:
    """The exact gradient by path length, compared with autograd's backward pass to the input."""
    net = trained_like().requires_grad_(False)
    x, target = (each[:images] for each in next(batches()))
    d = dissect(net, x)
    backward: list[float] = []
    exact: list[float] = []
    for number in range(1 + rounds):
        inputs = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(net(inputs), target)
        started = time.perf_counter()
        (full,) = torch.autograd.grad(loss, inputs)
        between = time.perf_counter()
        found = d.path_gradients(nn.functional.cross_entropy, x, target, where="input")
        if number:
            backward.append(between - started)
            exact.append(time.perf_counter() - between)
    error = float((found.full - full.flatten(1).norm(dim=1)).norm() / found.full.norm())
    low, middle, high = ratio(exact, backward)
    yield (
        f"exact gradient by path length, ResNet-{DEPTH}, {images} images of {SIZE} x {SIZE}, all its forward and "
        f"backward work, in plain backward passes to the input; its sum against autograd's gradient: {error:.0e}",
        f"<= {PATH_TARGET}, error <= 1e-5",
        f"{middle:.1f} ({low:.1f}-{high:.1f})",
        verdict(middle <= PATH_TARGET and error <= 1e-5),
    )


@torch.no_grad()
def intact(images: int = 8, rounds: int = 30) -> Iterator[Row]:
    """A forward pass through the dissection without lesions, compared with that of the bare model."""
    net = trained_like()
    x, _ = (each[:images] for each in next(batches()))
    whole = dissect(net, x).without()
    if not torch.equal(whole(x), net(x)):
        raise RuntimeError("the dissection without lesions gave other outputs than the model.")
    seconds = interleaved({"bare": lambda: net(x), "intact": lambda: whole(x)}, rounds)
    low, middle, high = ratio(seconds["intact"], seconds["bare"])
    yield (
        f"a pass through the dissection with nothing left out / the bare ResNet-{DEPTH}, {images} images of "
        f"{SIZE} x {SIZE}",
        f"<= {INTACT_TARGET}x",
        f"{middle:.3f}x ({low:.3f}-{high:.3f})",
        verdict(middle <= INTACT_TARGET),
    )


BENCHMARKS: dict[str, Callable[[], Iterator[Any]]] = {
    "dissecting_lesions": lesions,
    "dissecting_paths": paths,
    "dissecting_intact": intact,
}


if __name__ == "__main__":
    torch.set_num_threads(2)
    images = int(next((word for word in sys.argv[1:] if word.isdigit()), IMAGES))
    for row in lesions("nnsight .skip" if "--nnsight" in sys.argv else "forward hooks", images):
        print("| " + " | ".join(row) + " |")
