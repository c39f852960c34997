"""Which optimizer made these steps? A few updates explained from parameters, gradients and state alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.clinic.subject import (
    Subject,
    keeps_state,
    listed,
    require_gradients,
    require_subject,
    restored,
)
from cllm_lab.model.parameters import Array

# Relative residuals up to which a rule explains the steps. In float32 the rule that made them leaves 1e-5 to 1e-3
# (the gradients' own last bits); one that did not leaves 0.1 and more.
TOLERANCE = 1e-2
# A rule as good as the best: within this factor of its residual. Below the floor all residuals are rounding.
_AS_GOOD = 3.0
_FLOOR = {"float32": 3e-5, "float64": 1e-7}
# Where a gradient is rounding noise Adam makes a whole step of it; such entries explain nothing.
_SIGNIFICANT = 1e-3
_DECAY_STANDARD_ERRORS = 20.0
_NO_DIRECTION = 1e-2
_REPEATS = 0.1

DIRECTIONS = {
    "along": "moved along -g",
    "against": "moved against -g",
    "across": "moved neither along -g nor against it",
    "still": "did not move, its gradient is not 0",
    "rounded away": "did not move: the update is below the rounding of its weights",
    "no gradient": "did not move, its gradient is exactly 0",
    "without gradient": "moved although its gradient is exactly 0",
}


@dataclass(frozen=True)
class TensorMove:
    """What one tensor did. ``gradient`` and ``movement``: Euclidean norms at the first step.

    ``direction``: a key of `DIRECTIONS`; ``cosine`` between the movement and -g (NaN where one of them is 0);
    ``rate``: the step along -g that fits the movement best, -<d, g> / <g, g>; ``residual``: the share |d - fit| / |d|
    of the movements that the rule found leaves unexplained in this tensor, NaN where there is no rule or movement.
    """

    name: str
    gradient: float
    movement: float
    direction: str
    cosine: float
    rate: float
    residual: float


@dataclass(frozen=True)
class Explanation:
    """A rule fitted to the steps: ``rule`` by name, the ``settings`` that were fitted, and the relative residual."""

    rule: str
    settings: Mapping[str, float]
    residual: float
    unknowns: int


@dataclass(frozen=True, repr=False)
class OptimizerReplay:
    """How a subject's steps follow from its gradients.

    ``rule``: "sgd", "clipped sgd", "sgd, a rate for each step", "momentum", "adam", "adam-epsilon-hat", "adamw",
    "sgd with decay", "nothing" (no parameter moved) or "none of these"; ``settings`` that were fitted: rate, momentum,
    decay, threshold (rate x clip_norm of clipped sgd). A negative rate is a wrong sign (``wrong_sign``).
    ``summed_gradients``: the steps follow the sum of all gradients so far, which are not set back to 0.
    ``equally_good``: the rules that these steps cannot tell from it. ``explanations``: every rule that was tried,
    best first. ``moves``: a row per tensor. ``from_fresh``: whether Adam's moments were taken to be 0 for want of a
    readable state. ``left_changed``: whether the subject keeps what its steps changed besides the parameters.
    """

    rule: str
    settings: Mapping[str, float]
    residual: float
    summed_gradients: bool
    equally_good: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    moves: tuple[TensorMove, ...]
    steps: int
    from_fresh: bool
    left_changed: bool

    @property
    def wrong_sign(self) -> bool:
        """Whether the steps climb: the rule found, with a negative rate."""
        return any(
            value < 0.0 for name, value in self.settings.items() if name.startswith(("rate", "threshold"))
        )

    def names(self, direction: str) -> tuple[str, ...]:
        """The tensors of one direction, a key of `DIRECTIONS`. Raises ValueError for any other."""
        if direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}; got {direction!r}")
        return tuple(move.name for move in self.moves if move.direction == direction)

    def __repr__(self) -> str:
        lines = [self._verdict()]
        for direction, words in DIRECTIONS.items():
            names = self.names(direction)
            if names:
                lines.append(f"  {len(names)} of {len(self.moves)} {words}: {listed(names)}")
        if self.left_changed:
            lines.append(
                "  The subject has no state: what its steps changed besides the parameters stays changed."
            )
        return "\n".join(lines)

    def _verdict(self) -> str:
        head = f"{self.steps} steps on one batch: "
        if self.rule == "nothing":
            return f"{head}no parameter moved."
        if self.rule == "none of these" and not self.explanations:
            return f"{head}none of these rules applies: there is no finite gradient and movement to compare."
        if self.rule == "none of these":
            best = self.explanations[0]
            reason = "; Adam's earlier moments are unknown" if self.from_fresh else ""
            return (
                f"{head}none of these rules explains the movement. Nearest: {best.rule}, which leaves "
                f"{best.residual:.0%} unexplained (dropout, or another gradient than the one reported, would do "
                f"so too{reason})."
            )
        settings = ", ".join(f"{name} {value:.3g}" for name, value in self.settings.items())
        text = f"{head}{self.rule}, {settings}; {_share(self.residual)} unexplained."
        if self.wrong_sign:
            text += " Wrong sign: the steps climb along +g."
        if self.summed_gradients:
            text += " The steps follow the sum of all gradients so far: gradients are not set back to 0."
        if self.equally_good:
            text += f" These steps do not tell it from {', '.join(self.equally_good)}."
        return text


def _share(residual: float) -> str:
    return "under 0.1 %" if residual < 1e-3 else f"{residual:.1%}"


def optimizer_replay(
    subject: Subject,
    inputs: ArrayLike,
    targets: ArrayLike,
    steps: int = 3,
    betas: tuple[float, float] | None = None,
    epsilon: float | None = None,
    clip_norm: float | None = None,
) -> OptimizerReplay:
    """Takes a few steps on one batch, inputs and targets (B, T), and explains d = p_after - p_before.

    With gradient g as the subject reports it, rates r fitted over all tensors that moved:

        sgd            d = -r g                  clipped sgd   d = -(r c / |g|) g, |g| over all tensors
        momentum       d_k = mu d_(k-1) - r g_k, whatever came before
        adam, -epsilon-hat, adamw   as in `cllm_lab.training.optimizers`
        ... with decay              the same, and - r lambda p

    The simplest rule counts among those that fit equally well. The Adam kinds are tried with ``betas``, ``epsilon``
    and gradients as they are and clipped at ``clip_norm``; where these are None, with those of ``subject.config``
    if it has one, as a trainer has, and else with (0.9, 0.999), 1e-8 and 1. Adam is replayed from moments 0 at
    its first step, unless the subject's ``state()`` has, as a trainer's has, ``steps_done`` and ``arrays`` with flat
    ``moments.first`` and ``moments.second`` in the order of the parameters. ``steps``: 2 tell momentum from sgd,
    3 momentum from a rate that changes. Afterwards the subject is as it was, bit for bit; without ``state`` only
    its parameters are (``left_changed``).

    Raises TypeError for what is no subject, ValueError for ``steps`` below 2; errors of the steps come through.
    """
    require_subject(subject)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 2:
        raise ValueError(f"steps must be a whole number of at least 2; got {steps!r}")
    names = list(subject.params)
    before = _flat(subject.params, names)
    start = _AdamState.of(subject, before.size)
    params, gradients = [before], []
    with restored(subject):
        for _ in range(steps):
            _, grads = require_gradients(subject.params, subject.gradients(inputs, targets))
            gradients.append(_flat(grads, names))
            subject.step(inputs, targets)
            params.append(_flat(subject.params, names))
    dtype = np.result_type(*(subject.params[name].dtype for name in names))
    config = getattr(subject, "config", None)
    trace = _Trace(
        _places(subject.params),
        params,
        gradients,
        str(dtype),
        start,
        getattr(config, "betas", (0.9, 0.999)) if betas is None else betas,
        getattr(config, "epsilon", 1e-8) if epsilon is None else epsilon,
        (getattr(config, "clip_norm", None) or 1.0) if clip_norm is None else clip_norm,
    )
    return _judge(trace, left_changed=not keeps_state(subject))


def _flat(arrays: Mapping[str, Array], names: list[str]) -> Array:
    return np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in names])


def _places(params: Mapping[str, Array]) -> dict[str, slice]:
    ends = np.cumsum([array.size for array in params.values()])
    return {
        name: slice(int(end) - array.size, int(end))
        for (name, array), end in zip(params.items(), ends, strict=True)
    }


@dataclass(frozen=True)
class _AdamState:
    """Adam's moments before the first step, flat, and how many steps they have seen."""

    first: Array | float = 0.0
    second: Array | float = 0.0
    steps_seen: int = 0
    known: bool = False

    @classmethod
    def of(cls, subject: Subject, size: int) -> _AdamState:
        state = subject.state() if keeps_state(subject) else None  # type: ignore[attr-defined]
        arrays, steps_done = getattr(state, "arrays", {}), getattr(state, "steps_done", None)
        found = [arrays.get(f"moments.{name}") for name in ("first", "second")]
        if not isinstance(steps_done, int) or any(array is None or array.size != size for array in found):
            return cls()
        first, second = (np.array(array, np.float64).ravel() for array in found)
        return cls(first, second, steps_done - getattr(state, "moments_since", 0), known=True)


@dataclass(frozen=True)
class _Trace:
    """The steps as flat float64 arrays: len(params) = len(gradients) + 1."""

    places: Mapping[str, slice]
    params: list[Array]
    gradients: list[Array]
    dtype: str
    start: _AdamState
    betas: tuple[float, float]
    epsilon: float
    clip_norm: float

    @property
    def moves(self) -> list[Array]:
        return [after - before for before, after in zip(self.params, self.params[1:], strict=False)]


def _judge(trace: _Trace, left_changed: bool) -> OptimizerReplay:
    steps = len(trace.gradients)
    moved = np.zeros(trace.params[0].size, bool)
    for place in trace.places.values():
        moved[place] = any(np.any(move[place]) for move in trace.moves)
    fits = sorted(_candidates(trace, moved), key=lambda fit: fit.found.residual) if moved.any() else []
    best = _choose(fits, trace.dtype)
    rule = best.found.rule if best else ("none of these" if moved.any() else "nothing")
    equal = [
        fit
        for fit in fits
        if best
        and fit.found.rule != rule
        and fit.found.unknowns == best.found.unknowns
        and fit.found.residual <= _limit(fits, trace.dtype)
    ]
    momentum = best.found.settings.get("momentum", 0.0) if best else 0.0
    return OptimizerReplay(
        rule=rule,
        settings=best.found.settings if best else {},
        residual=best.found.residual if best else (fits[0].found.residual if fits else 0.0),
        summed_gradients=best is not None and (best.summed or abs(momentum - 1.0) < TOLERANCE),
        equally_good=tuple(dict.fromkeys(fit.found.rule for fit in equal)),
        explanations=tuple(fit.found for fit in fits),
        moves=tuple(_row(trace, name, best) for name in trace.places),
        steps=steps,
        from_fresh=not trace.start.known,
        left_changed=left_changed,
    )


def _limit(fits: list[_Fit], dtype: str) -> float:
    """The residual up to which a rule is as good as the best one."""
    return min(TOLERANCE, _AS_GOOD * fits[0].found.residual + _FLOOR.get(dtype, _FLOOR["float32"]))


def _choose(fits: list[_Fit], dtype: str) -> _Fit | None:
    """The rule with the fewest unknowns among those as good as the best, None where none is good enough."""
    if not fits or not fits[0].found.residual <= TOLERANCE:
        return None
    limit = _limit(fits, dtype)
    return min(
        (fit for fit in fits if fit.found.residual <= limit),
        key=lambda fit: (fit.found.unknowns, fit.found.residual),
    )


@dataclass(frozen=True)
class _Fit:
    """An explanation with what it leaves: of what ``moved``, (steps, n), at the entries ``used``."""

    found: Explanation
    summed: bool
    left: Array
    moved: Array
    used: Array

    def residual_in(self, place: slice) -> float:
        """|left| / |moved| in one tensor, NaN where nothing moved."""
        used = self.used[:, place]
        size = np.linalg.norm(self.moved[:, place][used])
        return float(np.linalg.norm(self.left[:, place][used]) / size) if size else math.nan


def _fit(
    rule: str,
    moves: Array,
    bases: list[Array],
    used: Array,
    settings: Callable[[Array], dict[str, float] | None],
    unknowns: int,
    summed: bool = False,
) -> Iterator[_Fit]:
    """Least squares of the moves (steps, n) on the bases at the entries used; nothing where it has no meaning."""
    design = np.stack([basis[used] for basis in bases], axis=1)
    wanted = moves[used]
    size = np.linalg.norm(wanted)
    if not 0.0 < size < math.inf or not np.isfinite(design).all() or not design.any():
        return
    found, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    named = settings(found)
    if named is None:
        return
    left = moves - sum(c * basis for c, basis in zip(found, bases, strict=True))
    residual = float(np.linalg.norm(left[used]) / size)
    yield _Fit(Explanation(rule, named, residual, unknowns), summed, left, moves, used)


def _rate(found: Array) -> dict[str, float]:
    return {f"rate {step}" if step > 1 else "rate": -float(rate) for step, rate in enumerate(found, start=1)}


def _candidates(trace: _Trace, moved: Array) -> Iterator[_Fit]:
    moves, params = np.stack(trace.moves), np.stack(trace.params[:-1])
    plain = np.stack(trace.gradients)
    norms = np.linalg.norm(plain, axis=1, keepdims=True)
    directions = np.divide(plain, norms, out=np.zeros_like(plain), where=norms > 0.0)
    steps = len(moves)
    used = np.broadcast_to(moved, moves.shape)

    yield from _fit("sgd", moves, [plain], used, _rate, 1)
    yield from _with_decay("sgd with decay", moves, plain, params, used)
    yield from _fit(
        "clipped sgd", moves, [directions], used, lambda found: {"threshold": -float(found[0])}, 1
    )
    each = [np.where(np.arange(steps)[:, None] == step, plain, 0.0) for step in range(steps)]
    yield from _fit("sgd, a rate for each step", moves, each, used, _rate, steps)
    repeats = list(_fit("each move as the last", moves[1:], [moves[:-1]], used[1:], _rate, 1))
    for gradient in (plain, directions):
        for fit in _fit("momentum", moves[1:], [gradient[1:], moves[:-1]], used[1:], _momentum, 2):
            # With small steps each move is nearly the last one again, whatever the rule.
            if all(fit.found.residual < _REPEATS * repeat.found.residual for repeat in repeats):
                yield fit

    significant = used & _significant(trace)
    for gradient, summed in ((plain, False), (directions, False), (np.cumsum(plain, axis=0), True)):
        scaled = _as_clipped(trace, gradient) if gradient is directions else gradient
        for rule, inside in (("adam", True), ("adam-epsilon-hat", False)):
            updates = _adam_updates(trace, scaled, inside)
            yield from _fit(rule, moves, [updates], significant, _rate, 1, summed)
            if inside:
                yield from _with_decay("adamw", moves, updates, params, significant, summed)


def _momentum(found: Array) -> dict[str, float] | None:
    if found[1] <= TOLERANCE:
        return None
    return {"rate": -float(found[0]), "momentum": float(found[1])}


def _with_decay(
    rule: str, moves: Array, updates: Array, params: Array, used: Array, summed: bool = False
) -> Iterator[_Fit]:
    """d = -r u - r lambda p, where the part of p stands clear of the residual's own noise."""
    a, b, wanted = updates[used], params[used], moves[used]
    design = np.stack([a, b], axis=1)
    if not np.isfinite(wanted).all() or not np.isfinite(design).all() or np.linalg.matrix_rank(design) < 2:
        return
    found, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    left = wanted - design @ found
    variance = float(left @ left) / max(1, len(left) - 2) * np.linalg.inv(design.T @ design)[1, 1]
    decay = float(found[1] / found[0]) if found[0] else -1.0
    if decay <= 0.0 or abs(found[1]) <= _DECAY_STANDARD_ERRORS * math.sqrt(variance):
        return
    yield from _fit(
        rule,
        moves,
        [updates, params],
        used,
        lambda found: {"rate": -float(found[0]), "decay": float(found[1] / found[0])},
        2,
        summed,
    )


def _significant(trace: _Trace) -> Array:
    """(steps, n): where the gradient stands above the rounding of its tensor, in this and in all earlier steps."""
    kept = np.zeros((len(trace.gradients), trace.params[0].size), bool)
    for step, gradient in enumerate(trace.gradients):
        floor = _SIGNIFICANT * np.abs(gradient).max()
        for place in trace.places.values():
            size = np.abs(gradient[place])
            kept[step, place] = size > max(_SIGNIFICANT * size.max(initial=0.0), _SIGNIFICANT * floor)
    return np.logical_and.accumulate(kept)


def _as_clipped(trace: _Trace, directions: Array) -> Array:
    """Gradients as clipping leaves them."""
    norms = np.array([np.linalg.norm(gradient) for gradient in trace.gradients])[:, None]
    return directions * np.minimum(norms, trace.clip_norm)


def _adam_updates(trace: _Trace, gradients: Array, epsilon_inside: bool) -> Array:
    """(steps, n): Adam's direction for rate 1, the epsilon inside the bias correction or outside."""
    beta1, beta2 = trace.betas
    first, second = trace.start.first, trace.start.second
    updates = np.zeros_like(gradients)
    for index, gradient in enumerate(gradients):
        step = trace.start.steps_seen + index + 1
        first = beta1 * first + (1.0 - beta1) * gradient
        second = beta2 * second + (1.0 - beta2) * gradient**2
        correction1, correction2 = 1.0 - beta1**step, 1.0 - beta2**step
        root = np.sqrt(second)
        epsilon = trace.epsilon * (math.sqrt(correction2) if epsilon_inside else 1.0)
        updates[index] = math.sqrt(correction2) / correction1 * first / (root + epsilon)
    return updates


def _row(trace: _Trace, name: str, best: _Fit | None) -> TensorMove:
    place = trace.places[name]
    gradient, move = trace.gradients[0][place], trace.moves[0][place]
    g, d = float(np.linalg.norm(gradient)), float(np.linalg.norm(move))
    product = -float(move @ gradient)
    cosine = product / (g * d) if g and d else math.nan
    return TensorMove(
        name,
        g,
        d,
        _direction(trace, name, cosine, best),
        cosine,
        product / g**2 if g else math.nan,
        best.residual_in(place) if best else math.nan,
    )


def _direction(trace: _Trace, name: str, cosine: float, best: _Fit | None) -> str:
    place = trace.places[name]
    moved = any(np.any(move[place]) for move in trace.moves)
    pulled = any(np.any(gradient[place]) for gradient in trace.gradients)
    if not moved:
        if not pulled:
            return "no gradient"
        return "rounded away" if _rounded_away(trace, place, best) else "still"
    if not pulled:
        return "without gradient"
    if math.isnan(cosine) or abs(cosine) < _NO_DIRECTION:
        return "across"
    return "along" if cosine > 0.0 else "against"


def _rounded_away(trace: _Trace, place: slice, best: _Fit | None) -> bool:
    """Whether the rule's update of every entry is below half a unit in the last place of its weight."""
    if best is None:
        return False
    expected = np.abs(best.left[0, place])  # nothing moved, so all that the rule expects is left
    half_unit = 0.5 * np.spacing(np.abs(trace.params[0][place]).astype(trace.dtype)).astype(np.float64)
    return bool(np.all(expected <= half_unit))
