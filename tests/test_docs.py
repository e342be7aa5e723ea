"""Every public name is documented, and every example in a docstring runs."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import rnndyn as rd

MODULES = sorted(info.name for info in pkgutil.walk_packages(rd.__path__, "rnndyn.") if info.name)
FUNCTIONS = sorted(name for name in rd.__all__ if inspect.isfunction(getattr(rd, name)))
RESULTS = sorted(
    name
    for name in rd.__all__
    if inspect.isclass(getattr(rd, name)) and hasattr(getattr(rd, name), "__dataclass_fields__")
)
NOT_ANALYSES = {"pytree", "specification", "check", "describe", "coordinate_names"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_state_what_they_take_and_give(name):
    doc = inspect.getdoc(getattr(rd, name)) or ""
    first = doc.splitlines()[0]
    assert first.endswith("."), f"{name}: the first line is one sentence: {first!r}"
    if name not in NOT_ANALYSES:
        for heading in ("Parameters", "Returns", "Examples"):
            assert f"{heading}\n{'-' * len(heading)}" in doc, f"{name} lacks {heading}"
        parameters = inspect.signature(getattr(rd, name)).parameters
        taken = doc.split("Parameters\n")[1].split("Returns\n")[0]
        missing = [p for p in parameters if p not in taken]
        assert not missing, f"{name} does not document {missing}"


@pytest.mark.parametrize("name", RESULTS)
def test_results_document_every_field(name):
    cls = getattr(rd, name)
    doc = inspect.getdoc(cls) or ""
    missing = [field for field in cls.__dataclass_fields__ if field not in doc]
    assert not missing, f"{name} does not document {missing}"


@pytest.mark.parametrize("name", sorted(rd.cells.CELLS))
def test_cells_cite_and_show(name):
    cls = rd.cells.CELLS[name]
    doc = inspect.getdoc(cls) or ""
    for word in ("State:", "Params:", "Examples\n--------"):
        assert word in doc, f"{name} lacks {word}"
    assert re.search(r"(19|20)\d\d", cls.paper), f"{name} cites no source: {cls.paper!r}"


def test_all_is_sorted_and_complete():
    assert rd.__all__ == sorted(rd.__all__)
    for name in rd.__all__:
        assert hasattr(rd, name), name
