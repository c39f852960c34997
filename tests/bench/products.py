"""The physical limit: the matrix products of a step and nothing between them, as a library makes them."""

from __future__ import annotations

import numpy as np

from tests.bench.machines import Machine


class LibraryProducts:
    """Every product of a training step through NumPy, over the whole batch, each into an array that is already there.

    Those of the attention are stacks, one matrix for each sequence and head.
    """

    def __init__(self, machine: Machine, threads: int) -> None:
        rng = np.random.default_rng(0)

        def draw(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape, dtype=np.float32)

        heads = machine.batch_size * machine.n_heads
        self.calls: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
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
                self.calls.append((a, b, np.empty((*a.shape[:-1], columns), np.float32)))

    def multiply(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        """out = a b, for two matrices or two stacks of them."""
        np.matmul(a, b, out=out)

    def step(self) -> float:
        """All products once; there is no loss."""
        for a, b, out in self.calls:
            self.multiply(a, b, out)
        return float("nan")
