"""Imports point one way, and what needs neither Ray nor MLflow runs without them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("geometry", "trainables", "sweeps", "analysis")
FILES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))

ALLOWED = {
    "geometry": {"geometry"},
    "trainables": {"trainables", "geometry"},
    "sweeps": {"sweeps", "trainables", "geometry"},
    "analysis": {"analysis", "geometry", "trainables.store"},
}
"""What a package may import of ours."""

COMMANDS = "sweeps/cli/"
"""The command line alone brings analysis and sweeps together."""
RAY = {
    "trainables/tune_adapter.py",
    "sweeps/launch.py",
    "sweeps/ray_session.py",
    "sweeps/search_trainable.py",
    "sweeps/tuning.py",
}
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Where a package's name is not that of its module."""
MLFLOW_IN_TRAINABLES = {"trainables/tracking.py", "trainables/tracking_server.py"}


def nodes(node: ast.AST, *, types: bool) -> Iterator[ast.AST]:
    """The nodes of a tree; without `if TYPE_CHECKING` blocks, which never run, unless `types`."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
        return
    for child in ast.iter_child_nodes(node):
        yield from nodes(child, types=types)


def imported(path: Path, *, types: bool = True) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function."""
    for node in nodes(ast.parse(path.read_text()), types=types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            # `from trainables import store` imports trainables.store
            if module in PACKAGES:
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def within(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    package = name.split("/")[0]
    allowed = ALLOWED[package] | ({"analysis"} if name.startswith(COMMANDS) else set())
    for module in imported(path):
        if module.split(".")[0] in PACKAGES:
            assert within(module, allowed), f"{name} imports {module}"
    for module in imported(path, types=False):
        if within(module, {"ray"}):
            assert name in RAY, f"{name} imports {module}"
        if within(module, {"mlflow"}) and package in ("trainables", "geometry"):
            assert name in MLFLOW_IN_TRAINABLES, f"{name} imports {module}"
        assert not within(module, {"pickle", "cloudpickle", "joblib"}), f"{name}: no pickle"


def test_geometry_needs_torch_alone() -> None:
    standard = sys.stdlib_module_names
    for path in FILES:
        if path.is_relative_to(ROOT / "geometry"):
            others = {module.split(".")[0] for module in imported(path)} - standard
            assert others <= {"torch", "geometry"}, path


def test_every_package_that_is_imported_is_declared() -> None:
    """What only another package's requirements or this machine bring can be gone tomorrow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["text"]]
    declared = {re.split(r"[\[<>=;! ]", line)[0] for line in lines}
    modules = {module.split(".")[0] for path in FILES for module in imported(path)}
    for module in modules - sys.stdlib_module_names - set(PACKAGES):
        assert DISTRIBUTIONS.get(module, module) in declared, f"{module} is not in pyproject.toml"


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PASSES_ALONE = """
import sys, tempfile
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "mlflow", "analysis", "sweeps"):
            raise ModuleNotFoundError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
import geometry.recorder, geometry.null, geometry.path
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"trainables", "pandas", "pydantic", "torchvision"}, loaded

import torch
from trainables.config import RunConfig
from trainables.job import Job, Place, RunJob
from trainables.passes import work
from trainables.store import Store
from trainables.verify import verify_run

folder = Path(tempfile.mkdtemp())
config = RunConfig.parse({"batch_size": 500, "budget": {"steps": 4}})
place = Place(Store(folder), folder, torch.device("cpu"), 1)
for _ in work(Job("t", (RunJob("r", config),)), place):
    pass
verify_run(place.store, "r", data_root=folder, device=place.device)
print(place.store.run("r").manifest()["status"])
"""


def test_the_passes_run_where_neither_ray_nor_mlflow_can_be_imported() -> None:
    assert run_python(PASSES_ALONE).split() == ["done"]
