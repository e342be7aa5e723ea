"""Imports point only downward, each layer at most at those below it."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "rnndyn"

# A module belongs to the longest prefix that matches it.
LAYERS = {
    "core": 0,
    "cells": 1,
    "maps": 1,
    "constraints": 1,
    "evaluation": 1,
    "simulate": 2,
    "linearize": 2,
    "flow": 3,
    "points": 3,
    "branches": 3,
    "plot": 4,
    "interop": 4,
    "testing": 4,
    "experiment": 5,
    "__init__": 6,
}
SIDEWAYS = {
    ("maps", "cells"),
    ("linearize", "simulate"),
    ("branches", "points"),
}
ONLY_IN = {"matplotlib": {"plot", "experiment"}, "tqdm": {"core"}}
RUNTIME = {"jax", "numpy", "scipy", "matplotlib", "rnndyn", "tqdm"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: pathlib.Path):
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == "rnndyn":
                yield from (f"rnndyn.{alias.name}" for alias in node.names)


def violations(here: str, modules) -> list[str]:
    found = []
    for module in modules:
        top, *rest = module.split(".")
        if top == "rnndyn" and rest:
            there = rest[0]
            if there == here or (here, there) in SIDEWAYS:
                continue
            if LAYERS[there] >= LAYERS[here]:
                found.append(f"{here} imports {there}")
        if here not in ONLY_IN.get(top, {here}):
            found.append(f"{here} imports {top}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    assert room(path) in LAYERS, f"{path} has no layer: add it to LAYERS"
    assert violations(room(path), imported(path)) == []


def test_a_violation_would_be_seen():
    assert violations("core", ["rnndyn.cells.base"]) == ["core imports cells"]
    assert violations("flow", ["rnndyn.points"]) == ["flow imports points"]
    assert violations("points", ["rnndyn.branches.events"]) == ["points imports branches"]
    assert violations("flow", ["matplotlib.figure"]) == ["flow imports matplotlib"]
    assert violations("branches", ["rnndyn.points.unique", "rnndyn.maps"]) == []


def test_only_the_five_packages_are_imported():
    import sys

    for path in MODULES:
        tops = {module.split(".")[0] for module in imported(path)}
        assert tops - set(sys.stdlib_module_names) <= RUNTIME, path


def test_importing_the_library_loads_no_plotting_and_sets_no_configuration():
    import subprocess
    import sys

    code = (
        "import jax, sys; before = dict(jax.config.values); import rnndyn;"
        "changed = {k for k, v in jax.config.values.items() if before.get(k, v) != v};"
        "assert not changed, changed; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
