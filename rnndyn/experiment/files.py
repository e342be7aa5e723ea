"""Files that are either the old one or the new one, whole, whatever happens in between."""

import io
import json
import math
import os
import pathlib
from typing import Any

import numpy as np


def write(path: pathlib.Path, content: bytes) -> None:
    """Write a file atomically: under another name in the same folder, then renamed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with open(draft, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def json_bytes(record: dict[str, Any]) -> bytes:
    """A record as JSON; what is not finite becomes a string, since JSON has no word for it."""
    return (json.dumps(_plain(record), indent=2, allow_nan=False) + "\n").encode()


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of an .npz file."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def load_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def require_writable(folder: pathlib.Path) -> None:
    """Make the folder if need be; raise ValueError with one sentence if no file fits in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "writable", b"")
        (folder / "writable").unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"argument --out: expected a folder that can be written, got {str(folder)!r} "
            f"({reason}); pass another one"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
