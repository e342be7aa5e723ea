"""The analyses: what each asks; then the main job, or those that are named, or all, in order."""

import argparse
import ast
import importlib
import pathlib
import sys
from collections.abc import Sequence

import jax

from analyses import MAIN_JOB, SCRIPTS
from rnndyn.experiment.settings import Config, Parser, add_run_flags, add_setting_flags


def main(argv: Sequence[str] | None = None) -> None:
    """List the scripts and run them."""
    parser = Parser(
        prog="analyses",
        description=__doc__ + "\n\n" + listing(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A script's own settings: python -m analyses.NAME --help",
        allow_abbrev=False,
    )
    chosen = f"scripts to run (default {', '.join(MAIN_JOB)})"
    parser.add_argument("names", nargs="*", metavar="NAME", help=chosen)
    parser.add_argument("--all", action="store_true", help="run every script")
    parser.add_argument("--list", action="store_true", help="list the scripts, run none")
    add_setting_flags(parser, Config)
    add_run_flags(parser)
    options = parser.parse_intermixed_args(argv)
    for name in options.names:
        if name not in SCRIPTS:
            parser.error(f"argument NAME: expected one of {', '.join(SCRIPTS)}, got {name}")
    print(listing(), flush=True)
    if options.list:
        return
    for name in SCRIPTS if options.all else options.names or MAIN_JOB:
        importlib.import_module(f"analyses.{name}").main(_passed_on(options))
        jax.clear_caches()  # compiled functions take memory maps, of which a process has 65530


def listing() -> str:
    """Each script's name, question and figure, without importing any."""
    width = max(map(len, SCRIPTS))
    return "\n".join(f"  {name:<{width}}  {_question(name)}  -> {name}.png" for name in SCRIPTS)


def _question(name: str) -> str:
    source = pathlib.Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def _passed_on(options: argparse.Namespace) -> list[str]:
    """The command line of one script."""
    flags = []
    for name, value in vars(options).items():
        if name in ("names", "all", "list") or value in (None, False):
            continue
        flags.append("--" + name.replace("_", "-"))
        flags += [] if value is True else [str(value)]
    return flags


if __name__ == "__main__":
    main(sys.argv[1:])
