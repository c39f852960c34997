"""`product` of the parts, and the products that compiled functions call."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.model.parts import products
from cllm_lab.model.parts.product_kernels import WORKSPACE
from cllm_lab.model.parts.products import Products, product
from cllm_lab.model.parts.vector_tiles import LINE
from tests.large_machine import assert_the_tables_agree

DTYPES = ["float32", "float64"]
KERNELS = ["multiply", "multiply_by_transpose", "multiply_transpose_by"]
# How a matrix may lie: what `laid_out` makes of it.
LAYOUTS = ["plain", "transposed", "part", "part transposed", "strided", "backwards"]


def laid_out(values, layout, dtype):
    """The same matrix with its numbers in other places, among NaN."""
    if layout.endswith("transposed"):
        return laid_out(values.T, layout.removesuffix("transposed").strip() or "plain", dtype).T
    if layout == "plain":
        return np.array(values, dtype, order="C")
    rows, columns = values.shape
    if layout == "strided":
        place = np.full((rows, 2 * columns), np.nan, dtype)[:, ::2]
    else:
        place = np.full((rows + 2, columns + 5), np.nan, dtype)[1:-1, 3:-2]
        place = place[::-1] if layout == "backwards" else place
    place[...] = values
    return place


def assert_rounded_product(out, a, b):
    """|error| <= gamma_k |a| |b|, once for ``out`` and once for what it is compared with."""
    long, k = np.longdouble, a.shape[1]
    u = np.finfo(out.dtype).eps / 2 + np.finfo(long).eps / 2
    bound = k * u / (1 - k * u) * (np.abs(a).astype(long) @ np.abs(b).astype(long))
    assert (np.abs(out - a.astype(long) @ b.astype(long)) <= bound).all()


@pytest.fixture
def makers(monkeypatch):
    """Who made each part of the products since: names of kernels, or "matmul"."""
    names = []

    def watched(name, function):
        def call(*arguments, **options):
            names.append(name)
            return function(*arguments, **options)

        return call

    for name in KERNELS:
        monkeypatch.setattr(products.kernels, name, watched(name, getattr(products.kernels, name)))
    monkeypatch.setattr(np, "matmul", watched("matmul", np.matmul))
    return names


def on_threads(monkeypatch, count):
    """Any product of float32 is worth a kernel and, where ``count`` is not 1, that many threads."""
    monkeypatch.setattr(products, "WORTH_A_CALL", 0)
    monkeypatch.setattr(products, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(products, "available_threads", lambda: count)


def expected_maker(a_layout, b_layout, out_layout):
    """The kernel for operands that lie so, if ``out`` is one that a kernel can write."""
    rows_lie = "plain", "part", "backwards"
    columns_lie = "transposed", "part transposed"
    if out_layout in rows_lie:
        if a_layout in rows_lie and b_layout in rows_lie:
            return "multiply"
        if a_layout in rows_lie and b_layout in columns_lie:
            return "multiply_by_transpose"
        if a_layout in columns_lie and b_layout in rows_lie:
            return "multiply_transpose_by"
    return "matmul"


@pytest.mark.parametrize("a_layout", LAYOUTS)
@pytest.mark.parametrize("b_layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_product_is_made_as_its_matrices_lie(a_layout, b_layout, count, makers, monkeypatch):
    on_threads(monkeypatch, count)
    rng = np.random.default_rng(0)
    m, k, n = 29, 37, 41
    a = laid_out(rng.standard_normal((m, k)), a_layout, "float32")
    b = laid_out(rng.standard_normal((k, n)), b_layout, "float32")
    for out_layout in LAYOUTS:
        makers.clear()
        out = laid_out(np.full((m, n), np.nan), out_layout, "float32")
        product(a, b, out)
        maker = expected_maker(a_layout, b_layout, out_layout)
        assert makers == [maker] * (1 if maker == "matmul" else count)
        assert_rounded_product(out, a, b)


@given(
    st.tuples(*[st.integers(0, 9)] * 3),
    st.tuples(*[st.sampled_from(LAYOUTS)] * 3),
    st.sampled_from(DTYPES),
    st.integers(1, 4),
)
def test_small_products_of_any_shape_on_any_number_of_threads(shape, layouts, dtype, count):
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b, out = (
        laid_out(rng.standard_normal(size), layout, dtype)
        for size, layout in zip(((m, k), (k, n), (m, n)), layouts, strict=True)
    )
    with pytest.MonkeyPatch.context() as patched:
        on_threads(patched, count)
        product(a, b, out)
    assert_rounded_product(out, a, b)


@pytest.mark.parametrize("layouts", [("plain", "plain"), ("plain", "transposed"), ("transposed", "plain")])
def test_the_bits_do_not_depend_on_the_number_of_threads(layouts, monkeypatch):
    rng = np.random.default_rng(0)
    shapes = (40, 3000), (3000, 1100)
    a, b = (
        laid_out(rng.standard_normal(shape), *each, "float32")
        for shape, *each in zip(shapes, layouts, strict=True)
    )
    outs = []
    for count in (1, 2, 3):
        on_threads(monkeypatch, count)
        outs.append(np.empty((40, 1100), np.float32))
        product(a, b, outs[-1])
    assert_rounded_product(outs[0][:, :20], a, b[:, :20])
    assert np.array_equal(outs[0], outs[1])
    assert np.array_equal(outs[0], outs[2])


def test_nothing_beside_out_is_written(monkeypatch):
    on_threads(monkeypatch, 2)
    rng = np.random.default_rng(0)
    for a_transposed, b_transposed in ((False, False), (False, True), (True, False)):
        a = laid_out(rng.standard_normal((29, 37)), "transposed" if a_transposed else "plain", "float32")
        b = laid_out(rng.standard_normal((37, 41)), "transposed" if b_transposed else "plain", "float32")
        whole = np.full((31, 46), 7.0, np.float32)
        product(a, b, whole[1:-1, 3:-2])
        assert_rounded_product(whole[1:-1, 3:-2], a, b)
        whole[1:-1, 3:-2] = 7.0
        assert (whole == 7.0).all()


def test_numpy_makes_small_products_and_those_of_other_dtypes(makers, monkeypatch):
    a, b = np.ones((30, 20)), np.ones((20, 10))
    for dtype, worth, maker in (
        ("float32", 6001, "matmul"),
        ("float32", 6000, "multiply"),
        ("float64", 0, "matmul"),
        (">f4", 0, "matmul"),
    ):
        makers.clear()
        monkeypatch.setattr(products, "WORTH_A_CALL", worth)
        out = np.empty((30, 10), dtype)
        product(a.astype(dtype), b.astype(dtype), out)
        assert makers == [maker]
        assert (out == 20.0).all()
    for of_a, of_b, of_out in (
        ("float64", "float32", "float64"),
        ("float32", "float64", "float64"),
        ("float32", "float32", "float64"),
    ):
        makers.clear()
        out = np.empty((30, 10), of_out)
        product(a.astype(of_a), b.astype(of_b), out)
        assert makers == ["matmul"]
        assert (out == 20.0).all()


def test_only_a_large_product_is_shared_out(makers, monkeypatch):
    on_threads(monkeypatch, 3)
    a, b, out = (np.ones(shape, np.float32) for shape in ((30, 20), (20, 10), (30, 10)))
    for worth, count in ((6001, 1), (6000, 3)):
        makers.clear()
        monkeypatch.setattr(products, "WORTH_A_THREAD", worth)
        product(a, b, out)
        assert makers == ["multiply"] * count


@pytest.mark.parametrize("layouts", [("plain", "plain"), ("plain", "transposed"), ("transposed", "plain")])
def test_a_product_with_fewer_columns_or_rows_than_threads(layouts, monkeypatch):
    on_threads(monkeypatch, 3)
    rng = np.random.default_rng(0)
    for m, n in ((1, 5), (5, 1), (2, 2), (1, 1)):
        a = laid_out(rng.standard_normal((m, 8)), layouts[0], "float32")
        b = laid_out(rng.standard_normal((8, n)), layouts[1], "float32")
        out = np.full((m, n), np.nan, np.float32)
        product(a, b, out)
        assert_rounded_product(out, a, b)


@pytest.mark.parametrize(
    "shapes",
    [((2, 3), (4, 5), (2, 5)), ((2, 3), (3, 5), (2, 4)), ((2, 3), (3, 5), (3, 5))],
    ids=["inner", "columns", "rows"],
)
@pytest.mark.parametrize("worth", [0, products.WORTH_A_CALL])
def test_shapes_that_do_not_fit_are_refused(shapes, worth, monkeypatch):
    monkeypatch.setattr(products, "WORTH_A_CALL", worth)
    with pytest.raises(ValueError) as caught:
        product(*(np.ones(shape, np.float32) for shape in shapes))
    assert str(caught.value).endswith("got {}, {} and {}".format(*shapes))


def test_each_python_thread_packs_into_a_place_of_its_own(monkeypatch):
    on_threads(monkeypatch, 1)
    together, places = threading.Barrier(2, timeout=60), []
    kernel = products.kernels.multiply

    def watched(*arguments):
        places.append(arguments[-1])
        memory = products._mine.workspace
        assert 0 <= arguments[-1] - memory.ctypes.data <= memory.size - WORKSPACE
        together.wait()  # so that both are within a product
        kernel(*arguments)

    monkeypatch.setattr(products.kernels, "multiply", watched)

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            a, b = (rng.standard_normal((200, 200)).astype(np.float32) for _ in range(2))
            out = np.empty((200, 200), np.float32)
            product(a, b, out)
            assert_rounded_product(out[:3], a[:3], b)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert len(set(places)) == 2
    assert all(place % LINE == 0 for place in places)


def test_a_workspace_begins_where_a_line_may_and_ends_within_its_memory():
    memory = np.empty(3 * LINE, np.uint8)
    for offset in range(LINE + 1):
        place = memory[offset:]
        start = products._aligned(place)
        assert start % LINE == 0
        assert 0 <= start - place.ctypes.data < LINE
    one, other = Products(np.dtype("float32")), Products(np.dtype("float32"))
    assert one.handle.dtype == np.int64
    assert one.handle[:3].tolist() == other.handle[:3].tolist()
    assert len({*one.handle[:3].tolist()}) == 3
    for each in (one, other):
        room = each._bytes.ctypes.data + each._bytes.size - each.handle[3]
        assert each.handle[3] % LINE == 0
        assert room >= WORKSPACE
    assert abs(one.handle[3] - other.handle[3]) >= WORKSPACE
    assert not {*one.handle[:3].tolist()} & {*Products(np.dtype("float64")).handle[:3].tolist()}


@numba.njit
def attention(qkv, scores, mixed, dk, handle):
    """For each head: its scores q k^T, scores v into its columns, and scores^T q into a column slice again."""
    n_heads = scores.shape[0]
    width = qkv.shape[1] // 3
    head = width // n_heads
    for h in range(n_heads):
        first, last = h * head, (h + 1) * head
        # Not as many queries as keys, so that no two sizes are the same.
        q, v = qkv[: scores.shape[1], first:last], qkv[:, 2 * width + first : 2 * width + last]
        products.multiply_by_transpose(q, qkv[:, width + first : width + last], scores[h], handle)
        products.multiply(scores[h], v, mixed[:, first:last], handle)
        products.multiply_transpose_by(scores[h], q, dk[1:-1, first + 2 : last + 2], handle)


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_functions_multiply_columns_of_larger_arrays(dtype):
    # Whole numbers so small that nothing is rounded.
    qkv = np.random.default_rng(0).integers(-9, 10, (37, 3 * 4 * 5))
    place = Products(np.dtype(dtype))
    scores, mixed = np.full((4, 30, 37), np.nan, dtype), np.full((30, 20), np.nan, dtype)
    dk = np.full((39, 25), 7.0, dtype)
    attention(qkv.astype(dtype), scores, mixed, dk, place.handle)
    for h in range(4):
        q, k, v = (qkv[:, 20 * part + 5 * h : 20 * part + 5 * (h + 1)] for part in range(3))
        q = q[:30]
        assert np.array_equal(scores[h], q @ k.T)
        assert np.array_equal(mixed[:, 5 * h : 5 * (h + 1)], q @ k.T @ v)
        assert np.array_equal(dk[1:-1, 5 * h + 2 : 5 * (h + 1) + 2], (q @ k.T).T @ q)
    dk[1:-1, 2:-3] = 7.0
    assert (dk == 7.0).all()


def test_a_large_machine_has_the_gradients_of_the_reference():
    assert_the_tables_agree(n_layers=2)
