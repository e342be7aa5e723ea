"""The end of every script: command line in, figure and provenance out."""

import dataclasses
import datetime
import inspect
import io
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
from matplotlib.figure import Figure

from rnndyn.core.progress import duration
from rnndyn.experiment import files, provenance, settings, store

DPI = 200


def run(
    doc: str,
    config_class: type[settings.Config],
    compute: Callable[[Any], store.Result],
    draw: Callable[[store.Result], Figure],
    claims: Callable[[store.Result], dict[str, Any]],
    argv: Sequence[str] | None = None,
) -> None:
    """Run a script: read the settings, compute, draw, and write figure, numbers and provenance.

    The script's name is that of the file which defines `compute`. Into the output folder go
    NAME.png, NAME.json (settings, versions, device, precision, seed, seconds, state of the code,
    claims) and NAME.npz (the numbers, for `--replot`), each atomically. Parts that `parts`
    finished are kept in parts/NAME until a run with the same settings has written its figure.

    Parameters
    ----------
    doc : str
        The script's docstring: its first line is its question, the whole is its `--help`.
    config_class : subclass of Config
        Every field is a flag.
    compute : callable
        `compute(config) -> Result`; runs with x64 enabled or disabled as `config.precision` says.
    draw : callable
        `draw(result) -> Figure`; saves nothing.
    claims : callable
        `claims(result) -> dict`: the measured numbers behind the words.
    argv : list of str, optional
        The command line without the program; `sys.argv[1:]` if not given.

    Raises
    ------
    SystemExit
        With code 2 and one sentence on misuse, before any work; with code 130 when interrupted.
    """
    script = pathlib.Path(inspect.getfile(compute)).resolve()
    parser = settings.make_parser(doc, script.stem, config_class)
    options = parser.parse_args(argv)
    chosen = settings.given(config_class, options)
    folder = pathlib.Path(options.out or ("figures/smoke" if options.smoke else "figures"))
    try:
        if options.replot:
            record, result = _stored(folder / f"{script.stem}.npz", config_class, chosen)
            files.require_writable(folder)
            _write(folder, script.stem, record, result, draw, claims)
            return
        accelerator = jax.default_backend() != "cpu"
        config = settings.resolve(
            config_class, chosen, smoke=options.smoke, accelerator=accelerator
        )
        files.require_writable(folder)
    except ValueError as error:
        parser.error(str(error))
    name = script.stem
    _keep_compiled()
    _say(f"{name}: {config.precision} on {provenance.device()['kind']} ({jax.default_backend()})")
    with store.session(name, folder / "parts" / name) as session:
        try:
            with jax.enable_x64(config.precision == "float64"):
                result = compute(config)
            record = _record(doc, script, config, session)
            _write(folder, name, record, result, draw, claims)
        except KeyboardInterrupt:
            _interrupted(session)
        store.discard(session)
    _say(f"{name}: wrote {folder / name}.png, measured in {duration(session.seconds)}")


def _record(doc, script, config, session) -> dict[str, Any]:
    return {
        "name": script.stem,
        "question": doc.strip().splitlines()[0],
        "config": dataclasses.asdict(config),
        "seed": config.seed,
        "dtype": config.precision,
        "device": provenance.device(),
        "versions": provenance.versions(),
        "git": provenance.git_state(script.parent),
        "seconds": round(session.seconds, 2),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _write(folder, name, record, result, draw, claims) -> None:
    """The numbers first: whatever happens to the figure, `--replot` has them."""
    files.write(folder / f"{name}.npz", store.pack(record, result))
    stream = io.BytesIO()
    draw(result).savefig(stream, format="png", dpi=DPI)
    claimed = files.json_bytes(record | {"claims": claims(result)})
    files.write(folder / f"{name}.png", stream.getvalue())
    files.write(folder / f"{name}.json", claimed)


def _stored(path: pathlib.Path, config_class, chosen) -> tuple[dict[str, Any], store.Result]:
    if chosen:
        flags = ", ".join("--" + name.replace("_", "-") for name in chosen)
        raise ValueError(f"argument --replot: draws the numbers of an earlier run, drop {flags}")
    if not path.exists():
        raise ValueError(f"argument --replot: there is no {path}, run once without --replot")
    record, measured = store.unpack(path)
    return record, store.Result(settings.from_record(config_class, record["config"]), measured)


def _interrupted(session: store.Session) -> NoReturn:
    count = len(session.kept)
    if count:
        kept_text = (
            f"{count} of {session.total} parts are kept in {session.folder}; "
            "the same command goes on from there"
        )
    else:
        kept_text = "no part was finished"
    _say(f"{session.name}: interrupted; {kept_text}.")
    sys.exit(130)


def _keep_compiled() -> None:
    """Keep compiled functions between runs, unless the caller has settled that already."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(base) / "rnndyn"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
