"""Every error can be caught as Thruway's own and as the built-in it refines; unknown names suggest the nearest."""

import inspect

import pytest

from thruway import errors
from thruway.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    InitError,
    RunError,
    ShapeError,
    ThruwayError,
    unknown_name,
)

BUILT_IN = {
    ConfigError: ValueError,
    ShapeError: ValueError,
    InitError: ValueError,
    DatasetError: ValueError,
    RunError: RuntimeError,
    CheckpointError: RuntimeError,
}


def test_the_tree_is_whole():
    defined = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    assert defined == {ThruwayError, *BUILT_IN}


@pytest.mark.parametrize(("kind", "built_in"), BUILT_IN.items(), ids=lambda kind: kind.__name__)
def test_an_error_is_ours_and_a_built_in(kind, built_in):
    for caught in (ThruwayError, built_in):
        with pytest.raises(caught, match="came 3, allowed 1 or 2"):
            raise kind("came 3, allowed 1 or 2")
    assert issubclass(kind, ValueError) != issubclass(kind, RuntimeError)


def test_a_checkpoint_belongs_to_a_run():
    assert issubclass(CheckpointError, RunError)
    assert not issubclass(RunError, CheckpointError)


def test_what_we_refuse_is_told_from_what_python_refuses():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    assert not isinstance(caught.value, ThruwayError)


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("hihgway", ["plain", "highway"], "unknown block 'hihgway'; did you mean 'highway'? Known: highway, plain."),
        ("zzz", ["plain", "highway"], "unknown block 'zzz'; Known: highway, plain."),
        (3, ["plain"], "unknown block 3; Known: plain."),
        (None, ["None1", "plain"], "unknown block None; did you mean 'None1'? Known: None1, plain."),
        ("x", [], "unknown block 'x'; Known: ."),
    ],
)
def test_an_unknown_name_is_quoted_with_the_nearest_and_all_known(name, known, said):
    assert unknown_name("block", name, known) == said
    assert unknown_name("block", name, reversed(known)) == said
    assert unknown_name("block", name, dict.fromkeys(known)) == said
