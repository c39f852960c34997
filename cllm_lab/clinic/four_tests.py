"""The testing plan of document 000: gradient magnitude, weight updates, loss sensitivity, proper attention."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from cllm_lab.clinic.dependency import (
    dependency_matrix,
    largest_moves,
    logits_of,
    require_windows,
    rounding_floor,
)
from cllm_lab.clinic.subject import (
    keeps_state,
    listed,
    require_gradients,
    require_loss,
    require_subject,
    restored,
    rounding_unit,
)
from cllm_lab.model.parameters import Array
from cllm_lab.streams import check_seed, stream

# Of the largest magnitude: "reasonable" in document 000's test 1, the ends of document 001's scale beside it.
REASONABLE = (1e-4, 1e-1)
PROPER = (1e-4, 1e-2)
VANISHING = 1e-6
EXPLODING = 1.0

# A tensor of zeros has no size of its own to perturb it by.
SMALLEST_SCALE = 0.1
LOSS_UNITS = 4
# One random direction can happen to lie along a contour of the loss.
MOST_DRAWS = 4


@dataclass(frozen=True)
class GradientMagnitude:
    """One tensor's gradient: magnitudes over the entries that are finite, and how many are not.

    ``largest`` and ``mean``: of |g| (NaN where no entry is finite); ``zeros``: share of entries exactly 0;
    ``zero_rows`` of ``rows``: those along the first axis whose every entry is exactly 0.
    """

    name: str
    largest: float
    mean: float
    zeros: float
    zero_rows: int
    rows: int
    not_finite: int
    size: int

    @property
    def exactly_zero(self) -> bool:
        """Whether every entry is exactly 0; a magnitude that prints as 0.000000 is not."""
        return self.zeros == 1.0

    @property
    def reasonable(self) -> bool:
        """Whether all is finite and the largest lies within document 000's 1e-4 to 1e-1."""
        return self.not_finite == 0 and REASONABLE[0] <= self.largest <= REASONABLE[1]

    @property
    def band(self) -> str:
        """Document 001's word for the largest magnitude, "between" where it has none."""
        if self.not_finite:
            return "not finite"
        if self.exactly_zero:
            return "exactly 0"
        if self.largest < VANISHING:
            return "vanishing"
        if self.largest > EXPLODING:
            return "exploding"
        return "proper" if PROPER[0] <= self.largest <= PROPER[1] else "between"


@dataclass(frozen=True, repr=False)
class GradientMagnitudes:
    """Test 1: the gradient of every tensor, in the order of params."""

    tensors: tuple[GradientMagnitude, ...]

    @property
    def exactly_zero(self) -> tuple[str, ...]:
        """Tensors that receive no gradient at all."""
        return tuple(tensor.name for tensor in self.tensors if tensor.exactly_zero)

    @property
    def not_finite(self) -> tuple[str, ...]:
        """Tensors with an entry that is NaN or infinite."""
        return tuple(tensor.name for tensor in self.tensors if tensor.not_finite)

    @property
    def outside_band(self) -> tuple[str, ...]:
        """Tensors that document 000 would not call reasonable; sound machines have some."""
        return tuple(tensor.name for tensor in self.tensors if not tensor.reasonable)

    @property
    def passed(self) -> bool:
        """Whether every gradient is finite and none is exactly 0 throughout.

        The bands do not count. A gradient can be 0 by right: `gradient_fingerprint` tells.
        """
        return not self.exactly_zero and not self.not_finite

    def __repr__(self) -> str:
        finite = [tensor.largest for tensor in self.tensors if not math.isnan(tensor.largest)]
        extremes = f"{min(finite):.0e} to {max(finite):.0e}" if finite else "none finite"
        n = len(self.tensors)
        lines = [f"gradients of {n} tensors: largest |g| of a tensor {extremes}"]
        if self.not_finite:
            count = sum(tensor.not_finite for tensor in self.tensors)
            lines.append(f"not finite: {count} entries, in {listed(self.not_finite)}")
        if self.exactly_zero:
            lines.append(f"exactly 0: {len(self.exactly_zero)} of {n}: {listed(self.exactly_zero)}")
        if self.passed:
            lines.append("every tensor receives a gradient, and every entry is finite")
        within = n - len(self.outside_band)
        lines.append(f"within document 000's 1e-4 to 1e-1: {within} of {n}")
        words = [tensor.band for tensor in self.tensors]
        counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
        lines.append(f"by document 001's scale: {counts}")
        return "\n".join(lines)


def gradient_magnitude(subject: Any, inputs: Any, targets: Any) -> GradientMagnitudes:
    """Document 000's test 1: are the gradients non-zero and reasonable? Every row of every tensor is read.

    Per tensor the largest and mean |g|, the share that is exactly 0, the number of entries not finite; with the
    band that document 000 calls reasonable (1e-4 to 1e-1) and document 001's words (proper 1e-4 to 1e-2,
    vanishing below 1e-6, exploding above 1), which do not decide. inputs, targets: token ids (B, T).

    Raises TypeError or ValueError for what is no subject, and for gradients whose names or shapes are not those
    of params.
    """
    require_subject(subject)
    with restored(subject):
        _, grads = require_gradients(subject.params, subject.gradients(inputs, targets))
        return GradientMagnitudes(tuple(_magnitude(name, grads[name]) for name in subject.params))


def _magnitude(name: str, gradient: Array) -> GradientMagnitude:
    finite = np.isfinite(gradient)
    magnitudes = np.abs(gradient[finite]).astype(np.float64)
    zero = gradient == 0.0
    by_row = zero.reshape(len(gradient), -1) if gradient.ndim else zero.reshape(1, 1)
    return GradientMagnitude(
        name,
        largest=float(magnitudes.max()) if magnitudes.size else math.nan,
        mean=float(magnitudes.mean()) if magnitudes.size else math.nan,
        zeros=float(np.count_nonzero(zero)) / gradient.size,
        zero_rows=int(by_row.all(axis=1).sum()),
        rows=len(by_row),
        not_finite=gradient.size - int(finite.sum()),
        size=gradient.size,
    )


@dataclass(frozen=True)
class WeightUpdate:
    """What one optimizer step did to one tensor.

    ``changed`` of ``size`` entries have other bits; ``relative`` = |update| / |weight|, Euclidean, infinite for
    an update of zeros. ``place``: the entry that moved furthest, ``before`` and ``after`` its values.
    ``has_gradient``: whether the gradient had an entry other than 0.
    """

    name: str
    changed: int
    size: int
    relative: float
    place: tuple[int, ...]
    before: float
    after: float
    has_gradient: bool


@dataclass(frozen=True, repr=False)
class WeightUpdates:
    """Test 2: what one step did to every tensor, and to the loss of the same batch.

    ``left_changed``: what could not be put back, "" where the subject keeps its state.
    """

    tensors: tuple[WeightUpdate, ...]
    loss_before: float
    loss_after: float
    left_changed: str

    @property
    def unchanged(self) -> tuple[str, ...]:
        """Tensors of which no bit changed."""
        return tuple(tensor.name for tensor in self.tensors if not tensor.changed)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Those of them that had a gradient."""
        return tuple(tensor.name for tensor in self.tensors if not tensor.changed and tensor.has_gradient)

    @property
    def passed(self) -> bool:
        """Whether every tensor changed."""
        return not self.unchanged

    def __repr__(self) -> str:
        n = len(self.tensors)
        lines = [f"one step changed {n - len(self.unchanged)} of {n} tensors"]
        moved = [tensor for tensor in self.tensors if tensor.changed]
        if moved:
            shown = max(moved, key=lambda tensor: tensor.size)
            at = ", ".join(map(str, shown.place))
            lines.append(
                f"{shown.name}[{at}]: {shown.before:.4g} before, {shown.after:.4g} after; "
                f"|update| / |weight| of the tensor {shown.relative:.1e}"
            )
        if self.frozen:
            lines.append(f"unchanged although the gradient is not 0: {listed(self.frozen)}")
        still = [name for name in self.unchanged if name not in self.frozen]
        if still:
            lines.append(f"unchanged, with a gradient of exactly 0: {listed(still)}")
        lines.append(f"loss of this batch: {self.loss_before:.4f} before, {self.loss_after:.4f} after")
        if self.left_changed:
            lines.append(self.left_changed)
        return "\n".join(lines)


def weight_updates(subject: Any, inputs: Any, targets: Any) -> WeightUpdates:
    """Document 000's test 2: do the weights change in an optimizer step? Bit by bit, tensor by tensor.

    inputs, targets: token ids (B, T), of the step and of the loss before and after it. The subject is put back
    bit for bit; without ``state`` and ``load_state`` only its parameters are, and ``left_changed`` says so.

    Raises as `gradient_magnitude`, and whatever the step raises.
    """
    require_subject(subject)
    with restored(subject):
        loss_before = require_loss(subject.loss(inputs, targets))
        _, grads = require_gradients(subject.params, subject.gradients(inputs, targets))
        has_gradient = {name: bool(np.any(grads[name] != 0.0)) for name in subject.params}
        before = {name: array.copy() for name, array in subject.params.items()}
        subject.step(inputs, targets)
        after = {name: array.copy() for name, array in subject.params.items()}
        loss_after = require_loss(subject.loss(inputs, targets))
    tensors = tuple(_update(name, before[name], after[name], has_gradient[name]) for name in before)
    left = (
        ""
        if keeps_state(subject)
        else "put back: the parameters. The subject has no state and load_state, so whatever else a step changes "
        "(moments, a counter) has changed by one step"
    )
    return WeightUpdates(tensors, loss_before, loss_after, left)


def _update(name: str, before: Array, after: Array, has_gradient: bool) -> WeightUpdate:
    changed = (_bits(before) != _bits(after)).any(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        update = after.astype(np.float64) - before
        norm = float(np.linalg.norm(before.astype(np.float64)))
        moved = float(np.linalg.norm(update))
    furthest = np.where(np.isnan(update), np.inf, np.abs(update)).argmax()
    place = tuple(int(index) for index in np.unravel_index(furthest, before.shape))
    return WeightUpdate(
        name,
        changed=int(changed.sum()),
        size=before.size,
        relative=moved / norm if norm else (math.inf if moved else 0.0),
        place=place,
        before=float(before[place]),
        after=float(after[place]),
        has_gradient=has_gradient,
    )


def _bits(array: Array) -> Array:
    """The bytes of every entry, (n, itemsize)."""
    return np.frombuffer(array.tobytes(), np.uint8).reshape(array.size, -1)


@dataclass(frozen=True)
class Sensitivity:
    """The change of the loss, in nats, under a perturbation of one tensor; ``moved``: more than rounding does."""

    name: str
    change: float
    moved: bool


@dataclass(frozen=True, repr=False)
class LossSensitivity:
    """Test 3: which tensors the loss depends on.

    ``floor``: changes up to this are rounding; ``size`` of the perturbation relative to each tensor. ``together``:
    whether perturbing all tensors at once changes the loss, tried where no single one does; else None.
    """

    tensors: tuple[Sensitivity, ...]
    loss: float
    size: float
    floor: float
    together: bool | None = None

    @property
    def unmoved(self) -> tuple[str, ...]:
        """Tensors whose perturbation does not change the loss."""
        return tuple(tensor.name for tensor in self.tensors if not tensor.moved)

    @property
    def passed(self) -> bool:
        """Whether the loss depends on every tensor."""
        return not self.unmoved

    def __repr__(self) -> str:
        n, still = len(self.tensors), self.unmoved
        lines = [f"loss {self.loss:.4f} nats; each tensor perturbed by {self.size:g} of its size"]
        if not still:
            lines.append(f"every one of the {n} tensors changes the loss")
        elif len(still) == n and self.together:
            lines.append(
                "no tensor alone changes the loss; all together do: at these weights each is multiplied by 0"
            )
        elif len(still) == n:
            lines.append("no tensor changes the loss: it does not depend on the model")
        else:
            lines.append(f"{n - len(still)} of {n} tensors change the loss; these do not: {listed(still)}")
        exact = sum(tensor.change == 0.0 for tensor in self.tensors)
        if exact:
            lines.append(f"not by a bit: {exact} of {n}")
        return "\n".join(lines)


def loss_sensitivity(
    subject: Any, inputs: Any, targets: Any, seed: int = 0, size: float = 0.5
) -> LossSensitivity:
    """Document 000's test 3: does the loss change when the weights are perturbed? One tensor at a time.

        w' = w + size max(rms(w), 0.1) u,   u ~ N(0, 1) from ``seed`` and the tensor's name

    A change counts where it is above 4 rounding units of the loss, and above 4 times what the loss differs by
    when it is taken twice. A tensor that does not move the loss is perturbed in three further directions before
    that is believed; where none does, all are perturbed at once, since a product of two zeros hides both.
    inputs, targets: token ids (B, T). The subject is put back bit for bit.

    Raises as `gradient_magnitude`; ValueError for a size that is not finite and above 0.
    """
    require_subject(subject)
    check_seed(seed)
    if not (size > 0.0 and math.isfinite(size)):
        raise ValueError(f"size must be finite and above 0; got {size!r}")
    with restored(subject):
        loss = require_loss(subject.loss(inputs, targets))
        again = require_loss(subject.loss(inputs, targets))
        floor = LOSS_UNITS * max(rounding_unit(subject.params) * abs(loss), abs(again - loss))
        changes = {
            name: _change(subject, name, inputs, targets, loss, seed, size, floor) for name in subject.params
        }
        # A change that is no number is not rounding.
        tensors = tuple(
            Sensitivity(name, change, moved=not abs(change) <= floor) for name, change in changes.items()
        )
        together = None
        if not any(tensor.moved for tensor in tensors):
            for name, view in subject.params.items():
                view[...] = _perturbed(view, _draws(name, seed), size)
            together = not abs(require_loss(subject.loss(inputs, targets)) - loss) <= floor
    return LossSensitivity(tensors, loss, size, floor, together)


def _draws(name: str, seed: int) -> np.random.Generator:
    return stream(seed, "check", 2, zlib.crc32(name.encode()))


def _perturbed(array: Array, rng: np.random.Generator, size: float) -> Array:
    scale = max(float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))), SMALLEST_SCALE)
    return array + size * scale * rng.standard_normal(array.shape)


def _change(
    subject: Any, name: str, inputs: Any, targets: Any, loss: float, seed: int, size: float, floor: float
) -> float:
    """The first change above the floor, the last where there is none."""
    view = subject.params[name]
    home = view.copy()
    rng = _draws(name, seed)
    change = 0.0
    for _ in range(MOST_DRAWS):
        view[...] = _perturbed(home, rng, size)
        change = require_loss(subject.loss(inputs, targets)) - loss
        view[...] = home
        if not abs(change) <= floor:
            break
    return change


@dataclass(frozen=True, repr=False)
class ProperAttention:
    """Test 4: what the logits depend on.

    ``matrix``: see `dependency_matrix`. ``order_matters``: whether the logits move when two earlier neighbours
    change places; None for windows of fewer than three tokens.
    """

    matrix: Array
    order_matters: bool | None

    @property
    def positions(self) -> int:
        """T."""
        return len(self.matrix)

    @property
    def own(self) -> int:
        """Positions whose logits depend on their own token."""
        return int(np.count_nonzero(np.diag(self.matrix)))

    @property
    def earlier(self) -> int:
        """Pairs of a position and an earlier token that it depends on, of T (T - 1) / 2."""
        return int(np.count_nonzero(np.tril(self.matrix, -1)))

    @property
    def later(self) -> int:
        """Pairs of a position and a later token that it depends on; 0 in a causal machine."""
        return int(np.count_nonzero(np.triu(self.matrix, 1)))

    @property
    def passed(self) -> bool:
        """Whether every position but the first depends on an earlier token, and none on a later one."""
        looks_back = all(np.any(row[:i] > 0.0) for i, row in enumerate(self.matrix) if i)
        return self.positions > 1 and looks_back and self.later == 0

    def __repr__(self) -> str:
        T = self.positions
        pairs = T * (T - 1) // 2
        lines = [
            f"the logits depend on their own token at {self.own} of {T} positions, on an earlier token in "
            f"{self.earlier} of {pairs} pairs, on a later one in {self.later} of {pairs}"
        ]
        if not pairs:
            lines.append("one position tells nothing about attention; give longer windows")
        elif not self.earlier:
            lines.append("no logit depends on an earlier token: nothing attends")
        if self.later:
            lines.append("logits depend on later tokens: the machine sees what it is to predict")
        if self.order_matters is not None:
            lines.append(
                f"the order of earlier tokens {'matters' if self.order_matters else 'does not matter'}"
            )
        return "\n".join(lines)


def proper_attention(subject: Any, inputs: Any) -> ProperAttention:
    """Document 000's test 4, answered without training.

    The document would implement full attention and see whether the loss decreases. A loss that decreases does
    not tell it: a machine without attention goes down to what each token tells about the next. What attention
    alone can do is carry one token to the logits of another position, so this measures whether the logits at i
    depend on earlier tokens and on no later one (`dependency_matrix`), and whether they change when two earlier
    neighbours change places. Order need not matter to a machine without positions.

    inputs: token ids (B, T), or one window (T,). The subject is put back bit for bit.
    Raises TypeError or ValueError as `dependency_matrix`, and for what is no subject.
    """
    require_subject(subject)
    windows = require_windows(inputs)
    with restored(subject):
        return ProperAttention(dependency_matrix(subject, windows), _order_matters(subject, windows))


def _order_matters(subject: Any, windows: Array) -> bool | None:
    """Whether any later logits move when two neighbours change places."""
    T = windows.shape[1]
    if T < 3:
        return None
    V = logits_of(subject, windows).shape[-1]
    for j in range(T - 2):
        one = windows.copy()
        # Equal neighbours would change places without a trace.
        alike = one[:, j] == one[:, j + 1]
        one[alike, j + 1] = (one[alike, j] + 1) % V
        other = one.copy()
        other[:, [j, j + 1]] = one[:, [j + 1, j]]
        before = logits_of(subject, one)
        moved = largest_moves(before, logits_of(subject, other))[j + 2 :]
        if np.any(moved > rounding_floor(before)):
            return True
    return False
