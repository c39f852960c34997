"""The matrix product of the fast parts: through NumPy, or through MKL where that is installed.

NumPy's own library, OpenBLAS in the wheels, always works. On processors with AVX-512 Intel's MKL makes large products
faster; `pip install "cllm_lab[mkl]"` brings it, and it is then used for what is worth the call. With conda, NumPy
itself can be had with MKL (`libblas=*=*mkl`), and nothing here changes. CLLM_LAB_BLAS=numpy leaves an installed MKL
alone; CLLM_LAB_BLAS=mkl refuses to go on without it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from cllm_lab.model.parameters import Array

CHOICES = ("auto", "numpy", "mkl")
VARIABLE = "CLLM_LAB_BLAS"
# Multiply-adds below which the call through ctypes costs more than a faster library saves.
WORTH_A_CALL = 2_000_000

_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112


def product(a: Array, b: Array, out: Array) -> None:
    """out = a b for matrices (m, k), (k, n) and (m, n) of one dtype. ``out`` must not overlap the others.

    Raises ValueError for shapes that do not fit together.
    """
    if a.shape[0] * a.shape[1] * b.shape[1] >= WORTH_A_CALL:
        library = _mkl()
        if library is not None and library.multiply(a, b, out):
            return
    np.matmul(a, b, out=out)


def load_library() -> str:
    """Loads what large products go through, and names it: "MKL" or "NumPy"."""
    return "NumPy" if _mkl() is None else "MKL"


class _Mkl:
    """sgemm and dgemm of an MKL."""

    def __init__(self, path: str) -> None:
        # Kept by threadpoolctl, too, which finds it among the libraries of the process.
        library = ctypes.CDLL(path)
        self._functions: dict[str, Callable[..., None]] = {}
        for dtype, name, real in (
            ("f", "cblas_sgemm", ctypes.c_float),
            ("d", "cblas_dgemm", ctypes.c_double),
        ):
            function = getattr(library, name)
            pointer, whole = ctypes.c_void_p, ctypes.c_int
            function.argtypes = [whole] * 6 + [real, pointer, whole, pointer, whole, real, pointer, whole]
            function.restype = None
            self._functions[dtype] = function

    def multiply(self, a: Array, b: Array, out: Array) -> bool:
        """out = a b, and True; False where an operand does not lie in memory as this library wants it."""
        function = self._functions.get(out.dtype.char)
        if function is None or not (a.dtype == b.dtype == out.dtype) or a.shape[1] != b.shape[0]:
            return False
        a_lies, b_lies, out_lies = _lies(a), _lies(b), _lies(out)
        if a_lies is None or b_lies is None or out_lies is None or out_lies[0] != _PLAIN:
            return False
        m, n = out.shape
        if a.shape[0] != m or b.shape[1] != n:
            return False
        function(
            _ROW_MAJOR, a_lies[0], b_lies[0], m, n, a.shape[1],
            1.0, a.ctypes.data, a_lies[1], b.ctypes.data, b_lies[1], 0.0, out.ctypes.data, out_lies[1],
        )  # fmt: skip
        return True


def _lies(x: Array) -> tuple[int, int] | None:
    """(plain or transposed, entries from one row or column to the next); None for any other layout."""
    rows, columns = (stride // x.itemsize for stride in x.strides)
    if columns == 1 and rows >= x.shape[1]:
        return _PLAIN, rows
    if rows == 1 and columns >= x.shape[0]:
        return _TRANSPOSED, columns
    return None


@lru_cache(maxsize=1)
def _mkl() -> _Mkl | None:
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise ValueError(f"{VARIABLE} must be one of {', '.join(CHOICES)}; got {choice!r}")
    path = None if choice == "numpy" else _installed_mkl()
    if path is None:
        if choice == "mkl":
            raise RuntimeError(
                f'{VARIABLE}=mkl, but MKL is not installed; pip install "cllm_lab[mkl]" brings it'
            )
        return None
    return _Mkl(path)


def _installed_mkl() -> str | None:
    """Where the `mkl` package has put its library."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name.startswith(("libmkl_rt.", "mkl_rt.")) and not file.name.endswith(".lib"):
            return str(file.locate())
    return None
