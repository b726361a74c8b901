"""The rules of the house that no linter knows: rooms and their doors, final classes, quiet imports."""

import abc
import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import thruway

PROJECT = Path(__file__).parents[1]
SOURCE = Path(thruway.__file__).parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages([str(SOURCE)], "thruway.") if not module.name.endswith("__main__")
)
ROOMS = [name for name in MODULES if (SOURCE.parent / name.replace(".", "/") / "__init__.py").exists()]


# --- imports only go down


@pytest.fixture
def layers(tmp_path):
    """A check of the import contract, as it stands or turned upside down."""
    pytest.importorskip("importlinter")
    contract = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]

    def check(upside_down: bool) -> subprocess.CompletedProcess[str]:
        floors = contract["contracts"][0]["layers"]
        floors = floors[::-1] if upside_down else floors
        lines = [
            "[importlinter]\nroot_package = thruway\n",
            "[importlinter:contract:1]\nname = floors\ntype = layers\ncontainers = thruway\nlayers =",
            *(f"    {floor}" for floor in floors),
        ]
        (tmp_path / "contract.ini").write_text("\n".join(lines))
        # In a process of its own: it sets up logging anew, and closes what other libraries' handlers write to.
        command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
        return subprocess.run(
            [sys.executable, "-c", command, "--config", "contract.ini", "--no-cache"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return check


@pytest.mark.parametrize("upside_down", [False, True], ids=["as it stands", "the alarm works"])
def test_imports_only_go_down(layers, upside_down):
    told = layers(upside_down)
    assert ("floors BROKEN" if upside_down else "floors KEPT") in told.stdout, told.stdout + told.stderr
    assert (told.returncode == 0) == (not upside_down)


def test_every_room_has_its_floor():
    contract = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    floors = {room.strip() for floor in contract["contracts"][0]["layers"] for room in floor.split("|")}
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert floors == rooms - {"__init__", "__main__"}


def import_circles(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves, directly or through others."""

    def reached(start: str) -> set[str]:
        seen, left = set(), [*imports[start]]
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                left += imports.get(name, ())
        return seen

    return [name for name in imports if name in reached(name)]


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """All modules of ours that a file imports, for type checking and inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from thruway.a import b` imports the module thruway.a.b, or a name out of thruway.a.
            found |= {
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in modules else node.module for a in node.names
            }
    return found & modules


def test_no_module_imports_itself_through_others():
    files = {name: Path(importlib.import_module(name).__file__) for name in MODULES}
    imports = {name: imports_of(path, set(MODULES)) - {name} for name, path in files.items()}
    assert sum(map(len, imports.values())) > 500
    assert import_circles(imports) == []


def test_the_alarm_for_circles_works():
    assert import_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


RIDDLES = ("What", "Whether", "How", "Which", "Who", "Where")


def test_module_docstrings_say_what_a_module_is():
    docs = {name: importlib.import_module(name).__doc__ or "" for name in MODULES}
    assert [name for name, doc in docs.items() if doc.split(" ")[0] in RIDDLES] == []


# --- importing is quiet

# Runs in a process of its own, as on a machine with the core dependencies only.
IMPORT_ALL = textwrap.dedent(
    """
    import importlib, subprocess, sys, threading
    import torch

    LOUD = ("socket.", "subprocess.", "os.fork", "os.posix_spawn", "os.system")
    EXTRAS = {"sklearn", "PIL", "pandas", "ray", "kaleido", "torchvision", "optuna", "keras", "lightning"}
    heard = []
    sys.addaudithook(lambda event, arguments: heard.append(event) if event.startswith(LOUD) else None)
    start = threading.Thread.start
    threading.Thread.start = lambda thread: (heard.append("thread"), start(thread))[1]

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] not in EXTRAS:
                return None
            frame = sys._getframe(1)
            while "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            if frame.f_globals["__name__"].startswith("thruway"):  # plotly asks whether PIL is there, which it may
                heard.append(name)
            raise ModuleNotFoundError(name)

    for name in EXTRAS & set(sys.modules):
        del sys.modules[name]
    sys.meta_path.insert(0, Missing())
    for name in sys.argv[2:]:
        importlib.import_module(name)
    if sys.argv[1] == "alarm":
        importlib.import_module("socket").socket().close()
        threading.Thread(target=int).start()
        subprocess.run([sys.executable, "--version"])
        exec("try: import sklearn\\nexcept ImportError: pass", {"__name__": "thruway.data.alarm"})
    print("heard:", *heard)
    """
)


def heard(mode: str, modules: list[str]) -> set[str]:
    command = [sys.executable, "-c", IMPORT_ALL, mode, *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.partition("heard:")[2].split())


@pytest.mark.slow
def test_importing_takes_no_extra_and_starts_nothing():
    assert heard("quiet", ["thruway", *MODULES]) == set()


@pytest.mark.slow
def test_the_alarm_for_loud_imports_works():
    assert heard("alarm", ["thruway"]) >= {"socket.__new__", "thread", "subprocess.Popen", "sklearn"}


# --- doors


def let_in(source: str, room: str) -> tuple[set[str], set[str]]:
    """(the names that a room's __init__ takes from its files or defines, those of them that it uses itself)."""
    tree = ast.parse(source)
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(room):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            names |= {target.id for target in targets if isinstance(target, ast.Name)} - {"__all__"}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return names, names & used


def test_every_room_has_a_door():
    assert [room for room in ROOMS if not hasattr(importlib.import_module(room), "__all__")] == []
    assert len(ROOMS) >= 10


def test_the_alarm_for_doors_works():
    source = "from thruway.nn.a import A, B\nfrom torch import Tensor\nC = [A]\n__all__ = ['C']"
    assert let_in(source, "thruway.nn") == ({"A", "B", "C"}, {"A"})  # B is neither let out nor used


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_lets_out_what_it_takes_in(room):
    module = importlib.import_module(room)
    names, used = let_in(Path(module.__file__).read_text(encoding="utf-8"), room)
    promised = set(module.__all__)
    assert len(promised) == len(module.__all__)
    assert promised <= names
    assert names - promised <= used


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_door_promises_is_explained(room):
    module = importlib.import_module(room)
    assert module.__doc__
    for promised in module.__all__:
        value = getattr(module, promised)
        if inspect.isfunction(value) or inspect.isclass(value):
            written = value.__doc__ or ""
            # Where nobody wrote a sentence, dataclasses and NamedTuples write their signature.
            is_explained = written != "" and not written.startswith(f"{value.__name__}(")
            assert is_explained, f"{room}.{promised} has no docstring"


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ROOMS])
def test_what_a_file_promises_is_there(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert [promised for promised in getattr(module, "__all__", ()) if not hasattr(module, promised)] == []


# --- a class is an interface or it is finished


def classes():
    for name in MODULES:
        for _, kind in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if kind.__module__ == name:
                yield kind


def is_finished(kind: type) -> bool:
    is_protocol = getattr(kind, "_is_protocol", False)
    return not (is_protocol or inspect.isabstract(kind) or abc.ABC in kind.__bases__ or issubclass(kind, BaseException))


def subclassed(kinds) -> list[str]:
    return [
        f"{kind.__qualname__}({base.__qualname__})"
        for kind in kinds
        for base in kind.__bases__
        if base.__module__.startswith("thruway") and is_finished(base) and not is_shared_base(base)
    ]


def is_shared_base(kind: type) -> bool:
    """A private class that only gives its fields or its code to public ones: `_Range` of the search space."""
    return kind.__name__.startswith("_")


def test_finished_classes_are_not_subclassed():
    kinds = list(classes())
    assert len(kinds) > 50
    assert subclassed(kinds) == []


def test_the_alarm_for_subclasses_works():
    finished = type("Finished", (), {"__module__": "thruway.nn"})
    other = type("Other", (finished,), {})
    assert subclassed([finished, other]) == ["Other(Finished)"]


# --- small files, quiet code


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_is_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    assert path.stem not in ("utils", "helpers", "common", "misc")


def calls_of_the_global_generator(source: str) -> list[str]:
    """Calls that seed torch's, NumPy's or Python's global generator."""
    seeding = {"manual_seed", "seed", "set_rng_state", "seed_all", "manual_seed_all"}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in seeding:
            owner = ast.unparse(node.func.value)
            if owner in ("torch", "torch.random", "torch.cuda", "random", "np.random", "numpy.random"):
                found.append(f"{owner}.{node.func.attr}")
    return found


def test_library_code_never_seeds_the_global_generators():
    for path in SOURCE.rglob("*.py"):
        assert calls_of_the_global_generator(path.read_text(encoding="utf-8")) == [], path


def test_the_alarm_for_seeding_works():
    said = calls_of_the_global_generator("import torch\ntorch.manual_seed(0)\nnp.random.seed(1)\ng.manual_seed(2)")
    assert said == ["torch.manual_seed", "np.random.seed"]


def unsafe_loads(source: str) -> list[str]:
    """Calls that run what a file says: torch.load without weights_only=True, or a pickle's own reader."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            is_safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            if (called == "torch.load" and not is_safe) or called in UNSAFE:
                found.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and node.module in ("pickle", "marshal", "dill", "joblib", "shelve"):
            found.append(ast.unparse(node))  # then the calls have no telling name
    return found


UNSAFE = {
    f"{module}.{name}" for module in ("pickle", "marshal", "dill", "joblib") for name in ("load", "loads", "Unpickler")
}
UNSAFE |= {"shelve.open", "eval", "exec"}


def test_nothing_that_was_stored_is_run():
    for path in SOURCE.rglob("*.py"):
        assert unsafe_loads(path.read_text(encoding="utf-8")) == [], path


@pytest.mark.parametrize(
    ("call", "is_told"),
    [
        ("torch.load(f)", True),
        ("torch.load(f, weights_only=False)", True),
        ("torch.load(f, weights_only=True)", False),
        ("pickle.loads(f)", True),
        ("from pickle import loads", True),
        ("json.loads(f)", False),
    ],
)
def test_the_alarm_for_pickles_works(call, is_told):
    assert (unsafe_loads(call) != []) == is_told
