"""The physical limit: the matrix products of a step and nothing between them."""

from __future__ import annotations

import numpy as np

from cllm_lab.model.parts import products
from tests.bench.machines import Machine


def multiply(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = a b through the library that was chosen, whatever the size; stacks of matrices go through NumPy."""
    mkl = products._mkl()
    if mkl is None or out.ndim > 2 or not mkl.multiply(a, b, out):
        np.matmul(a, b, out=out)


class Products:
    """Every product of a training step, each into an array that is already there."""

    def __init__(self, machine: Machine, threads: int) -> None:
        rng = np.random.default_rng(0)

        def draw(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape, dtype=np.float32)

        heads = machine.batch_size * machine.n_heads
        self._calls: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for kind, (rows, inner, columns), count in machine.products():
            for _ in range(count):
                if kind == "attention":
                    a, b = draw(heads, rows, inner), draw(heads, inner, columns)
                elif kind == "input gradient":
                    a, b = draw(rows, inner), draw(columns, inner).T
                elif kind == "weight gradient":
                    a, b = draw(inner, rows).T, draw(inner, columns)
                else:
                    a, b = draw(rows, inner), draw(inner, columns)
                self._calls.append((a, b, np.empty((*a.shape[:-1], columns), np.float32)))

    def step(self) -> float:
        """All products once; there is no loss."""
        for a, b, out in self._calls:
            multiply(a, b, out)
        return float("nan")
