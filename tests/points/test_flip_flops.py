"""Trained 3-bit flip-flops: all 27 points, from starts as users take them; threads."""

import threading

import jax
import numpy as np
import pytest

from rnndyn.points import Kind, certificate, dense, fixed_points, stability, unique
from rnndyn.points.resolvent import distance_to_instability
from tests.points.make_flip_flops import readout, starts
from tests.points.searches import histogram
from tests.tolerances import tol


@pytest.fixture(scope="module", params=["tanh16", "gru16"])
def searched(request):
    map_, begin = starts(request.param, 1024)
    return map_, begin, fixed_points(map_, begin)


def test_three_bits_are_27_points(searched):
    """Sussillo & Barak 2013: C(3, k) 2^(3 - k) points with k unstable modes."""
    map_, _, found = searched
    points = unique(found)
    assert histogram(map_, points) == [8, 12, 6, 1]
    assert int(points.index_sum) == 1
    assert float(np.max(points.residual)) < tol("root")
    gap = jax.vmap(map_)(points.z) - points.z
    assert float(np.max(np.abs(gap))) < tol("root")
    assert float(points.missing) < 0.5


def test_all_27_are_proved_to_exist_and_to_be_alone(searched):
    """No radius can exceed the distance to the next point; a tenth of it and more is proved."""
    map_, _, found = searched
    points = unique(found).z
    proved = certificate(map_, points)
    assert proved.status.tolist() == [0] * 27
    gaps = np.max(np.abs(np.asarray(points)[:, None] - np.asarray(points)[None]), axis=2)
    np.fill_diagonal(gaps, np.inf)
    share = np.asarray(proved.unique_radius) / gaps.min(axis=1)
    assert np.all(proved.radius < tol("certified")) and np.all(share > 0.09) and np.all(share < 1)


def test_saturated_rows_are_no_roots(searched):
    """Of the GRU's starts some run off to where its gates saturate; none of them is a ROOT."""
    _, _, found = searched
    root = np.asarray(found.kind) == Kind.ROOT
    assert np.max(np.abs(np.asarray(found.z)[root])) < 1
    assert np.sum(root) > 700


def test_closing_gates_hide_no_point():
    """On q alone 4 of 10 of these starts end where gates close, and the central saddle is lost."""
    map_, begin = starts("gru64", 1024)
    points = unique(fixed_points(map_, begin))
    assert histogram(map_, points) == [8, 12, 6, 1]
    assert int(points.index_sum) == 1
    assert float(np.max(points.residual)) < tol("root")


def test_order_of_the_starts_does_not_matter(searched):
    map_, begin, found = searched
    order = np.random.default_rng(0).permutation(len(begin))
    points, shuffled = unique(found), unique(fixed_points(map_, begin[order]))
    assert np.allclose(points.z, shuffled.z, rtol=0, atol=tol("root"))
    assert np.array_equal(points.index, shuffled.index)
    assert np.max(np.abs(np.asarray(points.hits) - np.asarray(shuffled.hits))) <= 1


def test_two_threads_share_one_compiled_search(searched):
    """Stacked LAPACK calls in a loop would wait for each other's workers here, for ever."""
    map_, begin, found = searched
    results = {}

    def work(name):
        for _ in range(3):
            results[name] = jax.block_until_ready(fixed_points(map_, begin))

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    for result in results.values():
        assert np.array_equal(result.kind, found.kind)


@pytest.mark.parametrize(
    "function, size", [(dense.inverse, (64, 24, 24)), (distance_to_instability, (8, 12, 12))]
)
def test_stacks_do_not_hang_in_threads(function, size):
    a = jax.random.normal(jax.random.key(0), size)
    stacked = jax.jit(jax.vmap(function))
    jax.block_until_ready(stacked(a))
    threads = [
        threading.Thread(
            target=lambda: [jax.block_until_ready(stacked(a)) for _ in range(20)], daemon=True
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def test_two_bits_are_nine_points():
    """4 stable points, 4 saddles and one with both directions unstable; what is stored is read."""
    map_, begin = starts("two_bits", 512)
    points = unique(fixed_points(map_, begin))
    assert histogram(map_, points) == [4, 4, 1]
    assert int(points.index_sum) == 1
    stable = np.asarray(points.z)[np.asarray(stability(map_, points.z).unstable_dim) == 0]
    read = stable @ readout("two_bits").T
    assert {tuple(row) for row in np.sign(read)} == {(a, b) for a in (-1, 1) for b in (-1, 1)}
    assert np.max(np.abs(np.abs(read) - 1)) < 0.05
