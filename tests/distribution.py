"""The wheel and the source distribution, built offline as their users build them, and an environment with a wheel."""

import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "docs", "examples", "recipes", "src", "tests")
_LEFT_OVER = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")


@dataclass(frozen=True)
class Distributions:
    """What was built, and the folder in which the source distribution lies unpacked."""

    wheel: Path
    sdist: Path
    unpacked: Path


def build(folder: Path) -> Distributions:
    """Build both in `folder`, from a copy of the tree, since what earlier builds left in a tree enters wheels."""
    tree, unpacked = folder / "tree", folder / "unpacked"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=_LEFT_OVER)
    for file in ROOT.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copy(file, tree)
    sdist = _built(tree, "sdist", folder / "dist")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (inside,) = unpacked.iterdir()
    return Distributions(_built(tree, "wheel", folder / "dist"), sdist, inside)


def build_wheel(tree: Path, folder: Path) -> Path:
    """The wheel of a tree, in `folder`."""
    return _built(tree, "wheel", folder)


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@dataclass(frozen=True)
class Installed:
    """A virtual environment in which wheels are installed, and the libraries of this process."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, wheels: Sequence[Path]) -> "Installed":
        """Install wheels without their dependencies; those are found where this process finds them."""
        venv.create(folder, with_pip=False, symlinks=True)
        installed = cls(folder)
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        install: list[str | Path] = [
            "--python",
            installed.python,
            "install",
            "--no-deps",
            "--no-index",
            "--no-compile",
            *wheels,
        ]
        subprocess.run([*pip, *install], check=True)
        # A folder that a .pth file names has no .pth files of its own, so an editable install there is not seen.
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
        return installed

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.folder / "bin" / "python"

    def run(self, *command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in a folder, without what PYTHONPATH names here."""
        program, *arguments = command
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=cwd, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


def _built(tree: Path, kind: str, folder: Path) -> Path:
    """Call the backend's hook, which is all that pip and build do without isolation."""
    folder.mkdir(exist_ok=True)
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"the {kind} of {tree} was not built:\n{ended.stdout}{ended.stderr}")
    (built,) = folder.glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[kind])
    return built
