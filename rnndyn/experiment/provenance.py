"""Where a figure's numbers come from: versions, device and state of the code."""

import functools
import hashlib
import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax

import rnndyn

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "matplotlib")
_NOT_NUMBERS = ("plot", "experiment")  # folders of the library whose code changes no number


def versions() -> dict[str, str]:
    """The versions that a number may depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found, "rnndyn": rnndyn.__version__}


def device() -> dict[str, Any]:
    """The device that JAX computes on by default."""
    first = jax.devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}


def git_state(folder: pathlib.Path) -> str:
    """`git describe` of a folder's repository, with "-dirty" if tracked code differs from it.

    Code is what ends in .py or .toml: the figures that an earlier script has just rewritten are
    not a change of the state that the next one runs in. "unknown" without a repository.
    """
    try:
        described = _git(folder, "describe", "--always", "--tags")
        code = (":(top)*.py", ":(top)*.toml")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", *code)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described + ("-dirty" if changed else "")


def _git(folder: pathlib.Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


@functools.cache
def code_hash(folder: pathlib.Path) -> str:
    """A hash of the code that numbers depend on: the library's, and the scripts in a folder."""
    library = pathlib.Path(__file__).parent.parent
    sources = [
        path
        for path in sorted(library.rglob("*.py"))
        if path.relative_to(library).parts[0] not in _NOT_NUMBERS
    ]
    digest = hashlib.sha256()
    for path in [*sources, *sorted(folder.glob("*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
