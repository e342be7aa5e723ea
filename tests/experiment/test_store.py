"""Parts are kept, found again, and never confused."""

import dataclasses

import jax
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import experiment
from rnndyn.experiment import provenance, store


def keep(toy, folder, cases):
    with store.session("toy", folder) as session:
        result = experiment.parts(None, toy.measure, cases)
    return session, result


def test_outside_of_a_run_nothing_is_kept(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = toy.compute(toy.Config(cells=("lstm",)))
    assert isinstance(result["lstm"]["norm"], np.ndarray)
    assert list(tmp_path.iterdir()) == []


def test_a_kept_part_is_found_again_bit_for_bit(toy, tmp_path):
    cases = {"a / b": toy.Case("gru", 1.5, 4)}
    _, first = keep(toy, tmp_path, cases)
    _, again = keep(toy, tmp_path, cases)
    assert toy.calls == ["gru"]
    assert first["a / b"].keys() == again["a / b"].keys() == {"norm", "count"}
    np.testing.assert_array_equal(first["a / b"]["norm"], again["a / b"]["norm"])
    assert first["a / b"]["norm"].dtype == again["a / b"]["norm"].dtype


@pytest.mark.parametrize("change", ["case", "device", "version", "code", "function"])
def test_a_part_of_something_else_is_not_used(toy, monkeypatch, change):
    case, measure = toy.Case("gru", 1.5, 4), toy.measure
    before = store._file_name("a", measure, case)
    assert store._file_name("a", measure, case) == before
    if change == "case":
        case = dataclasses.replace(case, gain=1.25)
    elif change == "device":
        monkeypatch.setattr(provenance, "device", lambda: {"platform": "gpu"})
    elif change == "version":
        monkeypatch.setattr(provenance, "versions", lambda: {"jax": "0"})
    elif change == "code":
        monkeypatch.setattr(provenance, "code_hash", lambda folder: "0" * 12)
    elif change == "function":
        measure = toy.compute
    assert store._file_name("a", measure, case) != before


def test_a_part_of_another_precision_is_not_used(toy):
    names = []
    for double in (True, False):
        with jax.enable_x64(double):
            names.append(store._file_name("a", toy.measure, toy.Case("gru", 1.5, 4)))
    assert names[0] != names[1]


def test_a_finished_run_leaves_only_parts_of_other_settings(toy, tmp_path, monkeypatch):
    folder = tmp_path / "toy"
    keep(toy, folder, {"other": toy.Case("lstm", 1.0, 4)})
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "code_hash", lambda folder: "0" * 12)
        keep(toy, folder, {"old code": toy.Case("lstm", 1.0, 4)})
    session, _ = keep(toy, folder, {"mine": toy.Case("gru", 1.0, 4)})
    store.discard(session)
    assert [path.name.split("-")[0] for path in folder.iterdir()] == ["other"]


def test_a_finished_run_removes_empty_folders(toy, tmp_path):
    session, _ = keep(toy, tmp_path / "parts" / "toy", {"a": toy.Case("gru", 1.0, 4)})
    store.discard(session)
    assert list(tmp_path.iterdir()) == []


def test_packing_keeps_names_order_and_values(tmp_path):
    measured = {"b/x": {"y": np.float32([1.0])}, "a": {"y": np.arange(2), "z": np.array(-np.inf)}}
    path = tmp_path / "a.npz"
    path.write_bytes(store.pack({"seed": 3}, experiment.Result(None, measured)))
    record, back = store.unpack(path)
    assert record == {"seed": 3}
    assert list(back) == ["b/x", "a"]
    for name, part in measured.items():
        assert back[name].keys() == part.keys()
        for field in part:
            np.testing.assert_array_equal(back[name][field], part[field])


def test_a_closure_is_refused():
    def measure(case):
        return {}

    with pytest.raises(ValueError, match="^`measure`: expected a function of a module, got .*"):
        experiment.parts(None, measure, {})


@pytest.mark.parametrize("case", [object(), np.arange(2000.0), rd.maps.henon()])
def test_a_case_that_shows_an_address_or_a_part_of_its_numbers_is_refused(toy, tmp_path, case):
    with pytest.raises(ValueError, match="^`cases`: expected a case whose repr tells it whole"):
        keep(toy, tmp_path, {"a": case})


def test_the_code_hash_follows_the_scripts(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    before = provenance.code_hash(tmp_path)
    provenance.code_hash.cache_clear()
    (tmp_path / "a.py").write_text("x = 2\n")
    assert provenance.code_hash(tmp_path) != before
