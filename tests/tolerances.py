"""Every tolerance of the tests, as a multiple of eps(dtype), with its reason.

`tol("name")` gives the number for the default dtype, `tol("name", dtype)` for another. A test
without its tolerance here compares exactly.
"""

import jax.numpy as jnp

MULTIPLES = {
    # name: (multiple of eps, reason)
    # core
    "elementary": (8, "a handful of correctly rounded operations"),
    "step": (64, "one cell step: dot products of length <= 64 and two or three transcendentals"),
    "jacobian": (256, "a Jacobian of one step against an independent formula"),
    "torch_sequence": (512, "a sequence of <= 10 steps and <= 3 layers against another library"),
    # gated cells
    "gate_loop": (4096, "50 steps of a cell against another library or a loop: 1e-12 in float64"),
    "gate_origin": (4096, "eigenvalues of non-normal matrices of size <= 12, condition <= 100"),
    "complex_step": (256, "complex-step differentiation is exact to rounding"),
    # cells
    "loop": (1024, "50 steps of two independent codes; contracting, so errors do not grow"),
    "torch": (1024, "12 steps against recorded arrays"),
    "orthogonal_1000": (8192, "a thousand products of orthogonal matrices, rounding adds up"),
    "origin_spectrum": (1024, "eigenvalues of a small, diagonalisable matrix"),
    "roots": (16384, "2nd to 4th roots of eigenvalues of modulus above 0.01"),
    "gate_bias": (32, "exp and log of a number up to 1000, relative"),
    "printed": (1e5, "a constant printed to eleven digits or more"),
    "printed_8": (5e7, "a constant printed to eight digits"),
    "double_root": (2**28, "an eigenvalue that is four times there: about the square root of eps"),
    # cells across time scales and combinations
    "cell_loop": (4096, "50 steps against a loop in NumPy: 1e-12 in float64"),
    "cell_product": (1024, "a product of at most 16 Jacobians against an independent formula"),
    "fixed_point": (1024, "a fixed point found by iterating a contraction to rounding"),
    "spectrum": (2**14, "eigenvalues of a nonnormal matrix, condition number up to 100"),
    "root_spectrum": (2**23, "eigenvalues of a polynomial with a cluster at zero: about 1e-9"),
    "released_code": (4096, "12 steps against recorded outputs of the authors' code"),
    # special starts, parameterisations and constraints
    "spectral_start": (1024, "eigenvalues of a normal matrix of size <= 40, modulus <= 5"),
    "exp_skew": (8192, "exp of a matrix of norm 100 against Pade approximants squared 5 times"),
    "released_exp": (2**20, "20 steps of a code whose exp is a Pade approximant for float32"),
    "constraint": (1024, "singular values of a matrix of size <= 12 put back together"),
    "bound_power": (4096, "a product of 1000 rounded factors near 1"),
    # branches
    "event_position": (2**21, "a bifurcation by Newton to rounding, condition up to 1e6; < 1e-9"),
    "normal_form": (2**22, "third derivatives at a located point, divided by <p, q>; < 1e-9"),
    "published_digits": (2**22, "the oracle is printed to 11 or 12 digits"),
    "branch_residual": (2048, "residual of a branch point: the default tol, 1024 eps"),
    "branch_eigenvalues": (2**16, "eigenvalues of a random 16 x 16 Jacobian, condition 1e2"),
    "margin": (2**12, "eigenvalues and singular values of a matrix of condition <= 1e2"),
    "parameter_distance": (2**20, "stops at eps^(1/3) tangentially: second order in the distance"),
    "nearest_parameters": (2**36, "first order in eps^(1/3), times 1 / (1 - rate)"),
    # points
    "root": (64, "an isolated root with smallest singular value of order 0.1, to rounding"),
    "root_digits": (2**16, "a root against a reference printed with 12 digits"),
    "multiplier": (2**10, "eigenvalues at a root: conditioning of root and eigenvalue about 10"),
    "printed_10": (2**20, "numbers of order 1 printed with ten digits"),
    "fold_middle": (2**29, "mean of two roots 1e-8 beyond their fold: off by order 1e-8"),
    "sigma_min": (2**12, "evaluated before the last Newton steps, at a residual of 1000 eps"),
    "root_slope": (2**29, "central differences with step 1e-5: about 1e-8 of a sum of ten"),
    "resolvent": (2**28, "an extremum found by pattern search to 1e-4 in its place, squared"),
    # flow
    "log_product": (2**13, "relative: log singular values of a product, 1e-12 in float64"),
    "log_reference": (2**26, "absolute, against recorded digits: relative 1e-8 in each value"),
    "rounded_steps": (57.9e3, "absolute, float32: a thousand steps rounded; 3e-3 in log10"),
    "log_sum": (2**18, "relative: sums of logs against sums of log|det|; < 1e-10"),
    "log_block": (2**17, "absolute: logs of 5 x 5 and 2 x 2 products, condition <= 1e4; < 3e-11"),
    "log_norm": (2**15, "absolute: the largest of 4 to 32, after <= 200 steps; < 1e-11"),
    "long_power": (64, "relative: 1e5 equal steps do not drift; 1.5e-14 in float64"),
    "many_steps": (2**15, "relative: 1000 general steps and their derivatives; < 1e-11"),
    "graded_digits": (2**14, "absolute in log10, steps over 4 decades or more: 4e-12, or 2e-3"),
    "transposed_slope": (2**18, "relative: forward and backward derivatives; < 1e-10"),
    "exponent_digits": (2**22, "absolute: oracles printed to 1e-9"),
    "leading": (2**22, "absolute: squares of a residual of eps^(1/3), and of gaps; < 1e-9"),
    "two_ways": (2**20, "absolute: logs by LAPACK and by rotations, 300 steps; < 3e-10"),
    "flow_slope": (2**32, "relative: derivatives against central differences, 1e-6"),
    # Lyapunov exponents
    "exponent_equal": (4.6e7, "absolute: the exponents of QR at every step, to the default 1e-8"),
    "covariant": (2**14, "absolute: unit vectors known in advance, condition <= 1e2; < 4e-12"),
    # pathways, contributions, mean field
    "log_paths": (2**11, "absolute: logs of sums of <= 3^7 products of 6 x 6; < 1e-12"),
    "gradient_sum": (2**11, "12 steps of backpropagation in two orders"),
    "quadrature": (256, "a sum of 4000 weighted values against adaptive quadrature"),
    "order_parameter": (2**16, "relative: q and chi against printed or adaptive values; < 1e-11"),
    "printed_mean_field": (2**21, "an oracle printed to ten digits"),
    "root_by_halving": (2**12, "a bisection to rounding in ln y"),
    # tracking, basins and the origin of gated cells
    "origin_margin": (2**12, "eigenvalues of a 4 x 4 matrix of norm 3, condition <= 100"),
    "attractor": (2**14, "settled to 1024 eps a step at a rate below 0.9; its exponent over 1024"),
    # branches: cycles, kinks, families
    "auto": (2**28, "AUTO locates events by secants to 1e-9 of the parameter: about 1e-8 in z"),
    "auto_path": (2**44, "a chord of length 0.05 from the branch: h^2 / 8 of its curvature; 4e-3"),
    "end_at_kink": (2**24, "four smallest steps, of sqrt(eps) / 20 each; 4e-9"),
    "normal_form_of_cycle": (2**34, "absolute, of numbers up to 1e5 from third derivatives of F^4"),
    # cycles
    "long_multiplier": (2**22, "relative: a product of 20 slopes, one of them near zero"),
    "graded_multiplier": (2**17, "relative: 12 factors of condition 1e3; 3e-11 in float64"),
    "exact_cycle": (2**10, "absolute: one linear system of size <= 58, condition <= 100"),
    "rational_digits": (2**20, "oracles printed to eight digits or more; < 3e-10"),
    # factorisations
    "factor": (
        64,
        "relative to a row, or absolute at size 1: one factorisation, d <= 7",
    ),
    # evaluation in parallel over time
    "in_parallel": (1024, "a defect of 64 eps, summed by a run that forgets: below 16 of it"),
    # bounds and certificates
    "interval": (128, "outwards by 16 eps twice, and the value itself is off by as much"),
    "log1p": (2048, "as interval, for a function that may be wrong by 512 eps"),
    "slope": (4096, "log1p by 512 eps, and differences of x up to 9 at 1e-13 of it"),
    "certified": (2**17, "a residual of 8 eps times an inverse of norm up to 1e3"),
    "interval_sum": (2**14, "absolute: 50 products below 6, each off by 54 eps"),
    # Jacobians
    "jacobian_of": (64, "the same sums of products in another order, three layers deep"),
}


def tol(name: str, dtype=None) -> float:
    """The tolerance `name` in the given dtype (default: JAX's default float)."""
    dtype = jnp.zeros(()).dtype if dtype is None else dtype
    return MULTIPLES[name][0] * float(jnp.finfo(dtype).eps)
