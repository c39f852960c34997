"""The same products through Intel's MKL, to which PyTorch's wheels for these processors hand theirs."""

from __future__ import annotations

import ctypes
import importlib.metadata
from typing import Any

import numpy as np

from tests.bench.machines import Machine
from tests.bench.products import LibraryProducts

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112


class MklProducts(LibraryProducts):
    """Every product of a training step, one call of MKL for each. Raises ImportError where there is none."""

    def __init__(self, machine: Machine, threads: int) -> None:
        self._library = load()
        super().__init__(machine, threads)

    def multiply(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        """out = a b, for two matrices or two stacks of them."""
        (a_form, *of_a), (b_form, *of_b), (_, *of_out) = map(_operand, (a, b, out))
        sizes = ROW_MAJOR, a_form, b_form, *out.shape[-2:], a.shape[-1]
        if out.ndim == 2:
            self._library.cblas_sgemm(*sizes, 1.0, *of_a, *of_b, 0.0, *of_out)
        else:
            steps = [x.strides[0] // x.itemsize for x in (a, b, out)]
            self._library.cblas_sgemm_batch_strided(
                *sizes, 1.0, *of_a, steps[0], *of_b, steps[1], 0.0, *of_out, steps[2], len(out)
            )


def load() -> Any:
    """The library that the package `mkl` has put in place. Raises ImportError where it has not."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError("the package mkl is not installed") from error
    paths = [
        file for file in files if file.name.startswith(("libmkl_rt.", "mkl_rt.")) and file.suffix != ".lib"
    ]
    if not paths:
        raise ImportError("the package mkl has no library mkl_rt")
    library = ctypes.CDLL(str(paths[0].locate()))
    whole, number, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    matrix = [pointer, whole]
    library.cblas_sgemm.argtypes = [whole] * 6 + [number, *matrix, *matrix, number, *matrix]
    stack = [*matrix, whole]
    library.cblas_sgemm_batch_strided.argtypes = (
        [whole] * 6 + [number, *stack, *stack, number, *stack] + [whole]
    )
    library.cblas_sgemm.restype = library.cblas_sgemm_batch_strided.restype = None
    return library


def _operand(x: np.ndarray) -> tuple[int, int, int]:
    """Plain or transposed; the address; entries from one row, or of a transposed matrix one column, to the next."""
    rows, columns = (stride // x.itemsize for stride in x.strides[-2:])
    return (PLAIN, x.ctypes.data, rows) if columns == 1 else (TRANSPOSED, x.ctypes.data, columns)
