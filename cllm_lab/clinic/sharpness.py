"""How sharply the loss curves at the present weights, and so which learning rates plain gradient descent bears."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cllm_lab.clinic.subject import (
    Subject,
    require_gradients,
    require_ids,
    require_subject,
    restored,
    rounding_unit,
)
from cllm_lab.model.config import require_count
from cllm_lab.model.parameters import Array
from cllm_lab.streams import stream


@dataclass(frozen=True, repr=False)
class Sharpness:
    """Curvatures of the loss L at the present weights, in nats per squared unit of weight.

    ``value``: the largest eigenvalue of the Hessian of L, as far as it was found; some eigenvalue lies within
    ``error`` of it. ``along_gradient``: g^T H g / |g|^2, NaN where the gradient g is 0. ``iterations``: products with
    the Hessian that the search took.
    """

    value: float
    error: float
    along_gradient: float
    iterations: int

    @property
    def largest_stable_rate(self) -> float:
        """2 / value, the rate above which full-batch gradient descent moves away along the sharpest direction;
        infinite where nothing curves upwards. In the minimum of a parabola it is exact, elsewhere a first guess.
        """
        return 2.0 / self.value if self.value > 0.0 else math.inf

    def __repr__(self) -> str:
        return (
            f"sharpness {self.value:.3g}, to {self.error:.1g}; along the gradient {self.along_gradient:.3g}\n"
            f"gradient descent in a parabola so curved is stable up to a rate of {self.largest_stable_rate:.2g}"
        )


def sharpness(
    subject: Subject, inputs: Any, targets: Any, tolerance: float = 0.02, most_iterations: int = 40
) -> Sharpness:
    """The largest eigenvalue of the Hessian H of the loss on one batch, by Lanczos from a random direction.

        H v = (g(w + h v) - g(w - h v)) / 2h + O(h^2),   h = sqrt(u) max(1, |w|),   |v| = 1

    with g the subject's gradient and u the rounding unit of its weights: two gradients a product. Lanczos (1950), each
    new direction made orthogonal to all before; power iteration would find the eigenvalue of largest size, which early
    in a training is often a negative one. It ends when the residual, the ``error`` of the result, is at most
    ``tolerance`` times the value, or after ``most_iterations``. Same weights, same figure. The subject is left as it
    was. What is measured is the curvature of the loss whose gradient the subject computes.

    Raises TypeError or ValueError for what is no subject or no batch, ValueError for a tolerance that is not above 0
    and for gradients that are not finite, ConfigError for most_iterations below 1.
    """
    if not tolerance > 0.0:
        raise ValueError(f"tolerance must be above 0; got {tolerance!r}")
    most_iterations = require_count("most_iterations", most_iterations)
    require_subject(subject)
    batch = require_ids("inputs", inputs), require_ids("targets", targets)
    with restored(subject):
        curvature = _Curvature(subject, batch)
        gradient = curvature.gradient()
        length = float(np.linalg.norm(gradient))
        along = math.nan
        if length > 0.0:
            along = float(gradient @ curvature.product(gradient / length)) / length
        value, error, iterations = _largest_eigenvalue(curvature, tolerance, most_iterations)
    return Sharpness(value, error, along, iterations)


class _Curvature:
    """Products of a subject's Hessian with vectors over all its parameters."""

    def __init__(self, subject: Subject, batch: tuple[Array, Array]) -> None:
        self._subject = subject
        self._batch = batch
        self._home = {name: array.copy() for name, array in subject.params.items()}
        self.size = sum(array.size for array in self._home.values())
        norm = math.sqrt(sum(float(np.sum(array.astype(float) ** 2)) for array in self._home.values()))
        self._step = math.sqrt(rounding_unit(self._home)) * max(1.0, norm)

    def gradient(self) -> Array:
        params = self._subject.params
        _, grads = require_gradients(params, self._subject.gradients(*self._batch))
        flat = _flat([grads[name] for name in self._home])
        if not np.isfinite(flat).all():
            raise ValueError("the subject's gradients are not finite; there is no curvature to measure")
        return flat

    def product(self, direction: Array) -> Array:
        """H v for v of length 1."""
        ahead = self._gradient_at(self._step * direction)
        behind = self._gradient_at(-self._step * direction)
        return (ahead - behind) / (2.0 * self._step)

    def _gradient_at(self, shift: Array) -> Array:
        self._write(shift)
        return self.gradient()

    def _write(self, shift: Array) -> None:
        params: Mapping[str, Array] = self._subject.params
        begin = 0
        for name, home in self._home.items():
            part = shift[begin : begin + home.size].reshape(home.shape)
            params[name][...] = home + part
            begin += home.size


def _largest_eigenvalue(
    curvature: _Curvature, tolerance: float, most_iterations: int
) -> tuple[float, float, int]:
    """(eigenvalue, residual, products with the Hessian)."""
    start = stream(0, "check").standard_normal(curvature.size)
    directions = [start / np.linalg.norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = curvature.product(directions[-1])
        diagonal.append(float(directions[-1] @ image))
        basis = np.array(directions)
        rest = image - basis.T @ (basis @ image)
        left = float(np.linalg.norm(rest))
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        value, error = float(values[-1]), left * abs(float(vectors[-1, -1]))
        n = len(diagonal)
        if error <= tolerance * abs(value) or n == min(most_iterations, curvature.size):
            return value, error, n
        beside.append(left)
        directions.append(rest / left)


def _flat(arrays: Sequence[Array]) -> Array:
    return np.concatenate([array.astype(np.float64).ravel() for array in arrays])
