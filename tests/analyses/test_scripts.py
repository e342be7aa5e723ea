"""Every script runs, says what it measured, and measures the same again."""

import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

import analyses
from analyses import measure
from analyses.__main__ import listing, main
from rnndyn import cells
from rnndyn.experiment import files, settings

ROOT = pathlib.Path(analyses.__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Smoked:
    """A script that ran small, where it wrote, and the claims of a second run."""

    name: str
    script: types.ModuleType
    folder: pathlib.Path
    again: dict


@pytest.fixture(scope="module", params=analyses.SCRIPTS)
def smoked(request, tmp_path_factory):
    """A script run twice while what it compiled is at hand: forgotten, it is compiled again."""
    name, folder = request.param, tmp_path_factory.mktemp("figures")
    script = importlib.import_module(f"analyses.{name}")
    script.main(["--smoke", "--out", str(folder), "--seed", "3"])
    record = json.loads((folder / f"{name}.json").read_text())
    config = settings.from_record(script.Config, record["config"])
    with jax.enable_x64(config.precision == "float64"):
        again = script.claims(script.compute(config))
    jax.clear_caches()  # as `python -m analyses` does after each script
    return Smoked(name, script, folder, again)


def test_a_smoke_run_writes_its_figure(smoked):
    assert (smoked.folder / f"{smoked.name}.png").read_bytes()[:4] == b"\x89PNG"
    record = json.loads((smoked.folder / f"{smoked.name}.json").read_text())
    assert (record["name"], record["seed"]) == (smoked.name, 3)
    assert record["claims"]


def test_claims_equal_those_of_a_fresh_run(smoked):
    record = json.loads((smoked.folder / f"{smoked.name}.json").read_text())
    assert json.loads(files.json_bytes(smoked.again)) == record["claims"]


def test_draw_is_repeatable_and_in_the_papers_width(smoked):
    picture = (smoked.folder / f"{smoked.name}.png").read_bytes()
    smoked.script.main(["--replot", "--out", str(smoked.folder)])
    assert (smoked.folder / f"{smoked.name}.png").read_bytes() == picture


def test_all_are_listed_with_question_and_figure(capsys):
    main(["--list"])
    said = capsys.readouterr().out
    assert said.strip() == listing().strip()
    for line, name in zip(said.strip().splitlines(), analyses.SCRIPTS, strict=True):
        assert line.split()[0] == name
        assert "?" in line and line.endswith(f"-> {name}.png")


def test_without_names_the_main_job_is_run(monkeypatch, tmp_path):
    ran = []
    for name in analyses.SCRIPTS:
        script = importlib.import_module(f"analyses.{name}")
        monkeypatch.setattr(script, "main", lambda argv, name=name: ran.append((name, argv)))
    main(["--smoke", "--out", str(tmp_path)])
    assert ran == [(name, ["--out", str(tmp_path), "--smoke"]) for name in analyses.MAIN_JOB]


def test_every_script_in_the_folder_is_listed():
    found = {
        path.stem for path in (ROOT / "analyses").glob("*.py") if "main = " in path.read_text()
    }
    assert found == set(analyses.SCRIPTS)


@pytest.mark.parametrize(
    "argv, said",
    [
        (["gatd"], "analyses: argument NAME: expected one of gated, skip_connected,"),
        (["--gains", "1"], "analyses: unrecognized arguments: --gains; --help lists the flags."),
        (["--seed", "x"], "analyses: argument --seed: expected a whole number, got 'x'; --help"),
    ],
)
def test_misuse_of_the_main_command(argv, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_an_unknown_cell_is_named_with_the_valid_ones(capsys, tmp_path):
    script = importlib.import_module("analyses.gated")
    with pytest.raises(SystemExit) as ended:
        script.main(["--cells", "lstn", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "gated: argument --cells: expected one of vanilla, lstm_1997, lstm, gru, got lstn; "
        "--help lists the flags.\n"
    )


@pytest.mark.parametrize("how", [["-m", "analyses.gated"], ["analyses/gated.py"]])
def test_a_script_runs_as_module_and_as_file(how):
    done = subprocess.run(
        [sys.executable, *how, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Do gates keep gradients from vanishing, and from exploding?" in done.stdout
    assert "--hidden-size" in done.stdout


def test_lags_suit_every_dilation():
    for steps in (8, 40, 200, 1000, 5000):
        lags, few = measure.flow_lags(steps), measure.spectrum_lags(steps)
        assert all(lag % 8 == 0 for lag in lags if lag > 4) and lags[-1] <= steps
        assert list(lags) == sorted(set(lags)) and len(lags) <= 70
        assert all(lag % 8 == 0 for lag in few[1:]) and few[-1] > steps - 8


def small(cell, **case):
    sizes = {"hidden_size": 5, "steps": 16, "washout": 4, "seeds": 2, "sequences": 3}
    config = measure.Sizes(input="noise", **sizes)
    return measure.measure(measure.Case(cell, config, **case))


def test_a_linear_orthogonal_network_is_an_isometry_times_its_gain():
    cell = cells.OrthogonalRNN(32, 5, activation="identity")
    part = small(cell, gain=0.5)
    eps = np.finfo(part["log_norm"].dtype).eps
    expected = part["lags"] * np.log(0.5)
    np.testing.assert_allclose(
        part["log_norm"], np.broadcast_to(expected, (2, 3, 5)), rtol=64 * eps
    )
    np.testing.assert_allclose(part["exponent"], np.log(0.5), rtol=64 * eps)
    slowest = part["log_values"] / part["spectrum_lags"][:, None]
    np.testing.assert_allclose(slowest, np.log(0.5), rtol=256 * eps)
    assert part["log_values"].shape == (2, 3, 3, 5)
    assert not part["status"].any()


def test_exponents_over_gains_of_a_linear_orthogonal_network_are_the_gains():
    cell = cells.OrthogonalRNN(32, 5, activation="identity")
    config = measure.Sizes(input="noise", hidden_size=5, steps=16, washout=4, seeds=2, sequences=3)
    sweep = measure.measure_exponents(measure.Sweep(cell, config, (0.5, 3.0)))
    eps = np.finfo(sweep["exponent"].dtype).eps
    expected = np.log([0.5, 3.0])[:, None, None]
    np.testing.assert_allclose(sweep["exponent"], np.tile(expected, (1, 2, 3)), rtol=64 * eps)


def test_stronger_input_saturates_an_orthogonal_tanh_network():
    cell = cells.OrthogonalRNN(32, 5, input_weights=cells.initializers.Gaussian(1.0))
    config = measure.Sizes(input="noise", hidden_size=5, steps=16, washout=4, seeds=2, sequences=3)
    part = measure.measure_strengths(measure.Strengths(cell, config, (0.0, 1.0)))
    assert part["log_values"].shape == (2, 2, 3, 5) and not part["status"].any()
    assert np.max(np.abs(part["log_values"][0])) < 1e-4 < 1 < -np.max(part["log_values"][1])


def test_octaves_kept_are_those_where_the_norm_stays_within_a_factor_100():
    sweep = {"gains": np.array([0.5, 1.0, 2.0]), "exponent": np.array([-1.0, 0.0, 1.0])}
    sweep["exponent"] = sweep["exponent"][:, None, None]
    expected = 2 * np.log(100.0) / 100
    assert abs(measure.octaves_kept(sweep, 100) - expected) < 2 * 2 / 1001
    sweep["exponent"] = np.array([-np.inf, 0.0, 0.0])[:, None, None]
    assert abs(measure.octaves_kept(sweep, 100) - 1.0) < 2 / 1001


def test_the_gate_bias_goes_to_the_gate_that_keeps():
    """Wide open, LSTM and GRU neither forget nor write, whatever the gain of their weights."""
    zero = cells.initializers.Constant(0.0)
    gru = cells.GRU(32, 5, bias=zero)
    assert np.max(np.abs(small(gru, gain=0.5, gate_bias=40.0)["log_norm"])) < 1e-12
    lstm = cells.LSTM(32, 5, forget_bias=0.0, bias=zero)
    assert np.median(small(lstm, gain=0.5, gate_bias=40.0)["exponent"]) > -0.1
    assert np.median(small(lstm, gain=0.5, gate_bias=0.0)["exponent"]) < -0.3
