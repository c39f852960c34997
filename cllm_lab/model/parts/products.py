"""The matrix products of the fast parts: `product` for the parts, three more for compiled callers.

`product_kernels` makes them. Arrays are matrices of one dtype, float32 or float64; for compiled callers the numbers of
each row lie side by side, while the rows may lie anywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise

import numba
import numpy as np
from llvmlite import ir
from numba import types

from cllm_lab.model.parameters import Array
from cllm_lab.model.parts import product_kernels as kernels
from cllm_lab.model.parts.jit import machine_code, written_out
from cllm_lab.model.parts.threads import available_threads, run_together
from cllm_lab.model.parts.vector_tiles import LINE, intrinsic

# Multiply-adds of a product below which NumPy's is used, since calling a compiled function costs some microseconds.
WORTH_A_CALL = 10_000_000
# Multiply-adds of a product that is shared out between threads.
WORTH_A_THREAD = 20_000_000

_mine = threading.local()


def product(a: Array, b: Array, out: Array) -> None:
    """out = a b for matrices (m, k), (k, n) and (m, n). ``out`` must not overlap the others.

    In float32 a large product is made here, by the threads that there are; any other by NumPy. Raises ValueError for
    shapes that do not fit together.
    """
    (m, k), n = a.shape, b.shape[1]
    if b.shape[0] != k or out.shape != (m, n):
        raise ValueError(
            f"out = a b takes (m, k), (k, n) and (m, n); got {a.shape}, {b.shape} and {out.shape}"
        )
    kernel = _kernel(a, b, out) if m * k * n >= WORTH_A_CALL else None
    if kernel is None:
        np.matmul(a, b, out=out)
        return
    size = m if kernel is kernels.multiply_transpose_by else n
    count = min(available_threads(), size) if m * k * n >= WORTH_A_THREAD else 1
    bounds = [size * i // count for i in range(count + 1)]
    run_together([partial(_part, kernel, a, b, out, first, last) for first, last in pairwise(bounds)])


def _kernel(a: Array, b: Array, out: Array) -> Callable | None:
    """What can make out = a b as they lie; None where nothing here can."""
    if not (a.dtype == b.dtype == out.dtype == np.float32 and _rows_lie(out)):
        return None
    if _rows_lie(a):
        return kernels.multiply if _rows_lie(b) else kernels.multiply_by_transpose if _rows_lie(b.T) else None
    return kernels.multiply_transpose_by if _rows_lie(a.T) and _rows_lie(b) else None


def _rows_lie(x: Array) -> bool:
    return x.strides[1] == x.itemsize


def _part(kernel: Callable, a: Array, b: Array, out: Array, first: int, last: int) -> None:
    """Rows ``first`` to ``last`` of out = a^T b, or those columns of the other products."""
    if kernel is kernels.multiply_transpose_by:
        a, out = a[first:last].T, out[first:last]
    else:
        b, out = b[:, first:last], out[:, first:last]
        if kernel is kernels.multiply_by_transpose:
            b = b.T
    if not hasattr(_mine, "workspace"):
        _mine.workspace = np.empty(kernels.WORKSPACE + LINE, np.uint8)
    places = [number for x in (a, b, out) for number in (x.ctypes.data, x.strides[0])]
    k = a.shape[0] if kernel is kernels.multiply_transpose_by else a.shape[1]
    kernel(np.float32(0.0), out.itemsize, *places, out.shape[0], k, out.shape[1], _aligned(_mine.workspace))


class Products:
    """The products for compiled callers, one at a time: ``handle`` is what `multiply` and the others take.

    It holds the addresses of the three compiled products for a dtype and of a place to pack operands into. Callers
    reach them through it, since machine code that holds a product itself takes seconds more to compile. The place is
    this object's own, so the object must live as long as its handle is used, and by one thread at a time.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self._bytes = np.empty(kernels.WORKSPACE + LINE, np.uint8)
        self.handle = np.array([*_addresses(dtype), _aligned(self._bytes)], np.int64)


@lru_cache
def _addresses(dtype: np.dtype) -> tuple[int, ...]:
    like = np.empty((), dtype)[()]
    arguments = (numba.typeof(like), *[types.int64] * 11)
    found = []
    for kernel in (kernels.multiply, kernels.multiply_by_transpose, kernels.multiply_transpose_by):
        found.append(machine_code(kernel, arguments))
    return tuple(found)


def _aligned(place: Array) -> int:
    """The first address in an array of bytes at which lines may begin."""
    return -(-place.ctypes.data // LINE) * LINE


@written_out
def multiply(a, b, out, products):
    """out = a b: (m, k), (k, n), (m, n)."""
    _call(products[0], a, b, out, out.shape[0], a.shape[1], out.shape[1], products[3])


@written_out
def multiply_by_transpose(a, b, out, products):
    """out = a b^T: (m, k), (n, k), (m, n)."""
    _call(products[1], a, b, out, out.shape[0], a.shape[1], out.shape[1], products[3])


@written_out
def multiply_transpose_by(a, b, out, products):
    """out = a^T b: (k, m), (k, n), (m, n)."""
    _call(products[2], a, b, out, out.shape[0], a.shape[0], out.shape[1], products[3])


@intrinsic
def _call(typingctx, kernel, a, b, out, m, k, n, packed):
    """Calls the product whose machine code lies at address ``kernel``."""
    like = out.dtype

    def generate(context, builder, signature, values):
        kernel, *arrays, m, k, n, packed = values
        places = []
        for kind, value in zip(signature.args[1:4], arrays, strict=True):
            array = context.make_array(kind)(context, builder, value)
            step = builder.extract_value(array.strides, 0)
            places += [builder.ptrtoint(array.data, m.type), step]
        number = context.get_value_type(like)
        size = context.get_constant(types.int64, like.bitwidth // 8)
        arguments = [ir.Constant(number, 0.0), size, *places, m, k, n, packed]
        function = ir.FunctionType(ir.VoidType(), [each.type for each in arguments])
        builder.call(builder.inttoptr(kernel, function.as_pointer()), arguments)
        return context.get_dummy_value()

    return types.void(types.int64, a, b, out, *[types.int64] * 4), generate
