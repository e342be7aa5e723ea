"""The README is true: its code runs in order, its table is the registry's, its files exist."""

import pathlib
import re
import subprocess
import sys

import rnndyn as rd

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_every_block_runs_in_order_on_a_fresh_interpreter(tmp_path):
    """All Python blocks are one program, run with warnings as errors and nothing set for it.

    What the README shows of a result is what is printed, but for the digits of rounding errors.
    """
    ((name, shown),) = re.findall(r"```\n>>> (\w+)\n(.*?)\n```", README, re.S)
    told = rf"re.sub('error .*', 'error', repr({name}))"
    expected = re.sub("error .*", "error", shown)
    program = "\n".join([*BLOCKS, "import re", f"assert {told} == {expected!r}, {name}"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_usage_example_keeps_the_promised_calls():
    for call in (
        "rd.simulate(cell, params, inputs)",
        "rd.linearize(cell, params, run)",
        "rd.gradient_flow(lin)",
        "rd.singular_spectra(lin, lags=(1, 10, 100, 500))",
        "rd.lyapunov_spectrum(lin)",
        "rd.hold(cell, params, x=jnp.zeros(3))",
        "rd.sample_states(jax.random.key(2), run, 1024, noise=0.1)",
        "rd.fixed_points(quiet, starts, tol=1e-10)",
        "rd.unique(found)",
        "rd.stability(quiet, points.z)",
        "rd.bifurcation_proximity(quiet, points.z)",
        "rd.continuation(",
    ):
        assert call in BLOCKS[0], call


def test_the_table_of_cells_is_the_registry():
    assert rd.cells.cells_table().strip() in README


def test_linked_files_and_figures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_every_figure_of_the_folder_is_shown():
    for png in (ROOT / "figures").glob("*.png"):
        assert f"figures/{png.name}" in README, png.name
        assert png.with_suffix(".json").exists(), png.name


def test_the_test_command_is_one_line_and_the_main_job_another():
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.S)).split("\n")
    assert any("pip install" in line and "-m analyses" in line for line in lines)
    assert any("pip install" in line and "-m pytest" in line for line in lines)
