"""Old file or new file, never half of one."""

import json
import os
import stat

import numpy as np
import pytest

from rnndyn.experiment import files


def test_a_write_replaces_the_file_and_leaves_no_draft(tmp_path):
    path = tmp_path / "a.json"
    files.write(path, b"old")
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch, step):
    path = tmp_path / "a.json"
    files.write(path, b"old")

    def crash(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, step, crash)
    with pytest.raises(OSError, match="no space left"):
        files.write(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_files_have_the_permissions_of_any_file(tmp_path):
    files.write(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"}
    assert len(modes) == 1


def test_json_of_numpy_and_of_what_is_not_finite():
    record = {
        "a": np.float64(0.1),
        "b": np.arange(2),
        "c": -np.inf,
        "d": (np.int64(3), np.bool_(True)),
        "e": float("nan"),
    }
    expected = {"a": 0.1, "b": [0, 1], "c": "-inf", "d": [3, True], "e": "nan"}
    assert json.loads(files.json_bytes(record)) == expected


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {"x": np.float32([1, -np.inf]), "n": np.array(3), "text": np.array("a b")}
    files.write(tmp_path / "x.npz", files.npz_bytes(arrays))
    back = files.load_npz(tmp_path / "x.npz")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_a_folder_in_which_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected a folder that can be written, got .*file/out"):
        files.require_writable(tmp_path / "file" / "out")


def test_the_check_makes_the_folder_and_leaves_it_empty(tmp_path):
    files.require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
