"""Without Keras 3 its layers say what to install; with or without it, importing their room does not."""

import subprocess
import sys
import types

import pytest

import thruway.integrations.keras as highway
from thruway.errors import ConfigError
from thruway.integrations.keras_layers import layers


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no layer had been asked for yet."""
    monkeypatch.setattr(highway, "layers", layers.__wrapped__)


@pytest.mark.parametrize("name", ["HighwayDense", "HighwayConv1D", "HighwayConv2D"])
def test_without_keras_the_way_to_get_it_is_named(name, fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ConfigError, match=r"need Keras 3.*pip install 'thruway\[keras\]'.*KERAS_BACKEND=torch"):
        getattr(highway, name)
    with pytest.raises(ConfigError, match="need Keras 3"):
        highway.to_torch(object())


def test_an_old_keras_is_refused_with_its_version(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(__version__="2.15.0"))
    with pytest.raises(ConfigError, match=r"need Keras 3, got 2\.15\.0.*from_legacy_keras"):
        _ = highway.HighwayDense


def test_a_misspelt_layer_is_an_attribute_error():
    with pytest.raises(AttributeError, match="HighwayDence"):
        _ = highway.HighwayDence


@pytest.mark.slow
def test_importing_the_room_brings_in_no_keras():
    code = "import sys, thruway.integrations.keras; print('keras' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
