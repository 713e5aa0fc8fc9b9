"""Imports run one way, from floor to floor: verbs -> studies and service -> engine -> tasks -> rooms -> ground."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "text23d"
FLOORS = (
    {
        "errors",
        "interruption",
        "meter",
        "company",
        "loopback",
        "contracts",
        "settings",
        "guide",
        "spaces",
        "words",
        "quoting",
        "cameras",
        "closeups",
        "windows",
        "interlaced",
        "crops",
        "rng",
        "clock",
        "checkpoint",
        "files",
        "paths",
        "pictures",
        "audio",
        "lapped",
        "kernels",
        "memory",
        "compose",
        "devices",
    },
    {"method", "representation", "prior", "worlds", "judge", "artifact"},
    {"tasks"},
    {"engine"},
    {"studies", "service"},
)
"""The rooms from the ground up; all others are verbs, on the top floor."""
GROUND = FLOORS[0]
DOOR = {"cli", "door", "terminal"}
"""What verbs share."""
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def rooms_imported(source: str, module: Path) -> set[str]:
    """The rooms of text23d that the source of `module` (its path inside the package) imports anywhere, lazily too."""
    rooms: set[str] = set()
    package = ["text23d", *module.parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names] if origin == "text23d" else [origin]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("text23d.")}
    return rooms - {"__version__"}


def room(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def allowed(module: Path) -> set[str]:
    """Its own room and all floors below its own; rooms of one floor do not import each other, except on the ground."""
    own = room(module)
    floor = next((number for number, rooms in enumerate(FLOORS) if own in rooms), len(FLOORS))
    if own == "__init__":
        return {"api"}  # lazily
    below = set().union(*FLOORS[:floor]) if floor else GROUND
    here = DOOR if floor == len(FLOORS) else {own}
    return (below | here) - ({"kernels"} if own == "method" else set())


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_run_one_way(module: Path) -> None:
    forbidden = rooms_imported((PACKAGE / module).read_text(), module) - allowed(module)
    assert not forbidden, f"text23d/{module} may not import {sorted(forbidden)}"


@pytest.mark.parametrize(
    ("module", "source", "forbidden"),
    [
        ("method/step.py", "from text23d.kernels import ops", {"kernels"}),
        ("method/step.py", "from text23d import prior", {"prior"}),
        ("method/step.py", "def f():\n    import text23d.engine.build as b", {"engine"}),
        ("method/step.py", "from ..worlds.objects.parts import Part", {"worlds"}),
        ("method/step.py", "from .. import run", {"run"}),
        ("method/step.py", "from . import invert\nfrom .noise import rms\nfrom text23d.contracts import Views", set()),
        ("prior/unet.py", "from text23d.kernels import ops\nimport torch, text23d.method", {"method"}),
        ("contracts.py", "from text23d.prior import edm", {"prior"}),
        ("engine/loop.py", "from text23d.run import main\nfrom text23d.method import step", {"run"}),
        ("tasks/object.py", "from text23d.engine import loop\nfrom text23d.artifact import mesh", {"engine"}),
        ("studies/gallery.py", "from text23d import run, engine", {"run"}),
        ("export.py", "from text23d import cli, run", {"run"}),
        ("run.py", "from text23d.engine import loop\nfrom text23d.worlds.objects import render", set()),
    ],
)
def test_the_rule_itself(module: str, source: str, forbidden: set[str]) -> None:
    path = Path(module)
    assert rooms_imported(source, path) - allowed(path) == forbidden


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, text23d; print(*{'torch', 'nerfacc', 'diffusers'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert run.stdout.split() == []


def test_the_main_job_imports_no_pretrained_prior_and_no_viewer() -> None:
    """With the built-in prior, and unwatched, it is as quick to start as without any."""
    code = (
        "import sys, text23d.engine.job, text23d.cli; found = set(sys.modules);"
        "print(*{'diffusers', 'transformers', 'huggingface_hub', 'viser', 'websockets'} & found,"
        "*(m for m in found if 'prior.hub' in m or 'text23d.service' in m))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert run.stdout.split() == []
