"""States as flat vectors, and the two decorators."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd


@rd.pytree
class Toy:
    late: jax.Array
    early: jax.Array
    clock: jax.Array


@rd.specification
class Options:
    size: int
    name: str = "tanh"


def toy():
    return Toy(late=jnp.arange(6.0).reshape(2, 3), early=jnp.array([7.0, 8.0]), clock=jnp.array(5))


def test_coordinates_follow_declared_order_and_leave_clocks_out():
    assert rd.flatten(toy()).tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    names = ["late[0][0]", "late[0][1]", "late[0][2]", "late[1][0]", "late[1][1]", "late[1][2]"]
    assert rd.coordinate_names(toy()) == [*names, "early[0]", "early[1]"]


def test_unflatten_inverts_flatten_and_keeps_the_clock():
    z = jnp.linspace(0.0, 1.0, 8)
    back = rd.unflatten(z, toy())
    assert np.array_equal(rd.flatten(back), z)
    assert back.late.shape == (2, 3) and int(back.clock) == 5


def test_unflatten_takes_the_dtype_of_z():
    assert rd.unflatten(jnp.zeros(8, jnp.float32), toy()).late.dtype == jnp.float32


def test_unflatten_is_differentiable_and_vmaps():
    jacobian = jax.jacfwd(lambda z: rd.flatten(rd.unflatten(z, toy())))(jnp.ones(8))
    assert np.array_equal(jacobian, np.eye(8))
    assert jax.vmap(lambda z: rd.unflatten(z, toy()).early)(jnp.ones((4, 8))).shape == (4, 2)


def test_a_state_without_coordinates_is_empty():
    assert rd.flatten({"clock": jnp.array(1)}).shape == (0,)


def test_states_refuse_what_a_tuple_would_allow():
    with pytest.raises(TypeError):
        toy() + toy()
    with pytest.raises(TypeError):
        late, early, clock = toy()
    with pytest.raises(AttributeError):
        toy().late = jnp.zeros(2)


def test_pytrees_and_specifications_survive_pickle():
    back = pickle.loads(pickle.dumps(toy()))
    assert np.array_equal(back.late, toy().late)
    assert pickle.loads(pickle.dumps(Options(3))) == Options(3)


def test_specifications_are_equal_by_value_and_do_not_retrace():
    traces = []

    @jax.jit
    def f(options, x):
        traces.append(options)
        return options.size * x

    f(Options(3), jnp.ones(()))
    f(Options(3), jnp.zeros(()))
    assert hash(Options(3)) == hash(Options(3)) and len(traces) == 1
    f(Options(4), jnp.zeros(()))
    assert len(traces) == 2


def test_static_fields_are_structure():
    map_ = rd.maps.logistic(2.0)
    leaves, structure = jax.tree.flatten(map_)
    assert len(leaves) == 1 and jax.tree.unflatten(structure, leaves).rule is map_.rule


def test_wrong_size_complex_and_mixed_dtypes_are_refused():
    sentence = (
        r"`z`: expected shape \(8,\), got \(7,\); "
        r"flatten a state of the same cell to see its size\."
    )
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        rd.unflatten(jnp.zeros(7), toy())
    sentence = (
        r"`state`: expected real leaves, got complex64; carry complex values as pairs of real ones"
    )
    with pytest.raises(TypeError, match=f"^{sentence}\\.$"):
        rd.flatten(jnp.ones(2, jnp.complex64))
    sentence = (
        r"`state`: expected leaves of one floating-point dtype, got bfloat16, float32; "
        r"cast all leaves to one of them\."
    )
    with pytest.raises(TypeError, match=f"^{sentence}$"):
        rd.flatten((jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.float32)))
