"""Every tensor's gradient against finite differences of the loss, and what kind of wrong it is."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cllm_lab.clinic.subject import (
    listed,
    require_gradients,
    require_loss,
    require_subject,
    restored,
)
from cllm_lab.model.parameters import Array
from cllm_lab.streams import check_seed, stream

POINTS = ("near", "here")
RANDOM_DIRECTIONS = 3
FAULTY = ("zero", "sign", "factor", "incoherent", "not finite")

# Relative, per direction. In float32 the gradient itself is rounded at every part that it passes.
TOLERANCE = {"float64": 1e-6, "other": 2e-3}
# An error estimate is itself uncertain: a difference counts from this many times it on.
SAFETY = 4.0
# The signal must stand this far above its error before a direction is heard.
HEARD = 10.0
# A gradient below this share of the whole one, and below what can be measured, is as good as 0.
NEGLIGIBLE = 1e-6

# Of the first step of the differences: no number moves by more than this share of the tensor's own size.
FIRST_STEP = 0.1
SMALLEST_SCALE = 0.1
# Nor does the first step claim a change of the loss above this, in nats, by the analytic gradient.
FIRST_CLAIM = 0.05
HALVINGS = 16

NOISE_POINTS = 9
NOISE_ORDER = 4
LOSS_DTYPES = (np.float16, np.float32, np.float64)


@dataclass(frozen=True)
class TensorFingerprint:
    """One tensor's analytic gradient beside the measured one.

    ``kind``: "agrees"; "zero": exactly 0 although the loss moves; "sign": times -1; "factor": times ``ratio``;
    "incoherent": not a multiple of the measured one; "no effect": both 0; "cannot tell": the loss moves too little
    to be measured; "not finite". ``ratio`` = analytic / measured by least squares over the directions, infinite
    where nothing is measured, NaN where both are 0 or it is not known. ``error``: the largest relative difference
    over the directions that can be heard. ``analytic``, ``numeric`` and ``uncertainty``: the derivatives along
    each direction, the analytic gradient's own first unless that is 0, then random ones.
    """

    name: str
    kind: str
    ratio: float
    error: float
    analytic: tuple[float, ...]
    numeric: tuple[float, ...]
    uncertainty: tuple[float, ...]

    @property
    def loss_unmoved(self) -> bool:
        """Whether the loss does not move along any of the directions, as far as it can be measured."""
        return all(abs(n) <= SAFETY * e for n, e in zip(self.numeric, self.uncertainty, strict=True))


@dataclass(frozen=True, repr=False)
class GradientFingerprint:
    """The fingerprint of every tensor, by name; ``point`` where they were taken, ``noise`` of the loss in nats."""

    tensors: Mapping[str, TensorFingerprint]
    point: str
    noise: float

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """The tensors of one kind."""
        return tuple(name for name, tensor in self.tensors.items() if tensor.kind == kind)

    @property
    def kinds(self) -> dict[str, str]:
        """Name -> kind."""
        return {name: tensor.kind for name, tensor in self.tensors.items()}

    @property
    def faulty(self) -> tuple[str, ...]:
        """The tensors whose gradient is not that of the loss."""
        return tuple(name for name, tensor in self.tensors.items() if tensor.kind in FAULTY)

    @property
    def passed(self) -> bool:
        """Whether no gradient is wrong, as far as it can be told, and at least one is seen to be right."""
        return not self.faulty and bool(self.of_kind("agrees"))

    def __repr__(self) -> str:
        n = len(self.tensors)
        where = "at a random point nearby" if self.point == "near" else "at the present weights"
        lines = [f"gradients of {n} tensors against differences of the loss, {where}"]
        for kind, meaning in _MEANINGS.items():
            if kind == "factor":
                lines += self._factors(n)
                continue
            names = self.of_kind(kind)
            if names:
                count = f"{kind}: {len(names)} of {n} ({meaning})"
                lines.append(count if len(names) == n or kind == "agrees" else f"{count}: {listed(names)}")
        unmoved = [name for name in self.of_kind("incoherent") if self.tensors[name].loss_unmoved]
        if unmoved:
            lines.append(f"of these the loss does not move with {listed(unmoved)}")
        return "\n".join(lines)

    def _factors(self, n: int) -> list[str]:
        by_ratio: dict[str, list[str]] = {}
        for name in self.of_kind("factor"):
            by_ratio.setdefault(f"{self.tensors[name].ratio:.3g}", []).append(name)
        return [
            f"factor {ratio}: {len(names)} of {n} (that many times the measured gradient): {listed(names)}"
            for ratio, names in by_ratio.items()
        ]


_MEANINGS = {
    "agrees": "the gradient is that of the loss",
    "zero": "exactly 0, yet the loss moves",
    "sign": "the measured gradient times -1",
    "factor": "",
    "incoherent": "no multiple of the measured gradient",
    "not finite": "NaN or infinite",
    "no effect": "both are 0",
    "cannot tell": "the loss moves too little to be measured",
}


def gradient_fingerprint(
    subject: Any, inputs: Any, targets: Any, seed: int = 0, point: str = "near"
) -> GradientFingerprint:
    """Each tensor's ``gradients`` against central differences of ``loss``, along some directions.

        measured = lim [L(p + h u) - L(p - h u)] / 2h as h -> 0,   analytic = g . u

    along u = g / |g| and three random directions; the limit by Ridders' extrapolation (Ridders 1982, Advances in
    Engineering Software 4), whose error estimate is joined by the measured noise of the loss over h (Moré & Wild
    2011, SIAM J. Sci. Comput. 33, section 3). Right is what agrees to 1e-6 in float64, and to 2e-3 otherwise, or
    within 4 times that error. Rows that the batch does not touch have 0 on both sides and disturb nothing.

    ``point``: "near" adds N(0, s^2) to every number, s = 0.1 + 0.1 rms of its tensor, since special points hide
    mistakes (at gain 1 a layer norm whose backward lacks a term can pass) and healthy gradients (of an all-zero
    machine all are 0); "here" is the present weights. inputs, targets: token ids (B, T).
    The subject is put back bit for bit.

    Raises TypeError or ValueError for what is no subject, gradients whose names or shapes are not those of params,
    and another ``point`` or ``seed``.
    """
    require_subject(subject)
    check_seed(seed)
    if point not in POINTS:
        raise ValueError(f"point must be one of {', '.join(map(repr, POINTS))}; got {point!r}")
    with restored(subject), np.errstate(all="ignore"):
        if point == "near":
            _move(subject.params, seed)

        def loss() -> float:
            return require_loss(subject.loss(inputs, targets))

        _, found = require_gradients(subject.params, subject.gradients(inputs, targets))
        grads = {name: found[name].astype(np.float64) for name in subject.params}
        noise = _noise(subject.params, loss, seed)
        whole = math.sqrt(sum(float(np.vdot(g, g)) for g in grads.values()))
        tensors = {
            name: _fingerprint(name, array, grads[name], loss, noise, whole, seed)
            for name, array in subject.params.items()
        }
    return GradientFingerprint(tensors, point, noise)


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


def _move(params: Mapping[str, Array], seed: int) -> None:
    for name, array in params.items():
        rng = stream(seed, "check", 3, zlib.crc32(name.encode()))
        array[...] = array + (0.1 + 0.1 * _rms(array)) * rng.standard_normal(array.shape)


def _noise(params: Mapping[str, Array], loss: Callable[[], float], seed: int) -> float:
    """Standard deviation of the loss's rounding, from differences of a high order over neighbouring points.

        sigma^2 = (k!)^2 / (2k)! mean of (Delta^k L)^2,   k = 4

    The points lie a few rounding units of the parameters apart, where the loss itself is a straight line.
    """
    homes = {name: array.copy() for name, array in params.items()}
    signs = {
        name: stream(seed, "check", 4, zlib.crc32(name.encode())).choice([-1.0, 1.0], array.shape)
        for name, array in homes.items()
    }
    losses = []
    for place in range(NOISE_POINTS):
        for name, array in params.items():
            array[...] = homes[name] * (1.0 + 4.0 * place * np.finfo(array.dtype).eps * signs[name])
        losses.append(loss())
    for name, array in params.items():
        array[...] = homes[name]
    k = NOISE_ORDER
    differences = np.diff(losses, k)
    share = math.factorial(k) ** 2 / math.factorial(2 * k)
    unit = max(float(np.finfo(dtype).eps) for dtype in LOSS_DTYPES if _fits(losses, dtype))
    return max(math.sqrt(share * float(np.mean(differences**2))), unit * abs(losses[0]))


def _fits(losses: list[float], dtype: type[np.floating]) -> bool:
    """Whether the losses come in this dtype: steps between them that the differences over a few points miss."""
    return bool(np.array_equal(np.array(losses, dtype), losses, equal_nan=True))


def _fingerprint(
    name: str,
    array: Array,
    gradient: Array,
    loss: Callable[[], float],
    noise: float,
    whole: float,
    seed: int,
) -> TensorFingerprint:
    if not np.isfinite(gradient).all() or not math.isfinite(noise):
        return TensorFingerprint(name, "not finite", math.nan, math.nan, (), (), ())
    rng = stream(seed, "check", 5, zlib.crc32(name.encode()))
    length = float(np.linalg.norm(gradient))
    directions = [gradient / length] if length > 0.0 else []
    for _ in range(RANDOM_DIRECTIONS):
        drawn = rng.standard_normal(gradient.shape)
        directions.append(drawn / np.linalg.norm(drawn))
    tolerance = TOLERANCE.get(array.dtype.name, TOLERANCE["other"])
    typical = length / math.sqrt(gradient.size)
    rows = [_derivative(array, gradient, u, loss, noise, tolerance, typical) for u in directions]
    analytic, numeric, error = (np.array(column) for column in zip(*rows, strict=True))
    kind, ratio, worst = _judge(analytic, numeric, error, length, whole, typical, tolerance)
    return TensorFingerprint(
        name, kind, ratio, worst, tuple(analytic.tolist()), tuple(numeric.tolist()), tuple(error.tolist())
    )


def _derivative(
    array: Array,
    gradient: Array,
    direction: Array,
    loss: Callable[[], float],
    noise: float,
    tolerance: float,
    typical: float,
) -> tuple[float, float, float]:
    """(analytic, numeric, standard error of numeric) along a unit direction.

    Ridders' tableau over the difference between the two, at steps that halve. What rounding makes of the
    displacement is then in both, and cancels where the gradient is right; otherwise it is an error.
    """
    home = array.copy()
    analytic = float(np.vdot(gradient, direction))
    h = FIRST_STEP * max(_rms(home), SMALLEST_SCALE) / float(np.abs(direction).max())
    claim = max(abs(analytic), typical)
    if claim > 0.0:
        h = min(h, FIRST_CLAIM / claim)
    best, least = math.nan, math.inf
    above: list[float] = []
    seen: set[float] = set()
    for _ in range(HALVINGS):
        array[...] = home + h * direction
        ahead, there = loss(), array.astype(np.float64)
        array[...] = home - h * direction
        behind, here = loss(), array.astype(np.float64)
        array[...] = home
        seen |= {ahead, behind}
        taken = (there - here) / (2.0 * h)
        row = [(ahead - behind) / (2.0 * h) - float(np.vdot(gradient, taken))]
        wrong = abs(row[0]) if abs(row[0]) <= tolerance * typical else max(abs(row[0]), typical)
        floor = math.hypot(noise / h, wrong * float(np.linalg.norm(taken - direction)))
        for order, coarser in enumerate(above, start=1):
            row.append(row[-1] + (row[-1] - coarser) / (4.0**order - 1.0))
            spread = max(abs(row[-1] - row[-2]), abs(row[-1] - coarser))
            estimate = math.hypot(spread, floor)
            if estimate < least:
                best, least = row[-1], estimate
        above = row
        scale = max(abs(analytic), abs(analytic + best), typical)
        if SAFETY * least <= 0.1 * tolerance * scale or floor > least:
            break
        h /= 2.0
    if len(seen) == 1 and typical == 0.0:
        return 0.0, 0.0, 0.0  # not by a bit
    return analytic, analytic + best, least


def _judge(
    analytic: Array,
    numeric: Array,
    error: Array,
    length: float,
    whole: float,
    typical: float,
    tolerance: float,
) -> tuple[str, float, float]:
    """(kind, ratio, largest relative difference) of one tensor."""
    if not np.isfinite(numeric).all():
        return "not finite", math.nan, math.nan
    seen = np.abs(numeric) > HEARD * error
    size = np.maximum(np.maximum(np.abs(analytic), np.abs(numeric)), typical)
    heard = size > HEARD * error
    # Whether a gradient that cannot be heard would be next to nothing beside the others.
    resolved = float(error.max()) <= NEGLIGIBLE * whole or not error.any()
    if length == 0.0:
        if seen.any():
            return "zero", 0.0, 1.0
        silent = np.all(np.abs(numeric) <= SAFETY * error) and (resolved or whole == 0.0)
        return ("no effect" if silent else "cannot tell"), math.nan, math.nan
    if not heard.any():
        small = length <= NEGLIGIBLE * whole and resolved
        return ("no effect" if small else "cannot tell"), math.nan, math.nan
    difference = np.abs(analytic - numeric)
    worst = float((difference / size)[heard].max())
    if not seen.any():
        # The gradient claims what would have been heard.
        return "incoherent", math.inf, worst
    weights = np.where(heard, 1.0 / np.maximum(error, 1e-3 * tolerance * size) ** 2, 0.0)
    ratio = float((weights * analytic * numeric).sum() / (weights * numeric**2).sum())
    if np.all(difference <= tolerance * size + SAFETY * error):
        return "agrees", ratio, worst
    apart = np.abs(analytic - ratio * numeric)
    allowed = tolerance * np.maximum(size, abs(ratio) * size) + SAFETY * abs(ratio) * error
    if heard.sum() < 2 or ratio == 0.0 or np.any(apart > allowed):
        return "incoherent", ratio, worst
    return ("sign" if abs(ratio + 1.0) <= 10.0 * tolerance else "factor"), ratio, worst
