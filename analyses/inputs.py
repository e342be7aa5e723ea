"""Real input for the networks, and white noise to compare with.

text: the characters of the reference text that comes with Python (`pydoc_data.topics`), one-hot.
photo: the photograph of Grace Hopper among matplotlib's sample data, in grey, pixel by pixel along
    its rows.
noise: independent Gaussian numbers.

All are comparable: over the whole source each component has mean zero, and the variances of the
components add up to one. So with input weights N(0, s^2) every kind of input gives a unit's
pre-activation the variance s^2; what differs is how many components it has and how they are
correlated in time.
"""

import functools

import numpy as np

NAMES = ("text", "photo", "noise")
NOISE_SIZE = 32


def size(name: str) -> int:
    """m, the number of components of one input."""
    return NOISE_SIZE if name == "noise" else _source(name)[1].shape[1]


def sequences(name: str, count: int, steps: int, seed: int) -> np.ndarray:
    """Stretches of the source from random places, shape (count, steps, m).

    A source that is shorter than a stretch starts again at its beginning.
    """
    rng = np.random.default_rng((seed, NAMES.index(name)))
    if name == "noise":
        return rng.standard_normal((count, steps, NOISE_SIZE)) / np.sqrt(NOISE_SIZE)
    codes, vectors = _source(name)
    starts = rng.integers(len(codes), size=count)
    return vectors[codes[(starts[:, None] + np.arange(steps)) % len(codes)]]


@functools.cache
def _source(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The source as codes (N,) of standardised vectors (K, m)."""
    if name == "text":
        symbols, codes = np.unique(np.array(list(_text())), return_inverse=True)
        vectors = np.eye(len(symbols))
    else:
        greys, codes = np.unique(_pixels(), return_inverse=True)
        vectors = greys[:, None]
    weights = np.bincount(codes) / len(codes)
    vectors = vectors - weights @ vectors
    return codes, vectors / np.sqrt(np.sum(weights @ vectors**2))


def _text() -> str:
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _pixels() -> np.ndarray:
    from matplotlib import cbook, image

    photograph = image.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    return photograph.mean(axis=2).ravel()
