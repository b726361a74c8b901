"""Number of source files that a run passes through: how many a reader opens to follow one."""

import subprocess
import sys
import textwrap

import pytest

MAX_FILES = 40

# Runs in a process of its own, so that neither other tests nor coverage is seen. Imports do not count.
RUN = textwrap.dedent(
    """
    import sys, threading
    from pathlib import Path
    import thruway
    import thruway.cli.run
    from thruway.cli import main

    source, entered = Path(thruway.__file__).parent, set()

    def on_call(frame, event, argument):
        if event == "call" and frame.f_code.co_name != "<module>":
            entered.add(frame.f_code.co_filename)

    threading.setprofile(on_call)
    sys.setprofile(on_call)
    try:
        exit_code = main(sys.argv[1:])
    finally:
        sys.setprofile(None)
    paths = [Path(path) for path in entered]
    print("entered:", *sorted(path.relative_to(source).as_posix() for path in paths if path.is_relative_to(source)))
    sys.exit(exit_code)
    """
)

TINY = ["--depths", "3", "--searches", "1", "--trials", "2", "--epochs", "1", "--examples", "200"]


@pytest.mark.slow
def test_a_run_of_the_depth_study_passes_through_few_files(tmp_path):
    command = [sys.executable, "-c", RUN, "run", "highway2015.depth", "--out", str(tmp_path / "run"), *TINY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    files = done.stdout.partition("entered:")[2].split()
    assert {"cli/main.py", "experiments/highway2015/depth.py", "nn/stack_kernel.py", "report/page.py"} <= set(files)
    assert len(files) <= MAX_FILES, "\n".join(files)
