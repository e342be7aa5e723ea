"""A script from its command line to its files."""

import json
import os
import signal
import subprocess
import sys

import jax
import pytest

from rnndyn.experiment import files, provenance


def written(folder):
    return json.loads((folder / "toy.json").read_text())


def test_a_run_writes_figure_numbers_and_provenance(toy, tmp_path):
    toy.main(["--out", str(tmp_path), "--seed", "5", "--gain", "2"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.json", "toy.npz", "toy.png"]
    assert (tmp_path / "toy.png").read_bytes()[:4] == b"\x89PNG"
    record = written(tmp_path)
    assert record["name"] == "toy"
    assert record["question"] == "Does the toy run?"
    assert record["config"] == {
        "seed": 5,
        "precision": "float64",
        "cells": ["lstm", "gru", "vanilla"],
        "gain": 2.0,
        "size": 4,
        "centred": True,
    }
    assert (record["seed"], record["dtype"]) == (5, "float64")
    assert record["device"] == {"platform": "cpu", "kind": "cpu", "count": 1}
    assert record["versions"]["jax"] == jax.__version__
    assert set(record["versions"]) == {"python", "rnndyn", *provenance.PACKAGES}
    assert record["seconds"] >= 0
    assert record["git"] and record["finished"]
    assert record["claims"] == {"largest": 6.0, "verdict": "holds"}


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_precision_holds_inside_and_is_not_left_behind(toy, tmp_path, precision):
    before = jax.config.jax_enable_x64
    toy.main(["--out", str(tmp_path), "--precision", precision])
    assert jax.config.jax_enable_x64 == before
    assert files.load_npz(tmp_path / "toy.npz")["0/norm"].dtype == precision


def test_the_device_is_said(toy, tmp_path, capsys):
    toy.main(["--out", str(tmp_path)])
    assert capsys.readouterr().err.startswith("toy: float64 on cpu (cpu)\n")


def test_an_interrupted_run_keeps_its_parts_and_the_next_computes_the_rest(toy, tmp_path, capsys):
    argv = ["--out", str(tmp_path)]
    toy.failures["gru"] = KeyboardInterrupt
    with pytest.raises(SystemExit) as ended:
        toy.main(argv)
    assert ended.value.code == 130
    assert toy.calls == ["lstm", "gru"]
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"toy: interrupted; 1 of 3 parts are kept in {tmp_path}/parts/toy; "
        "the same command goes on from there."
    )
    assert not (tmp_path / "toy.png").exists()

    toy.calls.clear()
    toy.failures.clear()
    toy.main(argv)
    assert toy.calls == ["gru", "vanilla"]
    assert written(tmp_path)["claims"] == toy.claims(toy.compute(toy.Config()))
    assert not (tmp_path / "parts").exists()


def test_interrupted_before_the_first_part(toy, tmp_path, capsys):
    toy.failures["lstm"] = KeyboardInterrupt
    with pytest.raises(SystemExit):
        toy.main(["--out", str(tmp_path)])
    assert "toy: interrupted; no part was finished.\n" in capsys.readouterr().err


def test_a_failing_part_keeps_those_before_it(toy, tmp_path):
    toy.failures["vanilla"] = RuntimeError
    with pytest.raises(RuntimeError):
        toy.main(["--out", str(tmp_path)])
    toy.calls.clear()
    toy.failures.clear()
    toy.main(["--out", str(tmp_path)])
    assert toy.calls == ["vanilla"]


def test_a_failing_figure_leaves_the_old_one_and_the_new_numbers(toy, tmp_path, monkeypatch):
    toy.main(["--out", str(tmp_path)])
    before = {name: (tmp_path / name).read_bytes() for name in ("toy.png", "toy.json")}
    with monkeypatch.context() as patched:
        patched.setattr(toy.Figure, "savefig", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            toy.main(["--out", str(tmp_path), "--gain", "3"])
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    toy.calls.clear()
    toy.main(["--out", str(tmp_path), "--replot"])
    assert toy.calls == []
    assert written(tmp_path)["claims"]["largest"] == 9.0


def test_replot_draws_the_stored_numbers_without_computing(toy, tmp_path):
    argv = ["--out", str(tmp_path)]
    toy.main([*argv, "--gain", "3", "--cells", "gru,lstm"])
    before = written(tmp_path)
    picture = (tmp_path / "toy.png").read_bytes()
    (tmp_path / "toy.png").unlink()
    (tmp_path / "toy.json").unlink()
    toy.calls.clear()
    toy.main([*argv, "--replot"])
    assert toy.calls == []
    assert (tmp_path / "toy.png").read_bytes() == picture
    assert written(tmp_path) == before


def test_replot_of_nothing(toy, refused, tmp_path):
    assert refused(toy.main, ["--replot", "--out", str(tmp_path)]) == (
        f"toy: argument --replot: there is no {tmp_path}/toy.npz, run once without --replot; "
        "--help lists the flags."
    )


def test_replot_takes_no_settings(toy, refused, tmp_path):
    said = refused(toy.main, ["--replot", "--gain", "2", "--out", str(tmp_path)])
    assert "argument --replot: draws the numbers of an earlier run, drop --gain" in said


def test_an_unwritable_folder_is_refused_before_any_work(toy, refused, tmp_path):
    (tmp_path / "file").write_text("")
    said = refused(toy.main, ["--out", str(tmp_path / "file")])
    assert said == (
        f"toy: argument --out: expected a folder that can be written, got '{tmp_path}/file' "
        "(File exists); pass another one; --help lists the flags."
    )
    assert toy.calls == []


def test_smoke_does_not_overwrite_the_figure(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy.main([])
    toy.main(["--smoke"])
    assert written(tmp_path / "figures")["config"]["size"] == 4
    assert written(tmp_path / "figures" / "smoke")["config"]["size"] == 2


def test_git_state_outside_of_a_repository(tmp_path):
    assert provenance.git_state(tmp_path) == "unknown"


def test_git_state_of_a_changed_repository(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    git("init", "-q")
    inner = tmp_path / "scripts"
    inner.mkdir()
    for name in ("a.py", "scripts/b.py", "figure.png"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-qm", "a")
    git("tag", "v1")
    assert provenance.git_state(inner) == "v1"
    (tmp_path / "figure.png").write_text("2")
    assert provenance.git_state(inner) == "v1"
    for name in ("a.py", "scripts/b.py"):
        (tmp_path / name).write_text("2")
        assert provenance.git_state(inner) == "v1-dirty"
        (tmp_path / name).write_text("1")


def test_ctrl_c_in_a_process_of_its_own(tmp_path):
    """A real signal, in the middle of a part."""
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    arguments = [sys.executable, str(script), "--out", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "in part b\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "slow: interrupted; 1 of 2 parts are kept in" in said
    assert "Traceback" not in said


SLOW = '''"""Slow."""
import signal
import time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignore"
from rnndyn import experiment

def measure(case):
    if case == "b":
        print("in part b")
        time.sleep(60)
    return {}

def compute(config):
    return experiment.parts(config, measure, {"a": "a", "b": "b"})

experiment.run(__doc__, experiment.Config, compute, None, None)
'''
