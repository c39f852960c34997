"""Vector instructions, one intrinsic at a time: what each computes, and which numbers it touches."""

import platform

import numba
import numpy as np
import pytest
from numba.core.codegen import get_host_cpu_features

from cllm_lab.model.parts import vector_tiles
from cllm_lab.model.parts.vector_tiles import LINE, ROWS, VECTORS

DTYPES = ["float32", "float64"]
FEATURES = get_host_cpu_features() if numba.config.CPU_FEATURES is None else numba.config.CPU_FEATURES
UNTOUCHED = -7.0
# Features, how many vector registers a processor with them has, and the bytes of one.
FAMILIES = {
    "AVX-512": ("+sse2,+avx,+avx2,+fma,+avx512f,+avx512vl", 32, 64),
    "AVX2": ("+sse2,+avx,+avx2,+fma,-avx512f", 16, 32),
    "AVX": ("+avx,+sse2,-avx2", 16, 32),
    "AVX-512 of another kind only": ("+avx,+avx512fp16", 16, 32),
    "SSE": ("+sse2,+sse4.2,-avx,-avx512f", 16, 16),
    "NEON": ("+fp-armv8,+neon,+crc", 32, 16),
    "unknown": ("", 16, 16),
}


@pytest.mark.parametrize(("features", "n_registers", "size"), FAMILIES.values(), ids=FAMILIES)
def test_a_tile_fits_the_registers_beside_a_line_of_b_and_a_number_of_a(features, n_registers, size):
    found, rows = vector_tiles._registers(features)
    assert found == size
    assert rows * VECTORS + VECTORS + 1 <= n_registers
    assert rows * VECTORS >= n_registers / 2


def test_the_tile_is_that_of_the_processor_that_numba_compiles_for():
    size, rows = vector_tiles._registers(FEATURES)
    assert (LINE, ROWS) == (VECTORS * size, rows)


def columns_of_a_line(dtype):
    return LINE // np.dtype(dtype).itemsize


def aligned(count, dtype):
    """That many untouched numbers from an address on at which lines may begin."""
    size = np.dtype(dtype).itemsize
    memory = np.full(count + LINE // size, UNTOUCHED, dtype)
    first = -memory.ctypes.data % LINE // size
    return memory[first : first + count]


def within(values, dtype):
    """A matrix as a part of a larger one, all else NaN."""
    whole = np.full((values.shape[0] + 2, values.shape[1] + 5), np.nan, dtype)
    part = whole[1:-1, 3:-2]
    part[...] = values
    return part


def whole_numbers(rng, *shape):
    """Few enough and so small that no sum of their products is rounded."""
    return rng.integers(-9, 10, shape)


@numba.njit
def call_pack_line(like, source, target):
    vector_tiles.pack_line(like, source, target)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_line_is_copied(dtype):
    columns = columns_of_a_line(dtype)
    source = within(np.arange(1.0, columns + 1)[None], dtype)
    target = aligned(3 * columns, dtype)
    call_pack_line(target[0], source.ctypes.data, target[columns:].ctypes.data)
    assert np.array_equal(target[columns : 2 * columns], source[0])
    assert (target[:columns] == UNTOUCHED).all()
    assert (target[2 * columns :] == UNTOUCHED).all()


@numba.njit
def call_pack_part_of_line(like, source, target, columns):
    vector_tiles.pack_part_of_line(like, source, target, columns)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_part_of_a_line_is_copied_with_zeros_after_it(dtype):
    columns = columns_of_a_line(dtype)
    for present in range(columns + 1):
        source = within(np.arange(1.0, present + 1)[None], dtype)
        target = aligned(3 * columns, dtype)
        call_pack_part_of_line(target[0], source.ctypes.data, target[columns:].ctypes.data, present)
        expected = np.concatenate([source[0], np.zeros(columns - present)])
        assert np.array_equal(target[columns : 2 * columns], expected)
        assert (target[:columns] == UNTOUCHED).all()
        assert (target[2 * columns :] == UNTOUCHED).all()


@numba.njit
def call_pack_columns(like, source, target, rows):
    vector_tiles.pack_columns(like, source, target, rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_for_the_rows_of_a_tile_are_copied_with_zeros_after_them(dtype):
    lanes = columns_of_a_line(dtype) // VECTORS
    for present in (*range(1, ROWS + 1), ROWS + 1, 5 * ROWS):
        source = within(np.arange(1.0, present + 1)[None], dtype)
        target = np.full(ROWS + lanes + 2, UNTOUCHED, dtype)
        call_pack_columns(target[0], source.ctypes.data, target[1:].ctypes.data, present)
        kept = min(present, ROWS)
        assert np.array_equal(target[1 : 1 + kept], source[0, :kept])
        assert (target[1 + kept : 1 + ROWS] == 0.0).all()
        assert target[0] == target[-1] == UNTOUCHED


@numba.njit
def call_pack_transposed(like, source, source_step, rows, columns, target):
    vector_tiles.pack_transposed(like, source, source_step, rows, columns, target)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("half", range(VECTORS))
def test_a_square_is_packed_transposed_and_its_last_row_stands_for_missing_ones(half, dtype):
    columns = columns_of_a_line(dtype)
    lanes = columns // VECTORS
    for rows in range(1, lanes + 2):
        for depth in (1, 2, lanes - 1, lanes, lanes + 3):
            source = within(np.arange(1.0, rows * depth + 1).reshape(rows, depth), dtype)
            target = aligned((lanes + 1) * columns, dtype).reshape(-1, columns)
            place = target.ctypes.data + half * LINE // VECTORS
            call_pack_transposed(target[0, 0], source.ctypes.data, source.strides[0], rows, depth, place)
            expected = np.full_like(target, UNTOUCHED)
            here = np.minimum(np.arange(lanes), rows - 1)
            kept = min(depth, lanes)
            expected[:kept, half * lanes : (half + 1) * lanes] = source[here, :kept].T
            assert np.array_equal(target, expected)


@numba.njit
def call_tile_of_rows(like, a, a_step, line, count, out, out_step, rows, columns, adds):
    vector_tiles.tile_of_rows(like, a, a_step, line, count, out, out_step, rows, columns, adds, line)


@numba.njit
def call_tile_of_rows_transposed(like, a, a_step, line, count, out, out_step, rows, columns, adds):
    vector_tiles.tile_of_rows_transposed(
        like, a, a_step, line, count, out, out_step, rows, columns, adds, line
    )


@numba.njit
def call_tile_of_columns(like, a, line, count, out, out_step, rows, columns, adds):
    vector_tiles.tile_of_columns(like, a, line, count, out, out_step, rows, columns, adds, line)


def made(tile, a, lines, rows, columns, adds):
    """Of an ``out`` that lies in a larger array: what the tile is to leave there, and what it leaves.

    a (rows, k) and lines (k, columns of a line); ``rows`` and ``columns`` are what the tile is told.
    """
    dtype, k = lines.dtype, len(lines)
    kept = min(rows, ROWS), min(columns, columns_of_a_line(dtype))
    whole = np.full((kept[0] + 2, kept[1] + 5), UNTOUCHED, dtype)
    if tile is call_tile_of_rows_transposed:
        # A tile that is not the last may write zeros where the next one will write, up to the end of a vector.
        lanes = columns_of_a_line(dtype) // VECTORS
        overwritten = min(rows, -(-ROWS // lanes) * lanes) - kept[0]
        whole = np.full((kept[1] + 2, kept[0] + overwritten + 5), UNTOUCHED, dtype)
        kept = kept[::-1]
    else:
        overwritten = 0
    out = whole[1 : 1 + kept[0], 3 : 3 + kept[1]]
    # What is there counts where it is added to, and must not count where it is not.
    out[...] = 100.0 if adds else np.nan
    expected = whole.copy()
    product = a[:ROWS] @ lines
    product = product.T if tile is call_tile_of_rows_transposed else product
    expected[1 : 1 + kept[0], 3 : 3 + kept[1]] = product[: kept[0], : kept[1]] + (100.0 if adds else 0.0)
    if tile is call_tile_of_columns:
        packed = np.full((k, ROWS), np.nan, dtype)
        packed[:, : min(rows, ROWS)] = a[:ROWS].T
        left = (packed.ctypes.data,)
    else:
        part = within(a, dtype)
        left = (part.ctypes.data, part.strides[0])
    places = lines.ctypes.data, k, out.ctypes.data, whole.strides[0]
    tile(lines.dtype.type(0), *left, *places, rows, columns, adds)
    whole[1 : 1 + kept[0], 3 + kept[1] : 3 + kept[1] + overwritten] = UNTOUCHED
    return expected, whole


TILES = [call_tile_of_rows, call_tile_of_rows_transposed, call_tile_of_columns]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.__name__)
def test_a_tile_is_a_product_of_which_the_rows_and_columns_there_are_are_kept(tile, dtype):
    rng = np.random.default_rng(0)
    n = columns_of_a_line(dtype)
    lanes = n // VECTORS
    for rows in {1, 2, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS}:
        for columns in {1, lanes - 1, lanes, lanes + 1, n - 1, n, n + 1, 3 * n}:
            for k, adds in ((0, 0), (1, 0), (7, 0), (7, 1), (7, -1), (7, 512)):
                lines = aligned(k * n, dtype).reshape(k, n)
                lines[...] = whole_numbers(rng, k, n)
                a = whole_numbers(rng, rows, k).astype(dtype)
                expected, found = made(tile, a, lines, rows, columns, adds)
                assert np.array_equal(found, expected), (rows, columns, k, adds)


@pytest.mark.skipif(
    platform.machine() in ("x86_64", "AMD64") and "+fma" not in FEATURES.split(","),
    reason="this processor has no fused multiply-add",
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.__name__)
def test_a_product_is_not_rounded_before_it_is_added(tile, dtype):
    # x y - z for z = x y rounded is 0 where the product is rounded too, else what the rounding of z took away.
    bits = np.finfo(dtype).nmant + 1
    x, y = (2**bits - number for number in (1, 3))
    z = np.array(x * y, object).astype(dtype)
    lost = x * y - int(z)
    assert lost != 0
    n = columns_of_a_line(dtype)
    lines = aligned(2 * n, dtype).reshape(2, n)
    lines[0], lines[1] = -z, y
    a = np.tile(np.array([1, x], dtype), (ROWS, 1))
    packed = np.ascontiguousarray(a.T)
    left = (packed.ctypes.data,) if tile is call_tile_of_columns else (a.ctypes.data, a.strides[0])
    out = np.empty((max(ROWS, n), max(ROWS, n)), dtype)
    tile(out.dtype.type(0), *left, lines.ctypes.data, 2, out.ctypes.data, out.strides[0], ROWS, n, 0)
    kept = out[:n, :ROWS] if tile is call_tile_of_rows_transposed else out[:ROWS, :n]
    assert (kept == lost).all()
