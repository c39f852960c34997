"""Ratios against their definition, the stored bands against a small measurement of their own, restored subjects."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from cllm_lab.clinic.update_statistics import (
    HEALTHY_BANDS,
    healthy_band,
    healthy_range,
    update_statistics,
)
from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import GROUPS
from cllm_lab.model.parts import reference
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer

CORPUS = load_corpus("large")


class Shrinking:
    """Each tensor loses a fixed share of itself in every step; no state."""

    def __init__(self, **shares):
        self.params = {name: np.ones((2, 3)) for name in shares} | {"layers.0.bias": np.ones(3)}
        self._shares = {**shares, "layers.0.bias": 0.5}

    def loss(self, inputs, targets):
        return 0.0

    def gradients(self, inputs, targets):
        return 0.0, {name: np.zeros_like(array) for name, array in self.params.items()}

    def forward(self, inputs):
        return SimpleNamespace(logits=np.zeros((1, 1, 2)))

    def step(self, inputs, targets):
        for name, share in self._shares.items():
            self.params[name] *= 1.0 - share


def a_trainer(optimizer, rate, steps=12):
    config = ModelConfig(vocab_size=CORPUS.vocab_size, d_model=32, n_layers=1)
    train = TrainConfig(optimizer=optimizer, learning_rate=rate)
    trainer = Trainer(Transformer(config, parts=reference), CORPUS, train)
    trainer.run(steps=steps, progress=False)
    return trainer


def a_batch():
    tokens = CORPUS.tokens[:129]
    return tokens[:-1].reshape(4, 32), tokens[1:].reshape(4, 32)


def test_the_ratios_are_those_of_their_definition():
    subject = Shrinking(**{"layers.0.w": 0.1, "layers.1.w": 0.2, "emb": 0.4})
    found = update_statistics(subject, [[0]], [[0]], steps=3)
    assert {row.name: row.ratio for row in found.tensors} == pytest.approx(
        {"layers.0.w": 0.1, "layers.1.w": 0.2, "emb": 0.4, "layers.0.bias": 0.5}
    )
    assert found.median == pytest.approx(0.2)
    together = found.groups[0].ratio
    assert [row.name for row in found.groups] == ["w", "emb", "bias"]
    assert 0.1 < together < 0.2
    assert (found.family, found.verdict, found.left_changed) == ("any", "above", True)
    assert all(np.array_equal(array, np.ones_like(array)) for array in subject.params.values())
    assert "no state" in repr(found)


def test_groups_weigh_their_tensors_by_size():
    subject = Shrinking(**{"layers.0.w": 0.1, "layers.1.w": 0.2})
    found = update_statistics(subject, [[0]], [[0]])
    assert found.groups[0].ratio == pytest.approx(math.sqrt((0.1**2 + 0.2**2) / 2))


@pytest.mark.parametrize(
    ("optimizer", "rate", "family", "verdict"),
    [
        ("adam", 1e-3, "adam", "within"),
        ("adamw", 1e-3, "adam", "within"),
        ("adam", 1e-5, "adam", "below"),
        ("adam", 3e-2, "adam", "above"),
        ("sgd", 5e-2, "sgd", "within"),
        ("sgd", 1e-4, "sgd", "below"),
        ("sgd", 10.0, "sgd", "above"),
    ],
)
def test_rates_and_their_verdicts(optimizer, rate, family, verdict):
    trainer = a_trainer(optimizer, rate)
    before = trainer.state()
    found = update_statistics(trainer, *a_batch(), steps=2)
    assert (found.family, found.verdict) == (family, verdict)
    assert found.band == HEALTHY_BANDS[family]
    assert [row.name for row in found.groups] == list(GROUPS)
    assert verdict in repr(found)
    assert not found.left_changed
    after = trainer.state()
    assert all(np.array_equal(before.arrays[name], after.arrays[name]) for name in before.arrays)
    assert before.records == after.records


def test_the_stored_bands_come_from_measurements():
    for family, rates in (("sgd", (3e-2, 1e-1)), ("adam", (1e-3, 3e-3))):
        low, high = healthy_band(family, sizes=((32, 1),), rates=rates)
        stored = HEALTHY_BANDS[family]
        assert stored[0] <= low < high <= stored[1]
        # The lowest rates are left out here; the highest give the upper end.
        assert high > stored[1] / 2


def test_a_run_that_does_not_learn_is_no_model_of_health():
    with pytest.raises(ValueError, match="none of these runs"):
        healthy_band("sgd", sizes=((32, 1),), rates=(1e-4,))


def test_zero_weights():
    subject = Shrinking(w=0.1)
    subject.params["w"][...] = 0.0
    assert update_statistics(subject, [[0]], [[0]]).tensors[0].ratio == 0.0
    subject.step = lambda inputs, targets: subject.params["w"].__iadd__(1.0)
    found = update_statistics(subject, [[0]], [[0]])
    assert (found.tensors[0].ratio, found.verdict) == (math.inf, "above")


def test_a_subject_without_a_matrix():
    found = update_statistics(Shrinking(), [[0]], [[0]])
    assert math.isnan(found.median) and found.verdict == "not measured"
    assert "no matrix" in repr(found)


def test_ranges():
    low, high = healthy_range()
    assert (low, high) == (HEALTHY_BANDS["sgd"][0], HEALTHY_BANDS["adam"][1])
    with pytest.raises(ValueError, match="family must be"):
        healthy_range("lion")
    with pytest.raises(ValueError, match="family must be"):
        healthy_band("lion")


def test_arguments():
    with pytest.raises(ValueError, match="optimizer must be one of"):
        update_statistics(Shrinking(w=0.1), [[0]], [[0]], optimizer="lion")
    for steps in (0, 1.5, True):
        with pytest.raises(ValueError, match="steps must be"):
            update_statistics(Shrinking(w=0.1), [[0]], [[0]], steps=steps)
    assert update_statistics(Shrinking(w=0.1), [[0]], [[0]], optimizer="momentum").family == "sgd"
    with pytest.raises(TypeError, match="lacks params"):
        update_statistics(object(), [[0]], [[0]])  # type: ignore[arg-type]
