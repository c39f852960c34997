"""A run written down as Python: every choice comes back, whatever it was."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cllm_lab as lab
from cllm_lab.corpus.corpora import Corpus
from cllm_lab.model.config import CHOICES, DEFAULT_INIT_VALUES, ConfigError, ModelConfig
from cllm_lab.training.config import OPTIMIZERS, SCHEDULES, TrainConfig
from cllm_lab.training.schedules import learning_rate
from cllm_lab.views.live.setup import Setup, possible_faults, recipe, takes_effect, title
from tests.views.live.runs import LANGUAGE, OwnFault, made_by, small_setup

CATALOGUE = lab.faults.catalogue()
WRONG_SIGN = CATALOGUE["wrong-sign"]
TEXT = "the sky is blue and the grass is green and the sea is blue"


def twice_the_rate(step: int, config: TrainConfig, total_steps: int | None) -> float:
    return 2.0 * learning_rate(step, config, total_steps)


OWN = OwnFault(swaps={"schedule": twice_the_rate})

positive = st.floats(1e-12, 1e3)
share = st.floats(0.0, 0.999)


@st.composite
def model_configs(draw) -> ModelConfig:
    heads = draw(st.sampled_from((1, 2, 3)))
    choices = {name: draw(st.sampled_from(allowed)) for name, allowed in CHOICES.items()}
    if choices["attention"] == "none":
        choices |= {"keys": "projected", "head_symmetry": "none", "attention_bias": "none"}
    has_value = choices["init"] in DEFAULT_INIT_VALUES
    biased = choices["attention_bias"] != "none"
    return ModelConfig(
        vocab_size=draw(st.integers(5, 9)),
        context_length=draw(st.integers(8, 33)),
        d_model=2 * heads * draw(st.integers(2, 3)),
        n_heads=heads,
        n_layers=draw(st.integers(1, 3)),
        d_ff=draw(st.none() | st.integers(1, 40)),
        tied=draw(st.booleans()),
        dropout=draw(share),
        init_value=draw(st.none() | st.floats(0.0, 2.0)) if has_value else None,
        norm_epsilon=draw(positive),
        bias_strength=draw(st.none() | st.floats(-2.0, 2.0)) if biased else None,
        bias_learnable=draw(st.booleans()) if biased else True,
        lattice_seed=draw(st.integers(0, 2**40)),
        **choices,
    )


PENALTIES = ("geometric", "symmetry", "prime", "gcd")


@st.composite
def train_configs(draw) -> TrainConfig:
    optimizer = draw(st.sampled_from(OPTIMIZERS))
    rate, low = sorted((draw(st.floats(0.0, 10.0)), draw(st.floats(0.0, 10.0))), reverse=True)
    warmup = draw(st.integers(0, 20))
    return TrainConfig(
        batch_size=draw(st.integers(1, 6)),
        sequence_length=draw(st.integers(1, 8)),
        optimizer=optimizer,
        learning_rate=rate,
        clip_norm=draw(st.none() | positive),
        schedule=draw(st.sampled_from(SCHEDULES)),
        warmup_steps=warmup,
        min_learning_rate=low,
        total_steps=draw(st.none() | st.integers(warmup + 1, 100)),
        validation_fraction=draw(st.just(0.0) | st.floats(0.05, 0.9)),
        validate_every=draw(st.none() | st.integers(1, 9)),
        shuffle=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32)),
        momentum=draw(share),
        betas=(draw(share), draw(share)),
        epsilon=draw(positive),
        weight_decay=draw(st.none() | st.floats(0.0, 1.0)) if optimizer == "adamw" else None,
        accumulate=draw(st.integers(1, 4)),
        **{f"{name}_penalty": draw(share) for name in PENALTIES},
    )


@settings(max_examples=60)
@given(
    model=model_configs(),
    train=train_configs(),
    seed=st.integers(0, 2**40),
    dtype=st.sampled_from(("float32", "float64")),
    parts=st.sampled_from(("fast", "reference")),
)
def test_every_configuration_comes_back_from_its_recipe(model, train, seed, dtype, parts):
    setup = Setup(LANGUAGE, model, train, seed=seed, dtype=dtype, parts=parts, epochs=2)
    with tempfile.TemporaryDirectory() as folder:
        trainer = made_by(recipe(setup, (), 0), Path(folder))["trainer"]
    assert Setup.of(trainer, epochs=2) == setup
    assert (trainer.params.flat == setup.machine().params.flat).all()


def test_defaults_are_not_written():
    written = recipe(Setup(LANGUAGE, ModelConfig(vocab_size=5)), (), 0)
    assert "TrainConfig())" in written
    assert "ModelConfig(vocab_size=5, d_model=64, n_heads=4)" in written
    assert "dtype" not in written and "parts" not in written and "run" not in written


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    rates, betas = np.array([1e-3, 3e-3]), (np.float64(0.8), np.float64(0.99))
    train = TrainConfig(learning_rate=rates[1], betas=betas, clip_norm=np.float64(0.5))
    setup = small_setup(train=replace(train, sequence_length=8), seed=np.int64(3))
    trainer = made_by(recipe(setup, [(2, {"learning_rate": rates[0]})], 0), tmp_path)["trainer"]
    assert Setup.of(trainer) == setup
    assert trainer.planned_changes == {2: {"learning_rate": 1e-3}}


# Corpora.


@pytest.mark.parametrize(
    "language",
    [
        lab.InductionLanguage(),
        lab.InductionLanguage(n_symbols=3, block_length=4, seed=9, n_tokens=50),
        lab.MarkovLanguage(),
        lab.MarkovLanguage(n_symbols=4, seed=2, concentration=1.5, n_tokens=60),
        lab.ConstantLanguage(n_symbols=7, n_tokens=40),
    ],
    ids=repr,
)
def test_a_language_comes_back_with_its_arguments(language, tmp_path):
    setup = small_setup(corpus=language, model=ModelConfig(vocab_size=language.vocab_size))
    assert made_by(recipe(setup, (), 0), tmp_path)["corpus"] == language


@pytest.mark.parametrize("name", ["large", "pydoc"])
@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_a_shipped_text_comes_back_by_its_name(name, tokenizer, tmp_path):
    corpus = lab.load_corpus(name, tokenizer)
    setup = small_setup(corpus=corpus, model=ModelConfig(vocab_size=corpus.vocab_size))
    again = made_by(recipe(setup, (), 0), tmp_path)["corpus"]
    assert again.description() == corpus.description()


@pytest.mark.parametrize("name", ["it's.txt", 'so "called".txt', "back\\slash\n.txt", "large"])
@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_a_file_comes_back_whatever_it_is_called(name, tokenizer, tmp_path):
    path = tmp_path / name
    path.write_text(TEXT, encoding="utf-8")
    corpus = lab.load_corpus(path, tokenizer)
    setup = small_setup(corpus=corpus, model=ModelConfig(vocab_size=corpus.vocab_size))
    again = made_by(recipe(setup, (), 0), tmp_path)["corpus"]
    assert again.description() == corpus.description() and again.path == path


def test_a_text_in_memory_has_to_be_there_and_the_recipe_says_so(tmp_path):
    corpus = Corpus.from_text(TEXT)
    written = recipe(small_setup(corpus=corpus, model=ModelConfig(vocab_size=corpus.vocab_size)), (), 2)
    assert "a text in memory: have it under this name" in written
    assert len(made_by(written, tmp_path, corpus=corpus)["history"]) == 2
    with pytest.raises(NameError, match="corpus"):
        made_by(written, tmp_path)


# Faults and changes.


def test_faults_of_the_catalogue_are_named_and_come_back(tmp_path):
    faults = (CATALOGUE["zero-init"], CATALOGUE["wrong-sign"])
    trainer = made_by(recipe(small_setup(faults=faults), (), 0), tmp_path)["trainer"]
    assert trainer.faults == faults


def test_a_fault_of_ones_own_is_left_as_a_comment(tmp_path):
    told = "# mine is not in the catalogue: put the fault itself in the place of its id"
    written = recipe(small_setup(faults=(OWN,)), (), 2)
    assert told in written
    by_hand = written.replace("'mine'", "mine")
    again = made_by(by_hand, tmp_path, mine=OWN)["trainer"]
    assert again.faults == (OWN,) and again.steps_done == 2
    later = recipe(small_setup(), [(2, {"faults": (OWN,)})], 3)
    assert later.index(told) < later.index("trainer.at(2, faults=('mine',))")
    assert told not in recipe(small_setup(faults=(CATALOGUE["zero-init"],)), (), 2)


def test_one_that_only_bears_the_name_of_a_fault_of_the_catalogue_is_not_it():
    false_friend = OwnFault("wrong-sign", {"schedule": twice_the_rate})
    assert "# wrong-sign is not in the catalogue" in recipe(small_setup(faults=(false_friend,)), (), 0)


def test_changes_come_in_their_order_and_those_of_a_step_together():
    changes = [
        (3, {"learning_rate": 0.5}),
        (7, {"clip_norm": None}),
        (7, {"optimizer": "sgd", "faults": (CATALOGUE["wrong-sign"],)}),
    ]
    lines = recipe(small_setup(), changes, 9).splitlines()
    assert lines[-3:] == [
        "trainer.at(3, learning_rate=0.5)",
        "trainer.at(7, clip_norm=None, optimizer='sgd', faults=('wrong-sign',))",
        "history = trainer.run(steps=9)",
    ]


def test_the_recipe_of_a_trainer_that_was_handed_over_begins_with_it():
    lines = recipe(small_setup(), [(6, {"clip_norm": 2.0})], 9, given_at=4).splitlines()
    assert lines == [
        "# trainer: the one that was handed to lab.live, 4 steps done",
        "trainer.at(6, clip_norm=2.0)",
        "history = trainer.run(steps=5)",
    ]
    assert "run" not in recipe(small_setup(), (), 4, given_at=4)


# What a setup refuses, and what it wants.


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_schedule_needs_an_end(schedule):
    train = replace(small_setup().train, schedule=schedule)
    with pytest.raises(ConfigError, match=f"schedule='{schedule}' falls until the run ends.*set epochs, or"):
        small_setup(train=train)
    assert small_setup(train=train, epochs=4).wanted(3)["total_steps"] == 12
    own_end = replace(train, total_steps=50)
    assert small_setup(train=own_end).wanted(3)["total_steps"] == 50
    assert small_setup(train=own_end, epochs=4).wanted(3)["total_steps"] == 50


def test_a_constant_rate_has_no_end_however_long_the_run():
    assert small_setup(epochs=4).wanted(3)["total_steps"] is None


@pytest.mark.parametrize("epochs", [0, -1, 1.5, True, "3"])
def test_epochs_are_whole_numbers(epochs):
    with pytest.raises(ConfigError, match=r"epochs must be a whole number of at least 1; got"):
        small_setup(epochs=epochs)


def test_two_faults_in_one_slot_are_refused_by_name():
    with pytest.raises(ValueError, match="'wrong-sign' and 'mse-gradient' both swap the slot 'loss'"):
        small_setup(faults=(CATALOGUE["wrong-sign"], CATALOGUE["mse-gradient"]))


def test_what_cannot_change_while_a_machine_runs_is_refused_by_name():
    with pytest.raises(ValueError, match=r"batch_size, seed cannot change while a machine runs.*new run"):
        small_setup().changed(seed=3, batch_size=2, learning_rate=0.1)
    with pytest.raises(ConfigError, match="learning_rate"):
        small_setup().changed(learning_rate=-1.0)


def test_weight_decay_goes_with_the_optimizer_it_belongs_to():
    decayed = small_setup().changed(optimizer="adamw", weight_decay=0.3)
    assert decayed.changed(learning_rate=0.1).train.weight_decay == 0.3
    assert decayed.changed(optimizer="sgd").train.weight_decay is None
    with pytest.raises(ConfigError, match=r"weight_decay=0\.3 belongs to optimizer='adamw'"):
        small_setup().changed(weight_decay=0.3)


def test_a_trainer_tells_what_it_was_made_from():
    faults = (CATALOGUE["wrong-sign"],)
    setup = small_setup(dtype="float64", parts="reference", seed=4, faults=faults, epochs=3)
    assert Setup.of(setup.trainer(), 3) == setup


@pytest.mark.parametrize(
    ("slots", "when"),
    [
        (("schedule",), "step"),
        (("initialisation",), "reset"),
        (("initialisation", "residual"), "reset"),
        (("stream",), "new run"),
        (("batches", "initialisation"), "new run"),
    ],
)
def test_when_a_fault_of_ones_own_acts_follows_from_its_slots(slots, when):
    assert takes_effect(OwnFault(swaps=dict.fromkeys(slots))) == when


def test_a_fault_of_the_catalogue_says_itself_when_it_acts_and_what_it_is_called():
    assert {takes_effect(fault) for fault in CATALOGUE.values()} == {"step", "reset", "new run"}
    assert all(takes_effect(fault) == fault.takes_effect for fault in CATALOGUE.values())
    assert title(CATALOGUE["wrong-sign"]) == CATALOGUE["wrong-sign"].title
    assert title(OWN) == "mine"


def test_of_the_faults_that_are_wanted_those_can_be_in_that_need_no_new_start():
    step, reset, stream = (CATALOGUE[each] for each in ("wrong-sign", "zero-init", "token-sorting"))
    other_step = CATALOGUE["no-clipping"]
    wanted = (step, reset, stream)
    assert possible_faults(wanted, ()) == (step,)
    assert possible_faults(wanted, (reset,)) == (step, reset)
    assert possible_faults((), (step, reset, stream)) == (stream,)
    assert possible_faults((other_step,), (stream, step)) == (stream, other_step)
    assert possible_faults(wanted, wanted) == (stream, step, reset)


def test_a_fault_of_the_stream_that_stays_keeps_its_other_slots_too():
    stays = OwnFault("stays", {"stream": None, "schedule": None})
    assert possible_faults((OWN, WRONG_SIGN), (stays,)) == (stays, WRONG_SIGN)
