"""Precision, strictness and the compile cache for every test.

The main run is in float64. `JAX_ENABLE_X64=0 pytest -m precision` runs the marked tests in
float32.
"""

import gc
import os
import pathlib
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two BLAS threads inside XLA are erratic
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax  # noqa: E402
import matplotlib  # noqa: E402
import pytest  # noqa: E402

matplotlib.use("Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

_cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
if _cache is None:
    _cache = str(pathlib.Path(tempfile.gettempdir()) / "rnndyn-compile-cache")
    jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

_MAPS = pathlib.Path("/proc/self/maps")  # Linux only
_MOST_MAPS = 15_000


@pytest.fixture(autouse=True, scope="module")
def forget_what_was_compiled():
    """Each compiled function takes memory maps, and LLVM crashes at Linux's limit of 65530."""
    yield
    if _MAPS.exists() and len(_MAPS.read_bytes().splitlines()) > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()
