"""The wiring of the drawing."""

import pytest
import torch
from torch import nn

from thruway.dissecting import dissect
from thruway.dissecting.drawing import wires_of
from thruway.errors import ConfigError
from thruway.nn import Residual


def lin():
    return nn.Linear(4, 4)


class Parallel(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.a, self.b, self.c = nn.LayerNorm(4), lin(), lin(), lin()

    def forward(self, x):
        h = self.norm(x)
        x = x + torch.tanh(self.a(h)) + torch.tanh(self.b(h))
        return x + torch.tanh(self.c(x))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.a, self.last = Residual(lin()), lin(), Residual(lin())

    def forward(self, x):
        return self.last(x + torch.tanh(self.a(self.inner(x))))


def wiring(model):
    d = dissect(model, torch.ones(2, 4))
    return [(wire.shortcut, wire.source, wire.depth) for wire in wires_of(d.engine, d.branches)]


def test_each_branch_is_wired_to_the_joins_it_reads_and_carries():
    assert wiring(nn.Sequential(Residual(lin()), Residual(lin()))) == [(None, None, 0), (0, 0, 0)]
    # Both branches read the stream before the first sum.
    assert wiring(Parallel()) == [(None, None, 0), (0, None, 0), (1, 1, 0)]
    assert wiring(Nested()) == [(None, None, 1), (None, None, 0), (1, 1, 0)]


def test_only_outermost_branches_unravel():
    figure = dissect(Nested(), torch.ones(2, 4)).draw(unravelled=True)
    assert [note.text for note in figure.layout.annotations if note.text.isdigit()] == ["0", "1", "1", "2"]
    boxes = {note.text for note in figure.layout.annotations if note.text.startswith("<b>")}
    assert boxes == {"<b>1</b>", "<b>2</b>"}


def test_the_stream_shows_sizes():
    figure = dissect(nn.Sequential(Residual(lin()), Residual(lin())), torch.ones(2, 4)).draw()
    hover = [text for trace in figure.data if trace.customdata is not None for text in trace.customdata]
    assert hover == [f"{i}<br>identity<br>20 parameters, 64 flops" for i in range(2)]


def test_a_deep_net_does_not_unravel():
    d = dissect(nn.Sequential(*(Residual(lin()) for _ in range(7))), torch.ones(2, 4))
    with pytest.raises(ConfigError, match=r"7 outermost branches.*2\^7"):
        d.draw(unravelled=True)
