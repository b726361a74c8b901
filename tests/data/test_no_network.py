"""Importing the package and reading the included data set: no socket, no thread, no extra."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent(
    """
    import sys, threading
    import numpy, torch
    for extra in ("sklearn", "PIL", "torchvision"):
        sys.modules[extra] = None  # importing it raises
    before = threading.active_count()
    def forbid(event, arguments):
        if event.startswith("socket.") or event == "subprocess.Popen":
            raise SystemExit(f"{event}{arguments}")
    sys.addaudithook(forbid)
    import thruway.data
    thruway.data.load("digits")
    assert threading.active_count() == before
    if sys.argv[1:]:
        import socket
        socket.socket()
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("alarm", [False, True])
def test_no_connection_is_opened(alarm):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *["alarm"] * alarm], capture_output=True, text=True)
    assert done.returncode == (1 if alarm else 0), done.stderr
    assert ("socket.__new__" in done.stderr) == alarm
