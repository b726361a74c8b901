"""Missing or outdated Keras: the error on first use, and the import that needs no Keras."""

import subprocess
import sys
import types

import pytest

import thruway.integrations.keras as highway
from thruway.errors import ConfigError
from thruway.integrations.keras_layers import layers


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the cache of the layer classes."""
    monkeypatch.setattr(highway, "layers", layers.__wrapped__)


@pytest.mark.parametrize("name", ["HighwayDense", "HighwayConv1D", "HighwayConv2D"])
def test_without_keras_the_error_says_how_to_install_it(name, fresh, monkeypatch):
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
def test_importing_the_module_does_not_import_keras():
    code = "import sys, thruway.integrations.keras; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
