"""Models for the command: one with lesions known by hand, and functions with mistakes."""

import torch
from torch import nn

from thruway.nn import Residual

SOURCE = """
import torch
from torch import nn
from dissect_models import labelled, planted


def model(): return planted()


def with_example(): return planted(), torch.eye(2)


def with_batches(): return planted(), torch.eye(2), labelled()


def towards(): return planted(), torch.eye(2), [(torch.eye(2), torch.eye(2))]


def unlabelled(): return planted(), torch.eye(2), [(torch.eye(2), None)]


def chain(): return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), torch.eye(2), labelled()


def raises(): raise ValueError("the weights have gone")


def leaves(): raise SystemExit(3)


def text(): return "net"


def four(): return planted(), 1, 2, 3


def bad_batches(): return planted(), torch.eye(2), [torch.eye(2)]


def no_batches(): return planted(), torch.eye(2), []


def strange_targets(): return planted(), torch.eye(2), [(torch.eye(2), "cats")]


def too_many_classes(): return planted(), torch.eye(2), [(torch.eye(2), torch.tensor([0, 7]))]


def fails_on_its_example(): return planted(), torch.ones(2, 3)


def endless():
    def ever():
        while True:
            yield labelled()[0]
    return planted(), torch.eye(2), ever()


def breaks_off():
    def some():
        yield labelled()[0]
        raise OSError("the disk has gone")
    return planted(), torch.eye(2), some()


def no_iterable(): return planted(), torch.eye(2), 3


def without_numbers():
    with torch.device("meta"):
        return nn.Linear(2, 2)


def sick():
    net = planted()
    net[0].branch.weight.data.fill_(float("nan"))
    return net, torch.eye(2), labelled()


def bare(): return nn.Identity(), torch.eye(2), labelled()


def wants_more(size): return planted()


def deep_inside():
    net = nn.Sequential()
    net.add_module("a_name_that_is_longer_than_a_line_of_a_narrow_console_has_room_for", planted())
    return net, torch.eye(2), labelled()


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x): return x + self.weight * x


def odd(): return Odd()


number = 3
"""


def planted() -> nn.Module:
    """Branch 0 swaps the two classes, branch 1 adds nothing."""
    net = nn.Sequential(Residual(nn.Linear(2, 2)), Residual(nn.Linear(2, 2)))
    with torch.no_grad():
        for block, weight in zip(net, ([[-2.0, 1.0], [1.0, -2.0]], [[0.0, 0.0], [0.0, 0.0]]), strict=True):
            block.branch.weight.copy_(torch.tensor(weight))
            block.branch.bias.zero_()
    return net


def labelled() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the planted net gets right: the class that each input is not."""
    return [(torch.eye(2), torch.tensor([1, 0])), (2 * torch.eye(2), torch.tensor([1, 0]))]
