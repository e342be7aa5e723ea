"""One script, one question, one figure. `python -m analyses` lists them and runs the main job."""

MAIN_JOB = ("gated", "skip_connected", "initialisation", "time_scales")
SCRIPTS = (
    *MAIN_JOB,
    "spectra",
    "chaos",
    "pathways",
    "fixed_points",
    "line_attractor",
    "cycles",
    "bifurcation_gru",
    "bifurcation_training",
)
