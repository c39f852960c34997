"""One run: plain data in, plain data out, and the same bits each time."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from cllm_lab.corpus.corpora import Corpus, load_corpus
from cllm_lab.model.config import ConfigError, ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer
from cllm_lab.trials.run import corpus_of, digest, run, single_parts, source, task, trainer_of, without_text
from tests.trials.machines import LANGUAGE, MODEL, TRAIN


def described(corpus=LANGUAGE, steps=12, every=5, model=None, train=None, seed=3):
    config = ModelConfig(vocab_size=corpus.vocab_size, **{**MODEL, **(model or {})})
    settings = TrainConfig(**{**TRAIN, **(train or {})})
    return task(source(corpus), config, settings, steps, every, seed, seed)


def test_a_run_is_that_of_a_trainer_with_the_same_settings():
    found = run(described(train={"schedule": "cosine"}))
    model = Transformer(ModelConfig(vocab_size=4, **MODEL), seed=3)
    trainer = Trainer(single_parts(model), LANGUAGE, TrainConfig(**TRAIN, schedule="cosine", seed=3))
    first = trainer.validation_loss()
    losses = trainer.run(steps=12, progress=False).losses
    assert found["validation"][0] == [0, first]
    assert found["validation"][-1] == [12, trainer.validation_loss()]
    assert [step for step, _ in found["validation"]] == [0, 5, 10, 12]
    assert found["training"] == [[step, loss] for step, loss in enumerate(losses, start=1)]
    assert found["first_loss"] == losses[0]
    assert found["parameters"] == model.params.flat.size
    assert (found["diverged"], found["strengths"]) == (None, {})
    assert trainer.params.flat.tobytes() != model.params.flat.tobytes()


def test_the_same_description_gives_the_same_bits_and_survives_json():
    description = described()
    again = json.loads(json.dumps(description))
    assert again == description
    assert json.loads(json.dumps(run(again))) == run(description)


def test_both_seeds_matter():
    description = described(steps=3)
    first = run(description)
    for seed in ("model_seed", "train_seed"):
        other = run({**description, seed: 4})
        assert other["training"] != first["training"]


def test_the_training_curve_is_thinned_to_means():
    found = run(described(steps=120, every=60))
    assert len(found["training"]) == 50
    assert found["training"][-1][0] == 120
    assert math.isclose(
        np.average(
            [loss for _, loss in found["training"]], weights=np.diff([0] + [s for s, _ in found["training"]])
        ),
        np.mean(trained(120)),
    )


def trained(steps):
    return trainer_of(described(steps=steps)).run(steps=steps, progress=False).losses


def test_strengths_are_reported_from_start_to_end():
    found = run(
        described(model={"attention_bias": "phase", "bias_strength": 0.5}, train={"learning_rate": 0.01})
    )
    assert list(found["strengths"]) == ["layers.0.bias_strength", "layers.1.bias_strength"]
    for strength in found["strengths"].values():
        assert strength["start"] == {"mean": 0.5, "min": 0.5, "max": 0.5}
        assert strength["end"]["min"] < strength["end"]["max"]
        assert strength["end"]["min"] <= strength["end"]["mean"] <= strength["end"]["max"]


def test_a_machine_that_overflows_is_a_result():
    wild = {"optimizer": "sgd", "learning_rate": 1e30, "clip_norm": None}
    found = run(described(train=wild))
    assert found["diverged"]["step"] >= 1
    assert found["diverged"]["what"]
    assert [step for step, _ in found["validation"]] == [0]
    assert all(math.isfinite(loss) for _, loss in found["validation"])


def test_a_strength_that_overflows_is_left_open():
    wild = {"optimizer": "sgd", "learning_rate": 1e41, "clip_norm": None}
    found = run(described(model={"attention_bias": "lattice-distance"}, train=wild))
    assert found["diverged"]
    assert None in [strength["end"] for strength in found["strengths"].values()]
    json.dumps(found, allow_nan=False)


def test_a_validation_that_overflows_is_a_result():
    wild = {"optimizer": "sgd", "learning_rate": 1e30, "clip_norm": None}
    found = run(described(train=wild, steps=1, every=1))
    assert found["diverged"] == {"step": 1, "what": "validation loss"}
    assert len(found["validation"]) == 1


def test_runs_go_through_the_single_parts():
    trainer = trainer_of(described())
    assert trainer.model.swapped_slots() == ("loss",)
    assert trainer_of(described(), through_parts=False).model.swapped_slots() == ()


def test_a_text_goes_along_whole_and_its_hash_names_it():
    corpus = Corpus.from_text("to be or not to be that is the question " * 9)
    description = described(corpus)
    assert corpus_of(description["corpus"]).tokens.tolist() == corpus.tokens.tolist()
    assert "text" not in without_text(description)["corpus"]
    assert source(load_corpus("large"))["sha256"] == load_corpus("large").sha256
    other = Corpus.from_text(corpus.text + "to be")
    assert digest(described(other)) != digest(description)
    assert digest(dict(reversed(description.items()))) == digest(description)


def test_a_language_is_described_by_its_parameters():
    assert corpus_of(source(LANGUAGE)) == LANGUAGE
    assert corpus_of(source(LANGUAGE)) != replace(LANGUAGE, seed=1)


def test_what_cannot_be_described():
    with pytest.raises(TypeError, match="corpus must come from load_corpus or be a language; got str"):
        source("large")
    with pytest.raises(ConfigError, match="warmup_steps=9 must be below total_steps=5"):
        described(steps=5, train={"warmup_steps": 9})
