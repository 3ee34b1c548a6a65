"""The recipes for contributors name files and words of the code that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPES = (ROOT / "docs" / "CONTRIBUTING.md").read_text().partition("## A data set")[2]
TOUR = (ROOT / "README.md").read_text()
FOLDERS = ("geometry", "trainables", "sweeps", "analysis", "tests")


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def test_every_file_that_they_name_is_there() -> None:
    named = [word for word in quoted(RECIPES) if re.fullmatch(r"[\w./*]+/[\w.*]*", word)]
    assert len(named) >= 20
    assert not [name for name in named if not list(ROOT.glob(name))]


def test_every_word_of_the_code_that_they_name_is_in_the_code() -> None:
    code = "\n".join(path.read_text() for f in FOLDERS for path in (ROOT / f).rglob("*.py"))
    named = [word for word in quoted(RECIPES) if re.fullmatch(r"[A-Za-z_]{3,}", word)]
    known = set(re.findall(r"\w+", code))
    assert len(named) >= 40
    assert not sorted(set(named) - known)


def test_every_registry_has_a_recipe() -> None:
    registries = [
        path.relative_to(ROOT) for f in FOLDERS for path in (ROOT / f).rglob("registry.py")
    ]
    recipes = [str(path) for path in registries if path.parent.name != "trainables"]
    assert len(recipes) >= 7
    assert not [path for path in recipes if path not in RECIPES]


def test_the_tour_s_folders_are_there() -> None:
    tour = TOUR.partition("## The house")[2].partition("##")[0]
    assert all(f"    {folder}/" in tour for folder in FOLDERS)
    assert all((ROOT / folder).is_dir() for folder in FOLDERS)
