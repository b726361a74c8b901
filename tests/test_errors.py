"""The exception hierarchy, and the message for unknown names."""

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


def test_the_hierarchy_is_complete():
    defined = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    assert defined == {ThruwayError, *BUILT_IN}


@pytest.mark.parametrize(("kind", "built_in"), BUILT_IN.items(), ids=lambda kind: kind.__name__)
def test_an_error_can_be_caught_as_thruway_error_and_as_built_in(kind, built_in):
    for caught in (ThruwayError, built_in):
        with pytest.raises(caught, match="got 3, allowed 1 or 2"):
            raise kind("got 3, allowed 1 or 2")
    assert issubclass(kind, ValueError) != issubclass(kind, RuntimeError)


def test_a_checkpoint_error_is_a_run_error():
    assert issubclass(CheckpointError, RunError)
    assert not issubclass(RunError, CheckpointError)


def test_errors_of_python_are_not_thruway_errors():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    assert not isinstance(caught.value, ThruwayError)


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("hihgway", ["plain", "highway"], "unknown block 'hihgway'; did you mean 'highway'? Known: highway, plain."),
        ("zzz", ["plain", "highway"], "unknown block 'zzz'. Known: highway, plain."),
        (3, ["plain"], "unknown block 3. Known: plain."),
        (None, ["None1", "plain"], "unknown block None; did you mean 'None1'? Known: None1, plain."),
        ("x", [], "unknown block 'x'. Known: ."),
    ],
)
def test_an_unknown_name_is_quoted_with_the_closest_and_all_known(name, known, message):
    assert unknown_name("block", name, known) == message
    assert unknown_name("block", name, reversed(known)) == message
    assert unknown_name("block", name, dict.fromkeys(known)) == message
