"""The replay names the optimizer that made the steps, and owns up when none fits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cllm_lab.clinic.optimizer_replay import optimizer_replay
from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parts import reference
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import OPTIMIZERS, TrainConfig
from cllm_lab.training.trainer import Trainer

CORPUS = load_corpus("large")
RATES = {"sgd": 1e-2, "momentum": 1e-2}


def a_trainer(optimizer="sgd", dtype="float32", steps=0, **settings):
    config = ModelConfig(vocab_size=CORPUS.vocab_size, d_model=8, n_heads=2, n_layers=1, context_length=8)
    train = {"learning_rate": RATES.get(optimizer, 1e-3), "sequence_length": 8, **settings}
    trainer = Trainer(
        Transformer(config, 0, dtype, reference), CORPUS, TrainConfig(optimizer=optimizer, **train)
    )
    if steps:
        trainer.run(steps=steps, progress=False)
    return trainer


def a_batch():
    ids = np.random.default_rng(5).integers(5, CORPUS.vocab_size, (4, 9))
    return ids[:, :-1], ids[:, 1:]


class Quadratic:
    """Loss sum(c p^2) / 2 per tensor, gradient c p, and a step of the test's choosing; no state."""

    def __init__(self, update, dtype="float64"):
        rng = np.random.default_rng(1)
        self.params = {name: rng.normal(size=(6, 5)).astype(dtype) for name in ("a", "b", "c")}
        self._curvature = {name: rng.uniform(0.5, 2.0, (6, 5)) for name in self.params}
        self._update = update
        self.memory = {}

    def loss(self, inputs, targets):
        return float(sum((self._curvature[n] * p**2).sum() for n, p in self.params.items()) / 2)

    def gradients(self, inputs, targets):
        grads = {n: (self._curvature[n] * p).astype(p.dtype) for n, p in self.params.items()}
        return self.loss(inputs, targets), grads

    def forward(self, inputs):
        return SimpleNamespace(logits=np.zeros((1, 1, 2)))

    def step(self, inputs, targets):
        self._update(self.params, self.gradients(inputs, targets)[1], self.memory)


@pytest.mark.parametrize("steps", [0, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_is_named(optimizer, dtype, steps):
    trainer = a_trainer(optimizer, dtype, steps, epsilon=1e-7)
    found = optimizer_replay(trainer, *a_batch())
    assert found.rule == optimizer
    assert not found.equally_good
    assert found.settings["rate"] == pytest.approx(trainer.config.learning_rate, rel=1e-3)
    if optimizer == "momentum":
        assert found.settings["momentum"] == pytest.approx(0.9, rel=1e-2)
    if optimizer == "adamw":
        assert found.settings["decay"] == pytest.approx(0.01, rel=1e-2)
    assert found.residual < 1e-3
    assert not found.wrong_sign and not found.summed_gradients
    assert not found.names("still") and not found.names("no gradient")
    if steps == 0:
        assert set(found.names("along")) == set(trainer.params)
    assert optimizer in repr(found)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_clipping_that_bites_is_seen(optimizer):
    trainer = a_trainer(optimizer, "float64", 3, clip_norm=0.05)
    found = optimizer_replay(trainer, *a_batch())
    assert found.rule == {"sgd": "clipped sgd"}.get(optimizer, optimizer)
    if optimizer == "sgd":
        assert found.settings["threshold"] == pytest.approx(0.05 * 1e-2, rel=1e-4)


def test_the_trainer_is_left_bit_for_bit():
    trainer = a_trainer("adam", steps=3)
    before = trainer.state()
    optimizer_replay(trainer, *a_batch())
    after = trainer.state()
    assert all(np.array_equal(before.arrays[name], after.arrays[name]) for name in before.arrays)
    assert (before.steps_done, before.records) == (after.steps_done, after.records)


def sgd(params, grads, memory):
    for name in params:
        params[name] -= 0.01 * grads[name]


def ascent(params, grads, memory):
    for name in params:
        params[name] += 0.01 * grads[name]


def nothing(params, grads, memory):
    pass


def frozen(params, grads, memory):
    params["a"] -= 0.01 * grads["a"]


def one_against(params, grads, memory):
    sgd({"a": params["a"], "b": params["b"]}, grads, memory)
    params["c"] += 0.01 * grads["c"]


def summed(params, grads, memory):
    for name in params:
        memory[name] = memory.get(name, 0.0) + grads[name]
        params[name] -= 0.01 * memory[name]


def summed_adam(params, grads, memory):
    t = memory["t"] = memory.get("t", 0) + 1
    for name in params:
        g = memory[name] = memory.get(name, 0.0) + grads[name]
        m = memory[name, "m"] = 0.9 * memory.get((name, "m"), 0.0) + 0.1 * g
        v = memory[name, "v"] = 0.999 * memory.get((name, "v"), 0.0) + 0.001 * g * g
        params[name] -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def adam_ascent(params, grads, memory):
    for name in params:
        grads[name] = -grads[name]
        memory.pop(name, None)
    summed_adam(params, grads, memory)


def decayed(params, grads, memory):
    for name in params:
        params[name] -= 0.01 * (grads[name] + 0.1 * params[name] ** 1)


def scheduled(params, grads, memory):
    t = memory["t"] = memory.get("t", 0) + 1
    for name in params:
        params[name] -= (0.01, 0.05, 0.003)[t - 1] * grads[name]


def random_walk(params, grads, memory):
    rng = memory.setdefault("rng", np.random.default_rng(3))
    for name in params:
        params[name] += 0.01 * rng.normal(size=params[name].shape)


def test_sgd_of_a_stranger():
    subject = Quadratic(sgd)
    before = {name: array.copy() for name, array in subject.params.items()}
    found = optimizer_replay(subject, [[0]], [[0]])
    assert (found.rule, found.left_changed, found.from_fresh) == ("sgd", True, True)
    assert found.settings == {"rate": pytest.approx(0.01)}
    assert all(np.array_equal(before[name], subject.params[name]) for name in before)
    assert all(move.direction == "along" and move.rate == pytest.approx(0.01) for move in found.moves)
    assert "no state" in repr(found)


@pytest.mark.parametrize(("update", "rule"), [(ascent, "sgd"), (adam_ascent, "adam")])
def test_a_wrong_sign(update, rule):
    found = optimizer_replay(Quadratic(update), [[0]], [[0]])
    assert (found.rule, found.wrong_sign) == (rule, True)
    assert found.settings["rate"] == pytest.approx(-0.01, rel=1e-3)
    assert found.names("against") == ("a", "b", "c")
    assert "Wrong sign" in repr(found)


def test_nothing_moves():
    found = optimizer_replay(Quadratic(nothing), [[0]], [[0]])
    assert (found.rule, found.names("still"), found.explanations) == ("nothing", ("a", "b", "c"), ())
    assert "no parameter moved" in repr(found)


def test_tensors_that_are_not_updated():
    found = optimizer_replay(Quadratic(frozen), [[0]], [[0]])
    assert (found.rule, found.names("along"), found.names("still")) == ("sgd", ("a",), ("b", "c"))


def test_a_tensor_against_the_others():
    found = optimizer_replay(Quadratic(one_against), [[0]], [[0]])
    assert (found.rule, found.names("along"), found.names("against")) == ("none of these", ("a", "b"), ("c",))


@pytest.mark.parametrize(("update", "rule"), [(summed, "momentum"), (summed_adam, "adam")])
def test_gradients_that_are_not_set_back(update, rule):
    found = optimizer_replay(Quadratic(update), [[0]], [[0]])
    assert (found.rule, found.summed_gradients) == (rule, True)
    assert "not set back" in repr(found)


def test_decay():
    found = optimizer_replay(Quadratic(decayed), [[0]], [[0]])
    assert found.rule == "sgd with decay"
    assert found.settings == {"rate": pytest.approx(0.01), "decay": pytest.approx(0.1)}


def test_a_rate_that_changes():
    found = optimizer_replay(Quadratic(scheduled), [[0]], [[0]])
    assert found.rule == "sgd, a rate for each step"
    assert list(found.settings.values()) == pytest.approx([0.01, 0.05, 0.003])


def test_none_of_these_is_an_answer():
    found = optimizer_replay(Quadratic(random_walk), [[0]], [[0]])
    assert (found.rule, found.settings) == ("none of these", {})
    assert found.residual > 0.5
    assert "none of these rules" in repr(found) and "moments are unknown" in repr(found)


def test_dropout_makes_another_gradient():
    config = ModelConfig(vocab_size=CORPUS.vocab_size, d_model=8, n_heads=2, n_layers=1, dropout=0.5)
    train = TrainConfig(optimizer="sgd", learning_rate=1e-2)
    trainer = Trainer(Transformer(config, parts=reference), CORPUS, train)
    assert optimizer_replay(trainer, *a_batch()).rule == "none of these"


def test_an_update_below_the_rounding_of_its_weights():
    def small(params, grads, memory):
        for name in params:
            params[name] -= np.float32(1e-2) * grads[name]

    subject = Quadratic(small, "float32")
    subject.params["c"][...] = 1e6
    subject._curvature["c"][...] = 1e-7
    found = optimizer_replay(subject, [[0]], [[0]])
    assert (found.rule, found.names("rounded away"), found.names("still")) == ("sgd", ("c",), ())


def test_parameters_that_are_not_finite():
    def poison(params, grads, memory):
        params["a"][...] = np.nan

    found = optimizer_replay(Quadratic(poison), [[0]], [[0]])
    assert (found.rule, found.explanations) == ("none of these", ())
    assert "no finite" in repr(found)


@pytest.mark.parametrize("steps", [1, 0, 2.5, True])
def test_too_few_steps(steps):
    with pytest.raises(ValueError, match="steps must be a whole number of at least 2"):
        optimizer_replay(Quadratic(sgd), [[0]], [[0]], steps=steps)


def test_no_subject_and_no_direction():
    with pytest.raises(TypeError, match="lacks params"):
        optimizer_replay(object(), [[0]], [[0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="direction must be one of along"):
        optimizer_replay(Quadratic(sgd), [[0]], [[0]]).names("up")
