"""How far a step moves each tensor, beside what healthy runs of this library do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.clinic.subject import Subject, keeps_state, require_subject, restored
from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts import reference
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer

FAMILIES = {
    "sgd": "sgd",
    "momentum": "sgd",
    "adam": "adam",
    "adam-epsilon-hat": "adam",
    "adamw": "adam",
}

# What `healthy_band` measures with its defaults. SGD moves its weights by so little at 1e-4 to 3e-3 that it learns
# nothing to speak of in the same time; such runs are no model of health, so its rates go on to 0.1.
MEASURED_SIZES = ((32, 1), (32, 2), (64, 2), (64, 4))
MEASURED_RATES = {"sgd": (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "adam": (1e-4, 3e-4, 1e-3, 3e-3)}
LEAST_FALL = 0.05
HEALTHY_BANDS = {"sgd": (5.9e-5, 1.9e-3), "adam": (3.1e-4, 1.1e-2)}


@dataclass(frozen=True)
class UpdateRatio:
    """|update| / |weights| of one tensor or group, Euclidean; inf where the weights were 0 and moved."""

    name: str
    ratio: float


@dataclass(frozen=True, repr=False)
class UpdateStatistics:
    """Sizes of the updates of a few steps, each the median over the steps.

    ``tensors``: a row per tensor; ``groups``: embedding, attention, ff and ln where ``params`` has ``specs`` as this
    library's has, else the last part of the tensors' names; ``median``: over the matrices (tensors of two or more
    dimensions, NaN where there are none); ``band``: what it was in healthy runs after their warm-up;
    ``family``: the kind of optimizer that the band belongs to, "any" where it is not known; ``verdict``: "below",
    "within", "above", "not measured". ``left_changed``: as of `OptimizerReplay`.
    """

    tensors: tuple[UpdateRatio, ...]
    groups: tuple[UpdateRatio, ...]
    median: float
    band: tuple[float, float]
    family: str
    verdict: str
    steps: int
    left_changed: bool

    def __repr__(self) -> str:
        low, high = self.band
        words = {
            "below": "below the band: the steps are very small",
            "within": "within the band",
            "above": "above the band: the steps are very large",
            "not measured": "nothing to compare: no matrix, or values that are not finite",
        }[self.verdict]
        kind = "either kind of optimizer" if self.family == "any" else f"the {self.family} kind"
        lines = [
            f"|update| / |weights|, median over matrices: {self.median:.1e}, {words}.",
            f"  Healthy runs ({kind}, after warm-up): {low:.1e} to {high:.1e}.",
            "  " + ", ".join(f"{row.name} {row.ratio:.1e}" for row in self.groups),
        ]
        if self.left_changed:
            lines.append(
                "  The subject has no state: what its steps changed besides the parameters stays changed."
            )
        return "\n".join(lines)


def update_statistics(
    subject: Subject, inputs: ArrayLike, targets: ArrayLike, steps: int = 1, optimizer: str | None = None
) -> UpdateStatistics:
    """|p_after - p_before| / |p_before| of every tensor over a few steps on one batch, inputs and targets (B, T).

    ``optimizer``: whose band to hold it against, one of this library's optimizers; where it is None that of
    ``subject.config``, as a trainer has, and else the span of both kinds. The band holds for machines past their
    warm-up; a step of warm-up lies below it. Afterwards the subject is as it was, bit for bit; without
    ``state`` only its parameters are.

    Raises TypeError for what is no subject, ValueError for ``steps`` below 1 or an optimizer that does not exist;
    errors of the steps come through.
    """
    require_subject(subject)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be a whole number of at least 1; got {steps!r}")
    if optimizer is not None and optimizer not in FAMILIES:
        raise ValueError(f"optimizer must be one of {', '.join(FAMILIES)}, or None; got {optimizer!r}")
    named = getattr(getattr(subject, "config", None), "optimizer", "") if optimizer is None else optimizer
    family = FAMILIES.get(named, "any")
    groups = _groups(subject.params)
    rows: dict[str, list[float]] = {name: [] for name in subject.params}
    group_rows: dict[str, list[float]] = {group: [] for group in dict.fromkeys(groups.values())}
    with restored(subject):
        for _ in range(steps):
            moved, size = _one_step(subject, inputs, targets)
            for name in rows:
                rows[name].append(_ratio(moved[name], size[name]))
            for group in group_rows:
                names = [name for name in groups if groups[name] == group]
                group_rows[group].append(
                    _ratio(math.hypot(*(moved[n] for n in names)), math.hypot(*(size[n] for n in names)))
                )
        matrices = [name for name, array in subject.params.items() if array.ndim >= 2]
    tensors = tuple(UpdateRatio(name, median(ratios)) for name, ratios in rows.items())
    middle = median(row.ratio for row in tensors if row.name in matrices) if matrices else math.nan
    band = healthy_range(family)
    return UpdateStatistics(
        tensors=tensors,
        groups=tuple(UpdateRatio(name, median(ratios)) for name, ratios in group_rows.items()),
        median=middle,
        band=band,
        family=family,
        verdict=_verdict(middle, band),
        steps=steps,
        left_changed=not keeps_state(subject),
    )


def healthy_range(family: str = "any") -> tuple[float, float]:
    """The stored band of a kind of optimizer, "sgd" or "adam"; the span of both for "any".

    Raises ValueError for another name.
    """
    if family == "any":
        lows, highs = zip(*HEALTHY_BANDS.values(), strict=True)
        return min(lows), max(highs)
    if family not in HEALTHY_BANDS:
        raise ValueError(f"family must be any, {' or '.join(HEALTHY_BANDS)}; got {family!r}")
    return HEALTHY_BANDS[family]


def healthy_band(
    family: str,
    sizes: tuple[tuple[int, int], ...] = MEASURED_SIZES,
    rates: tuple[float, ...] | None = None,
    warmup: int = 10,
    steps: int = 40,
    seed: int = 0,
) -> tuple[float, float]:
    """Measures the band of a kind of optimizer, "sgd" or "adam": (lowest, highest) median over matrices.

    Sound machines of several ``sizes`` (d_model, n_layers) and ``rates`` train on the shipped text, ``steps`` in
    all, the first ``warmup`` of them warming up. A run counts as healthy where the mean loss of its last ten steps
    is below that of its first ten by `LEAST_FALL` nats; of these the median over matrices of |update| / |weights|
    is taken at each step after the warm-up. `HEALTHY_BANDS` holds the results, some seconds' work each.

    Raises ValueError for another kind, or where no run is healthy.
    """
    if family not in MEASURED_RATES:
        raise ValueError(f"family must be {' or '.join(MEASURED_RATES)}; got {family!r}")
    corpus = load_corpus("large")
    found: list[float] = []
    for d_model, n_layers in sizes:
        for rate in MEASURED_RATES[family] if rates is None else rates:
            config = ModelConfig(vocab_size=corpus.vocab_size, d_model=d_model, n_layers=n_layers)
            train = TrainConfig(optimizer=family, learning_rate=rate, warmup_steps=warmup, seed=seed)
            trainer = Trainer(Transformer(config, seed, parts=reference), corpus, train)
            found += _run(trainer, warmup, steps)
    if not found:
        raise ValueError(
            f"none of these runs of {family!r} lowers its loss by {LEAST_FALL} nats; run more steps"
        )
    return min(found), max(found)


def _run(trainer: Trainer, warmup: int, steps: int) -> list[float]:
    """The median over matrices at each step after the warm-up; none where the loss does not fall."""
    medians = []
    before = {name: array.copy() for name, array in trainer.params.items()}
    for record in trainer.steps():
        if record.step > warmup:
            ratios = [
                _ratio(_norm(array - before[name]), _norm(before[name]))
                for name, array in trainer.params.items()
                if array.ndim >= 2
            ]
            medians.append(median(ratios))
        if record.step == steps:
            break
        before = {name: array.copy() for name, array in trainer.params.items()}
    losses = trainer.history.losses
    fall = math.fsum(losses[:10]) / 10 - math.fsum(losses[-10:]) / 10
    return medians if fall >= LEAST_FALL else []


def _one_step(
    subject: Subject, inputs: ArrayLike, targets: ArrayLike
) -> tuple[dict[str, float], dict[str, float]]:
    before = {name: array.copy() for name, array in subject.params.items()}
    subject.step(inputs, targets)
    moved = {name: _norm(subject.params[name].astype(np.float64) - array) for name, array in before.items()}
    return moved, {name: _norm(array) for name, array in before.items()}


def _groups(params: Mapping[str, Array]) -> dict[str, str]:
    """Tensor name -> group, in the order of the parameters."""
    specs = getattr(params, "specs", None)
    if specs is not None:
        return {spec.name: spec.group for spec in specs}
    return {name: name.rpartition(".")[2] for name in params}


def _norm(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def _ratio(update: float, weights: float) -> float:
    if weights == 0.0:
        return 0.0 if update == 0.0 else math.inf
    return update / weights


def _verdict(value: float, band: tuple[float, float]) -> str:
    if math.isnan(value):
        return "not measured"
    return "below" if value < band[0] else "above" if value > band[1] else "within"
