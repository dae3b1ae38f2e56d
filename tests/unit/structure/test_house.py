"""The rules of the house: which way imports point, what no file may do, how long things get."""

import ast
import subprocess
import sys

import pytest

from tests.unit.structure.sources import PACKAGE, ROOT, imports, outside, trees

FLOORS = (
    ("__init__",),
    ("cli", "extend", "api"),
    ("worker",),
    ("run", "report", "reference", "environment"),
    ("verify", "inference", "importing", "inspection", "calibrate", "search"),
    ("setup",),
    ("hub",),
    ("train",),
    ("data",),
    ("parallelize", "convert"),
    ("execute",),
    ("launch", "config"),
    ("plugins",),
    ("families", "optimizers", "losses", "sources", "recorders"),
    ("layers", "projectors", "modalities"),
    ("models",),
    ("kinds",),
    ("simulate",),
    ("check",),
    ("plan",),
    ("registry",),
    ("section", "costs"),
    ("slurm", "program"),
    ("errors", "argument", "callable", "console", "credentials", "garbage"),
)
"""From the roof down: a file imports from its own folder and from lower floors only."""

HEIGHT = {room: -number for number, floor in enumerate(FLOORS) for room in floor}
PURE = ("plan", "check", "simulate", "costs", "config", "kinds", "section", "registry", "reference", "plugins")
KINDS = ("families", "layers", "projectors")
"""Rooms whose kinds are each a folder with a `spec`, which knows no torch, and the rest, which knows torch alone."""
LONGEST_FILE, LONGEST_FUNCTION = 500, 70


def _room(module: str) -> str:
    return module if module in HEIGHT else module.split(".")[0] or "__init__"


def test_architecture_draws_these_floors() -> None:
    drawing = (ROOT / "ARCHITECTURE.md").read_text().partition("## The layers\n")[2].split("```")[1]
    names = [line.partition("  ")[0] for line in drawing.strip().splitlines() if not line.startswith(" ")]
    assert [set(line.split(", ")) for line in names] == [set(floor) for floor in FLOORS[1:]]


@pytest.mark.parametrize("module", sorted(trees()))
def test_imports_point_downwards(module: str) -> None:
    room = _room(module)
    wrong = {i for i in imports(trees()[module]) if _room(i) != room and HEIGHT[_room(i)] >= HEIGHT[room]}
    assert wrong == set()


def test_models_know_torch_and_each_other_only() -> None:
    allowed = {"models", "kinds", "plan.samples", "errors", *KINDS}
    for module, tree in trees().items():
        if _room(module) in ("models", *KINDS) and "torch" in outside(tree):
            assert {i for i in imports(tree) if _room(i) not in allowed and i not in allowed} == set(), module
            # A file of GPU kernels is imported only where a GPU is in use.
            kernels = {"triton"} if module.endswith("_kernel") else set()
            assert outside(tree) <= {"torch", *kernels, *sys.stdlib_module_names}, module


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_do_not_name_torch(room: str) -> None:
    assert [m for m, tree in trees().items() if _room(m) == room and "torch" in outside(tree)] == []


def test_specs_name_neither_arrays_nor_pictures() -> None:
    """A config is read and planned without what handles content."""
    assert [m for m, tree in trees().items() if m.endswith(".spec") and outside(tree) & {"torch", "numpy", "PIL"}] == []


def _is_pure(module: str) -> bool:
    """Whether a module is read before torch: that of a pure room, or what a kind says of itself."""
    return not module or _room(module) in (*PURE, "errors") or module in KINDS or module.endswith(".spec")


def test_pure_rooms_load_no_torch() -> None:
    pure = [f"counterpoint.{m}" if m else "counterpoint" for m in trees() if _is_pure(m)]
    code = f"import sys\nfor name in {pure!r}: __import__(name)\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_config_is_read_and_explained_without_numpy() -> None:
    """Help, plans and editors' schemas start at once."""
    code = (
        "import sys\nfrom counterpoint.config.load import load_config\nfrom counterpoint.reference.parts import parts\n"
        f"load_config({str(ROOT / 'examples' / 'language_only.yaml')!r}), parts()\n"
        "sys.exit(bool({'torch', 'numpy', 'pyarrow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_loose_ends() -> None:
    """No getattr with a default, hasattr, global or print, and ASCII in code."""
    wrong = []
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                wrong.append(f"{module}: global")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                loose = node.func.id in ("hasattr", "print") or (node.func.id == "getattr" and len(node.args) == 3)
                wrong += [f"{module}: {node.func.id}"] if loose else []
    wrong += [str(file) for file in PACKAGE.rglob("*.py") if not file.read_text().isascii()]
    assert wrong == []


def test_files_and_functions_stay_readable() -> None:
    long = [str(f) for f in PACKAGE.rglob("*.py") if len(f.read_text().splitlines()) > LONGEST_FILE]
    for module, tree in trees().items():
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        long += [f"{module}: {f.name}" for f in functions if (f.end_lineno or 0) - f.lineno > LONGEST_FUNCTION]
    assert long == []
