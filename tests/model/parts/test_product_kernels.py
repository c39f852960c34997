"""The compiled matrix products: what they compute, to the last bit; what they read; what they write."""

import ctypes
import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.codegen import get_host_cpu_features

from cllm_lab.model.parts import product_kernels
from cllm_lab.model.parts.product_kernels import BLOCK, DEPTH, DEPTH_TRANSPOSED, PACKED, PIECE, WORKSPACE
from cllm_lab.model.parts.vector_tiles import LINE, ROWS

ROOT = Path(__file__).parents[3]
DTYPES = ["float32", "float64"]
NAMES = ["multiply", "multiply_by_transpose", "multiply_transpose_by"]
X86_64 = platform.machine() in ("x86_64", "AMD64")
FEATURES = get_host_cpu_features() if numba.config.CPU_FEATURES is None else numba.config.CPU_FEATURES
UNTOUCHED = -7.0
GUARD = 1 << 12


def as_stored(name, a, b):
    """The two matrices that a product of this name is given for a b."""
    return (a.T if name == "multiply_transpose_by" else a), (b.T if name == "multiply_by_transpose" else b)


def within(values, dtype):
    """A matrix as a part of a larger one, all else NaN."""
    whole = np.full((values.shape[0] + 2, values.shape[1] + 5), np.nan, dtype)
    part = whole[1:-1, 3:-2]
    part[...] = values
    return part


def call(name, a, b, out, workspace):
    """a, b and out as they are stored."""
    k = a.shape[0] if name == "multiply_transpose_by" else a.shape[1]
    places = [number for x in (a, b, out) for number in (x.ctypes.data, x.strides[0])]
    kernel = getattr(product_kernels, name)
    kernel(out.dtype.type(0), out.itemsize, *places, out.shape[0], k, out.shape[1], workspace)


def found(name, a, b, dtype):
    """a b, all three parts of larger arrays, after the proof that nothing but ``out`` and the workspace was written.

    The workspace holds NaN, so that nothing counts that was not packed.
    """
    a, b = (within(x, dtype) for x in as_stored(name, a, b))
    m = a.shape[1] if name == "multiply_transpose_by" else a.shape[0]
    n = b.shape[0] if name == "multiply_by_transpose" else b.shape[1]
    whole = np.full((m + 2, n + 7), UNTOUCHED, dtype)
    out = whole[1:-1, 3:-4]
    out[...] = np.nan
    memory = np.full(GUARD + LINE + WORKSPACE + GUARD, 90, np.uint8)
    start = GUARD + -(memory.ctypes.data + GUARD) % LINE
    memory[start : start + WORKSPACE] = 255
    call(name, a, b, out, memory.ctypes.data + start)
    result = out.copy()
    out[...] = UNTOUCHED
    assert (whole == UNTOUCHED).all()
    assert (memory[:start] == 90).all()
    assert (memory[start + WORKSPACE :] == 90).all()
    return result


def worst_rounding(k, dtype):
    """gamma_k = k u / (1 - k u), u the unit roundoff: Higham 2002, "Accuracy and Stability", section 3.1."""
    u = np.finfo(dtype).eps / 2
    return k * u / (1 - k * u)


def assert_rounded_product(result, a, b, dtype):
    """Each element as good as any sum of its k products is sure to be, against one in the longest floats there are."""
    long = np.longdouble
    a, b = a.astype(long), b.astype(long)
    bound = worst_rounding(a.shape[1], dtype) + worst_rounding(a.shape[1], long)
    assert (np.abs(result - a @ b) <= bound * (np.abs(a) @ np.abs(b))).all()


@settings(max_examples=20)
@given(st.integers(1, 3 * ROWS + 1), st.integers(0, 40), st.integers(1, 70), st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_product_is_that_of_longer_floats_up_to_rounding(name, dtype, m, k, n, seed):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-3, 3, (m, 1))
    a, b = (scale * rng.standard_normal((m, k))).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    assert_rounded_product(found(name, a, b, dtype), a, b, dtype)


def shapes(dtype):
    """(m, k, n) around every size at which something begins: a tile, a vector, a line, a depth, a block."""
    size = np.dtype(dtype).itemsize
    line, wide = LINE // size, PIECE // size
    lanes = line // 2
    return [
        (1, 1, 1),
        (1, 0, 1),
        (ROWS + 1, 0, line + 1),
        (ROWS - 1, 3, lanes - 1),
        (ROWS, 2, lanes),
        (ROWS + 1, 5, lanes + 1),
        (2 * ROWS, 7, line - 1),
        (1, 9, line),
        (2, lanes - 1, line + 1),
        (line - 1, lanes, ROWS - 1),
        (line, line, ROWS),
        (line + 1, lanes + 1, ROWS + 1),
        (2 * ROWS + 1, 17, 2 * line + lanes + 1),
        (3 * line + lanes + 1, 4, 2 * ROWS),
        (3, DEPTH, line),
        (2, DEPTH - 1, 1),
        (3, DEPTH + 1, ROWS),
        (ROWS + 1, 2 * DEPTH + 3, line + 1),
        (3, DEPTH_TRANSPOSED, 2),
        (lanes + 1, DEPTH_TRANSPOSED + 5, ROWS + 1),
        # n or m of 1 with a long sum.
        (3, 20_000, 1),
        (1, 20_000, 3),
        # A b whose rows are longer than a piece of a block; one that fills no more than a block; one that does.
        (2, 150, wide + 1),
        (ROWS + 1, 70, wide + line + 3),
        (2, DEPTH + 1, BLOCK // DEPTH // size),
        (2, DEPTH + 1, BLOCK // DEPTH // size + 1),
        # More rows of a, or columns of b, than are packed at a time.
        (PACKED // (DEPTH_TRANSPOSED * size) + 1, DEPTH_TRANSPOSED + 1, ROWS + 2),
        (2, DEPTH + 2, PACKED // (DEPTH * size) + 1),
    ]


def chained(name, a, b, dtype, fused):
    """a b of whole numbers, exact but for one rounding to ``dtype`` after each product is added, over k in turn.

    Where not ``fused``, each product is rounded as well. What is written transposed does not go on from what is there:
    a chain of its own is added to it.
    """

    def rounded(exact):
        return exact.astype(dtype).astype(np.int64)

    depth = DEPTH_TRANSPOSED if name == "multiply_by_transpose" else max(a.shape[1], 1)
    total = np.zeros((a.shape[0], b.shape[1]), np.int64)
    for first in range(0, a.shape[1], depth):
        part = np.zeros_like(total)
        for x, y in zip(a.T[first : first + depth], b[first : first + depth], strict=True):
            products = x[:, None] * y
            part = rounded(part + (products if fused else rounded(products)))
        total = rounded(total + part)
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_an_element_is_one_chain_of_multiply_adds_that_are_fused_where_the_processor_can(name, dtype):
    # A product of two such numbers does not fit into a float of the dtype, while every exact sum fits into an int64.
    largest = {"float32": 2**20, "float64": 2**27}[dtype]
    rng = np.random.default_rng(0)
    # A processor that cannot may be left to round each product or be made to call a function.
    ways = (True, False) if X86_64 and "+fma" not in FEATURES.split(",") else (True,)
    for m, k, n in shapes(dtype):
        a, b = rng.integers(-largest, largest, (m, k)), rng.integers(-largest, largest, (k, n))
        result = found(name, a, b, dtype)
        assert any(np.array_equal(result, chained(name, a, b, dtype, fused)) for fused in ways), (m, k, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_an_element_does_not_depend_on_the_rows_and_columns_that_are_made_with_it(name, dtype):
    rng = np.random.default_rng(0)
    m, k, n = 3 * ROWS + 4, DEPTH_TRANSPOSED + 9, PIECE // np.dtype(dtype).itemsize + 70
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    whole = found(name, a, b, dtype)
    for first, last in ((0, 1), (1, m), (0, ROWS), (ROWS - 1, 2 * ROWS + 1), (m - 1, m)):
        assert np.array_equal(found(name, a[first:last], b, dtype), whole[first:last])
    for first, last in ((0, 1), (1, 5), (3, 150), (0, n // 2), (n // 2, n), (n - 1, n)):
        assert np.array_equal(found(name, a, b[:, first:last], dtype), whole[:, first:last])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity_reach_the_elements_that_they_are_a_part_of(name, dtype):
    rng = np.random.default_rng(0)
    line = LINE // np.dtype(dtype).itemsize
    m, k, n = line + ROWS + 1, 20, line + ROWS + 2
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    a[ROWS, 3], a[m - 1, k - 1], a[0, 0] = np.nan, np.inf, 0.0
    b[0, line], b[k - 1, n - 1], b[7, 1] = -np.inf, np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = a @ b
    result = found(name, a, b, dtype)
    assert np.isnan(expected[0, line])  # 0 times infinity
    special = ~np.isfinite(expected)
    assert np.array_equal(result[special], expected[special], equal_nan=True)
    assert np.isfinite(result[~special]).all()


def between_closed_pages(values, at_end):
    """A copy of a matrix at the end or the beginning of memory beside which no address may be read or written."""
    page = mmap.PAGESIZE
    room = -(-values.nbytes // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    library = ctypes.CDLL(None, use_errno=True)
    for closed in (address, address + page + room):
        if library.mprotect(ctypes.c_void_p(closed), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    start = page + (room - values.nbytes if at_end else 0)
    copy = np.frombuffer(memory, values.dtype, values.size, start).reshape(values.shape)
    copy[...] = values
    return copy


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is of POSIX")
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_no_address_beside_the_matrices_is_touched(name, dtype, at_end):
    rng = np.random.default_rng(0)
    line = LINE // np.dtype(dtype).itemsize
    for m, k, n in (
        (1, 1, 1),
        (ROWS + 1, 3, line + 1),
        (line + 3, line + 5, ROWS - 1),
        (2 * ROWS, 40, 2 * line),
    ):
        a, b = rng.integers(-9, 10, (m, k)), rng.integers(-9, 10, (k, n))
        stored = [np.ascontiguousarray(x, dtype) for x in as_stored(name, a, b)]
        # What lies beside them ends the process: faulthandler names this test then.
        matrices = [between_closed_pages(x, at_end) for x in (*stored, np.full((m, n), np.nan, dtype))]
        workspace = between_closed_pages(np.full(-(-WORKSPACE // LINE) * LINE, 255, np.uint8), at_end)
        call(name, *matrices, workspace.ctypes.data)
        assert np.array_equal(matrices[2], a @ b)


# What numba compiles for, the bytes of a line then, and what this processor must have to run it.
OTHER_PROCESSORS = {
    "haswell": ("+avx,+avx2,+fma", 64, {"+avx2", "+fma"}),
    "nehalem": ("+sse4.2", 32, {"+sse4.2"}),
}
ON_ANOTHER = """
import sys
import pytest
from cllm_lab.model.parts.vector_tiles import LINE
assert LINE == int(sys.argv[1]), LINE
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the processors named here are of x86-64"
)
@pytest.mark.parametrize("processor", OTHER_PROCESSORS)
def test_the_bits_are_those_of_any_processor(processor, tmp_path):
    features, line, needed = OTHER_PROCESSORS[processor]
    if not needed <= set(get_host_cpu_features().split(",")):
        pytest.skip(f"this processor cannot stand in for {processor}")
    environment = {
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    # The chains of whole numbers that they are compared with are the same everywhere.
    chains = test_an_element_is_one_chain_of_multiply_adds_that_are_fused_where_the_processor_can.__name__
    tests = [f"{__file__}::{chains}[{name}-float32]" for name in NAMES]
    finished = subprocess.run(
        [sys.executable, "-c", ON_ANOTHER, str(line), *tests],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert f"{len(tests)} passed" in finished.stdout, finished.stdout + finished.stderr
