"""A process that has imported PyTorch and Thruway, and runs scripts in copies of itself, which import nothing again.

It is started as `python forking.py`. Each line of its input is a request in JSON, {"imports": modules that the scripts
need, "runs": [[folder, words], ...]}, where words are those of the command line after `python`: those of a script, or
of `-m thruway.watch`. It answers with the exit codes, once all have ended.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import traceback

MOST_SECONDS = 300  # for a script
OUT = "stdout.txt"
ERR = "stderr.txt"


def serve() -> None:
    """Answer requests until the input is closed."""
    import torch
    import torch._dynamo  # by the first step of an optimizer

    import thruway.cli.watch
    import thruway.diagnosing.diagnose
    import thruway.launch.session  # noqa: F401

    assert torch.get_num_threads() == 1  # other threads would not survive a fork
    while line := sys.stdin.readline():
        request = json.loads(line)
        reader, writer = os.pipe()
        child = _fork(lambda: _run_all(request, writer))  # noqa: B023
        os.close(writer)
        with open(reader) as answer:
            codes = answer.read() or "[]"
        os.waitpid(child, 0)
        print(codes, flush=True)


def _run_all(request: dict[str, list[str]], answer: int) -> int:
    for name in request["imports"]:
        importlib.import_module(name)
    children = [_fork(lambda: _run(folder, words)) for folder, words in request["runs"]]  # noqa: B023
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.write(answer, json.dumps(codes).encode())
    return 0


def _run(folder: str, words: list[str]) -> int:
    """Run a script, or `thruway watch`, and return the exit code."""
    signal.alarm(MOST_SECONDS)
    os.chdir(folder)
    for name, flags, number in ((os.devnull, os.O_RDONLY, 0), (OUT, os.O_WRONLY, 1), (ERR, os.O_WRONLY, 2)):
        os.dup2(os.open(name, flags | (os.O_CREAT if number else 0)), number)
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__")
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0


def _fork(run) -> int:  # type: ignore[no-untyped-def]
    """Return the id of a copy of this process that runs a function, and ends with the exit code that it returns."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
