"""Real input has the statistics that its docstring promises, and is real."""

import numpy as np
import pytest

from analyses import inputs


@pytest.mark.parametrize("name", ["text", "photo"])
def test_a_source_has_mean_zero_and_total_variance_one(name):
    codes, vectors = inputs._source(name)
    weights = np.bincount(codes) / len(codes)
    np.testing.assert_allclose(weights @ vectors, 0.0, atol=1e-12)
    np.testing.assert_allclose(np.sum(weights @ vectors**2), 1.0, rtol=1e-12)


def test_noise_has_mean_zero_and_total_variance_one():
    drawn = inputs.sequences("noise", 20, 2000, seed=0)
    count = 20 * 2000
    assert np.max(np.abs(drawn.mean(axis=(0, 1)))) < 5 / np.sqrt(count * inputs.NOISE_SIZE)
    assert abs(drawn.var(axis=(0, 1)).sum() - 1.0) < 5 * np.sqrt(2 / (count * inputs.NOISE_SIZE))


@pytest.mark.parametrize("name", inputs.NAMES)
def test_shapes_and_seeds(name):
    drawn = inputs.sequences(name, 3, 11, seed=4)
    assert drawn.shape == (3, 11, inputs.size(name))
    np.testing.assert_array_equal(drawn, inputs.sequences(name, 3, 11, seed=4))
    assert np.any(drawn != inputs.sequences(name, 3, 11, seed=5))
    assert np.any(drawn[0] != drawn[1])


def test_text_is_one_hot_up_to_shift_and_scale():
    drawn = inputs.sequences("text", 2, 50, seed=0)
    codes, vectors = inputs._source("text")
    differences = vectors[1:] - vectors[:1]
    assert np.all(np.count_nonzero(np.abs(differences) > 1e-12, axis=1) == 2)
    assert np.all(drawn.max(axis=2) > 0.5 * vectors.max())


def test_text_is_consecutive_characters():
    codes, vectors = inputs._source("text")
    drawn = inputs.sequences("text", 1, 30, seed=1)[0]
    symbols = np.unique(np.array(list(inputs._text())))
    read = "".join(symbols[np.argmax(drawn, axis=1)])
    assert read in inputs._text()


def test_photo_reads_along_rows():
    drawn = inputs.sequences("photo", 1, 500, seed=0)[0, :, 0]
    neighbours = np.corrcoef(drawn[:-1], drawn[1:])[0, 1]
    assert neighbours > 0.8


def test_a_short_source_starts_again(monkeypatch):
    source = (np.array([0, 1, 2]), np.array([[-1.0], [0.0], [1.0]]))
    monkeypatch.setattr(inputs, "_source", lambda name: source)
    drawn = inputs.sequences("photo", 2, 7, seed=0)[:, :, 0]
    np.testing.assert_array_equal(drawn[:, :4], drawn[:, 3:])
    np.testing.assert_array_equal((drawn[:, 1:] - drawn[:, :-1]) % 3.0, 1.0)
