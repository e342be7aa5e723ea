"""One script, one question, one figure. `python -m analyses` lists them and runs them all."""

SCRIPTS = ("gated", "skip_connected", "initialisation", "cycles")
