"""The expensive units of a run: computed one by one, kept when finished, found again later."""

import contextlib
import contextvars
import dataclasses
import hashlib
import inspect
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from rnndyn.core import validation
from rnndyn.core.progress import Progress
from rnndyn.experiment import files, provenance
from rnndyn.experiment.settings import Config

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a script measured.

    Attributes
    ----------
    config : Config
        The settings that it was measured with.
    parts : dict
        Name of a part to what its function returned: a dict of NumPy arrays.
    """

    config: Any
    parts: dict[str, Arrays]

    def __getitem__(self, name: str) -> Arrays:
        return self.parts[name]

    def __or__(self, other: "Result") -> "Result":
        """The parts of both."""
        return Result(self.config, self.parts | other.parts)


@dataclasses.dataclass
class Session:
    """The run that `parts` reports to: where finished parts are kept, and what became of them."""

    name: str
    folder: pathlib.Path
    kept: list[pathlib.Path] = dataclasses.field(default_factory=list)
    total: int = 0
    seconds: float = 0.0


_session: contextvars.ContextVar[Session | None] = contextvars.ContextVar("session", default=None)


@contextlib.contextmanager
def session(name: str, folder: pathlib.Path) -> Iterator[Session]:
    """Keep the parts that are computed inside in a folder."""
    opened = Session(name, folder)
    token = _session.set(opened)
    try:
        yield opened
    finally:
        _session.reset(token)


def parts(config: Config, measure: Callable[[Any], Arrays], cases: dict[str, Any]) -> Result:
    """Measure each case; inside `run`, with progress, and keeping every finished one.

    Called outside of `run` it computes and keeps nothing.

    Parameters
    ----------
    config : Config
        Handed on to the result.
    measure : callable
        `measure(case) -> dict of arrays`, a function of a module (not a closure), which depends
        on nothing but its argument: a part is found again by function, case, code, precision,
        device and versions.
    cases : dict
        Name to case; a case is anything whose `repr` tells it whole, such as a frozen dataclass.

    Returns
    -------
    Result
        With one part a case, in the order given.

    Raises
    ------
    ValueError
        If `measure` is a closure, or a case's `repr` shows an address.
    """
    _require_named(measure)
    opened = _session.get()
    if opened is None:
        return Result(config, {name: _arrays(measure(case)) for name, case in cases.items()})
    opened.folder.mkdir(parents=True, exist_ok=True)
    opened.total += len(cases)
    progress, measured = Progress(opened.name, len(cases)), {}
    try:
        for name, case in cases.items():
            path = opened.folder / _file_name(name, measure, case)
            found = _load(path)
            if found is None:
                found = _compute(measure, case)
                files.write(path, files.npz_bytes(found))
                progress.advance(name)
            else:
                progress.skip()
            opened.kept.append(path)
            opened.seconds += float(found.pop("_seconds"))
            measured[name] = found
    finally:
        progress.close()
    return Result(config, measured)


def discard(finished: Session) -> None:
    """Remove the parts of a finished run, and those that other code left behind."""
    current = {path.stem.rsplit("-", 1)[1] for path in finished.kept}
    for path in finished.folder.glob("*.npz"):
        if path in finished.kept or path.stem.rsplit("-", 1)[-1] not in current:
            path.unlink(missing_ok=True)
    for folder in (finished.folder, finished.folder.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing is left in it


def pack(record: dict[str, Any], result: Result) -> bytes:
    """A result and its record as one .npz file."""
    arrays = {"record": np.array(json.dumps(record | {"part_names": list(result.parts)}))}
    for index, part in enumerate(result.parts.values()):
        arrays |= {f"{index}/{field}": value for field, value in part.items()}
    return files.npz_bytes(arrays)


def unpack(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Arrays]]:
    """The record and the parts that `pack` stored."""
    arrays = files.load_npz(path)
    record = json.loads(str(arrays.pop("record")))
    measured: dict[str, Arrays] = {name: {} for name in record.pop("part_names")}
    names = list(measured)
    for key, value in arrays.items():
        index, field = key.split("/", 1)
        measured[names[int(index)]][field] = value
    return record, measured


def _compute(measure: Callable[[Any], Arrays], case: Any) -> Arrays:
    start = time.perf_counter()
    found = _arrays(measure(case))
    return found | {"_seconds": np.array(time.perf_counter() - start)}


def _arrays(found: dict[str, Any]) -> Arrays:
    return {name: np.asarray(value) for name, value in found.items()}


def _load(path: pathlib.Path) -> Arrays | None:
    """A kept part; None if there is none, or another run has just removed it."""
    try:
        return files.load_npz(path)
    except FileNotFoundError:
        return None


def _file_name(name: str, measure: Callable, case: Any) -> str:
    """Readable name, hash of the case, hash of the code."""
    described = repr(case)
    arrays = any(isinstance(leaf, np.ndarray | jax.Array) for leaf in jax.tree.leaves(case))
    if arrays or re.search(r" at 0x[0-9a-f]+", described):
        expected = "a case whose repr tells it whole"
        advice = "use a frozen dataclass of plain values"
        raise ValueError(validation.sentence("cases", expected, described, advice))
    identity = [
        pathlib.Path(inspect.getfile(measure)).stem,
        measure.__qualname__,
        described,
        str(jax.numpy.zeros(()).dtype),
        json.dumps(provenance.device()),
        json.dumps(provenance.versions()),
    ]
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9.]+", "_", name)
    code = provenance.code_hash(pathlib.Path(inspect.getfile(measure)).resolve().parent)
    return f"{readable}-{digest}-{code}.npz"


def _require_named(measure: Callable) -> None:
    if "<" in getattr(measure, "__qualname__", "<"):
        advice = "define it at the top of the script and pass all it needs in the case"
        got = repr(getattr(measure, "__qualname__", measure))
        raise ValueError(validation.sentence("measure", "a function of a module", got, advice))
