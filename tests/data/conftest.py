import pytest


@pytest.fixture(autouse=True)
def isolated_environment(monkeypatch, tmp_path):
    """Hide existing data from the tests: an empty home, no $THRUWAY_DATA, no proxy."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("THRUWAY_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(autouse=True)
def local_connections_only(monkeypatch):
    """Fail the test on any connection to another machine."""
    import socket

    connect = socket.socket.connect

    def connect_locally(self, address):
        assert address[0] == "127.0.0.1", f"a test tried to connect to {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)
