"""Steps, runs and epochs of a healthy trainer."""

import itertools
import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from cllm_lab.corpus.corpora import Corpus, load_corpus
from cllm_lab.corpus.languages import MarkovLanguage
from cllm_lab.corpus.source import CorpusError
from cllm_lab.model.config import ConfigError, ModelConfig
from cllm_lab.model.parameters import GROUPS
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import OPTIMIZERS, TrainConfig
from cllm_lab.training.optimizers import optimizers
from cllm_lab.training.trainer import Trainer
from tests.training.machines import (
    LANGUAGE,
    STEPS_PER_EPOCH,
    TABLES,
    TEXT,
    a_batch,
    batches_of,
    bits,
    make_model,
    make_trainer,
)


def norm(array):
    return float(np.linalg.norm(np.asarray(array, np.float64)))


# What it is made of.


def test_the_model_given_stays_as_it_was():
    model = make_model()
    before = model.params.flat.copy()
    trainer = make_trainer(model)
    assert (trainer.params.flat == before).all()
    trainer.run(steps=3)
    assert (model.params.flat == before).all()
    assert (trainer.params.flat != before).any()
    assert trainer.params is trainer.model.params


def test_two_trainers_of_one_model_do_not_meet():
    model = make_model()
    one, other = make_trainer(model), make_trainer(model)
    one.run(steps=2)
    assert (other.params.flat == model.params.flat).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "gpt"}, "model must be a Transformer; got str"),
        ({"model": ModelConfig(vocab_size=20)}, "model must be a Transformer; got ModelConfig"),
        ({"corpus": "large"}, "corpus must come from load_corpus or be a language; got str"),
        ({"corpus": TEXT.tokens}, "corpus must come from load_corpus or be a language; got ndarray"),
        ({"config": {"batch_size": 4}}, "config must be a TrainConfig; got dict"),
    ],
)
def test_arguments_of_another_kind_are_refused(wrong, said):
    asked = {"model": make_model(), "corpus": TEXT, "config": TrainConfig(sequence_length=8), **wrong}
    with pytest.raises(TypeError) as caught:
        Trainer(**asked)
    assert str(caught.value) == said


def test_windows_longer_than_the_context_are_refused():
    with pytest.raises(ConfigError, match=r"^sequence_length=9 is above the model's context_length=8$"):
        make_trainer(sequence_length=9)


def test_a_corpus_with_more_tokens_than_the_model_has_rows_is_refused():
    with pytest.raises(CorpusError, match=rf"vocab_size={TEXT.vocab_size - 1} is too small"):
        make_trainer(make_model(vocab_size=TEXT.vocab_size - 1))
    make_trainer(make_model(vocab_size=TEXT.vocab_size + 5)).run(steps=1)


@pytest.mark.parametrize("corpus", [TEXT, LANGUAGE])
@pytest.mark.parametrize("fraction", [0.001, 0.99])
def test_a_split_that_leaves_too_little_is_refused_at_once(corpus, fraction):
    if corpus is LANGUAGE and fraction > 0.5:
        make_trainer(corpus=corpus, validation_fraction=fraction)  # its validation has a stream of its own
        return
    with pytest.raises(CorpusError, match=f"validation_fraction={fraction}"):
        make_trainer(corpus=corpus, validation_fraction=fraction)


def test_the_default_configuration():
    trainer = Trainer(make_model(context_length=32), TEXT)
    assert trainer.config == TrainConfig()


# The same again.


def test_same_seed_same_bits():
    one, other = make_trainer(), make_trainer()
    one.run(epochs=2)
    other.run(epochs=2)
    assert bits(one) == bits(other)


def test_another_seed_takes_the_windows_in_another_order():
    one, other = make_trainer(), make_trainer(seed=1)
    assert one.run(steps=1).losses != other.run(steps=1).losses
    assert (one.params.flat != other.params.flat).any()


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("corpus", [TEXT, LANGUAGE])
def test_each_step_takes_the_next_batch_of_its_epoch(corpus, shuffle):
    trainer = make_trainer(corpus=corpus, shuffle=shuffle, optimizer="sgd")
    twin = make_trainer(corpus=corpus, shuffle=shuffle, optimizer="sgd")
    batches = [(epoch, batch) for epoch in range(3) for batch in batches_of(twin, epoch)]
    for epoch, batch in batches:
        expected = twin.step(*batch)
        found = next(trainer.steps())
        assert replace(found, seconds=0.0, epoch=1) == replace(expected, seconds=0.0)
        assert found.epoch == epoch + 1
    assert (trainer.params.flat == twin.params.flat).all()
    assert trainer.epochs_done == 3
    assert trainer.steps_done == len(batches)


# One step.


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_fields_of_a_step_record(table, kind):
    model = make_model(table, "float64", n_layers=2)
    trainer = make_trainer(model, optimizer=kind, clip_norm=0.05, warmup_steps=4)
    tokens, targets = a_batch(trainer)
    for number in (1, 2):
        loss, grads = trainer.model.gradients(tokens, targets)
        before = trainer.params.flat.copy()
        record = trainer.step(tokens, targets)
        assert (record.step, record.epoch, record.tokens) == (number, 1, 16)
        assert record.loss == pytest.approx(loss, rel=1e-13)
        assert record.learning_rate == 1e-2 * number / 4
        assert record.grad_norm == pytest.approx(norm(grads.flat), rel=1e-12)
        for group in GROUPS:
            assert getattr(record, f"grad_norm_{group}") == pytest.approx(norm(grads.group(group)), rel=1e-12)
        change = trainer.params.flat - before
        assert record.update_ratio == pytest.approx(norm(change) / norm(before), rel=1e-7)
        assert record.validation_loss is None
        assert record.seconds > 0.0
    assert list(trainer.history) == [trainer.history[0], record]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_is_the_optimizer_on_the_clipped_gradient(table, kind):
    trainer = make_trainer(make_model(table, "float64"), optimizer=kind, clip_norm=0.05, learning_rate=0.1)
    params = trainer.params.flat.copy()
    optimizer = optimizers("reference")[kind]
    moments = {name: np.zeros_like(params) for name in optimizer.moments}
    for number in (1, 2, 3):
        batch = a_batch(trainer, seed=number)
        _, grads = trainer.gradients(*batch)
        assert norm(grads.flat) > 0.05
        scale = 0.05 / (norm(grads.flat) + 1e-6)
        optimizer.update(params, grads.flat, moments, 0.1, number, scale, trainer.config)
        trainer.step(*batch)
        np.testing.assert_allclose(trainer.params.flat, params, rtol=1e-8, atol=1e-10)


def test_clipping_shortens_the_update_of_plain_gradient_descent():
    model = make_model(dtype="float64")
    lengths = {}
    for clip_norm in (None, 0.01, 1e6):
        trainer = make_trainer(model, optimizer="sgd", learning_rate=1.0, clip_norm=clip_norm)
        record = trainer.step(*a_batch(trainer))
        lengths[clip_norm] = norm(trainer.params.flat - model.params.flat), record.grad_norm
    free, grad_norm = lengths[None]
    assert grad_norm > 0.1
    assert free == pytest.approx(grad_norm, rel=1e-9)
    assert lengths[1e6] == lengths[None]
    assert lengths[0.01][1] == grad_norm
    assert lengths[0.01][0] == pytest.approx(0.01 * grad_norm / (grad_norm + 1e-6), rel=1e-9)


def test_a_step_on_a_given_batch_leaves_the_order_of_the_corpus():
    one, other = make_trainer(learning_rate=0.0), make_trainer(learning_rate=0.0)
    one.run(steps=2)
    one.step(*a_batch(one))
    rest = one.run(steps=6)
    straight = other.run(steps=8)
    assert [r.loss for r in rest[:2] + rest[3:]] == straight.losses
    assert rest.epoch_loss == straight.epoch_loss
    assert [r.step for r in rest] == list(range(1, 10))


@pytest.mark.parametrize(
    ("tokens", "targets", "error", "said"),
    [
        ([[1, 2]], [[1, 2, 3]], ValueError, "targets must have the shape of tokens"),
        ([[0.5, 1.0]], [[1, 2]], TypeError, "tokens must hold whole numbers"),
        ([1, 2], [1, 2], ValueError, "tokens must have shape"),
        ([[1, 2]], [[1, 99]], ValueError, "targets must lie in 0 to"),
        ([list(range(5, 14))], [list(range(5, 14))], ValueError, "more than context_length=8"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_changes_nothing(tokens, targets, error, said):
    trainer = make_trainer()
    before = bits(trainer)
    for attempt in (trainer.step, trainer.loss, trainer.gradients, trainer.tensor_rows):
        with pytest.raises(error, match=said):
            attempt(tokens, targets)
    assert bits(trainer) == before


# Runs and epochs.


def test_the_shipped_corpus_has_eleven_steps_an_epoch():
    corpus = load_corpus("large")
    trainer = Trainer(
        Transformer(ModelConfig(vocab_size=corpus.vocab_size, d_model=8, n_heads=2, n_layers=1)), corpus
    )
    assert trainer.steps_per_epoch == 11
    history = trainer.run(epochs=1)
    tokens = [record.tokens for record in history]
    # 38 windows of 32 in nine batches of 4 and one of 2, and a window of 24: every pair, each once.
    assert sorted(tokens) == [24, 64] + [128] * 9
    assert sum(tokens) == corpus.n_tokens - 1 == 1240
    assert trainer.epochs_done == 1
    assert Trainer(trainer.model, corpus, TrainConfig(accumulate=4)).steps_per_epoch == 3


def test_the_mean_loss_of_an_epoch_is_that_of_its_steps():
    trainer = make_trainer()
    history = trainer.run(steps=2 * STEPS_PER_EPOCH + 2)
    assert trainer.steps_per_epoch == STEPS_PER_EPOCH
    assert [r.epoch for r in history] == [1] * 5 + [2] * 5 + [3] * 2
    assert len(history.epoch_loss) == 2
    for epoch, loss in enumerate(history.epoch_loss, start=1):
        own = [r.loss for r in history if r.epoch == epoch]
        assert loss == math.fsum(own) / STEPS_PER_EPOCH
    assert len(trainer.run(steps=3).epoch_loss) == 3


def test_runs_add_up_also_from_the_middle_of_an_epoch():
    pieces, straight = make_trainer(), make_trainer()
    assert len(pieces.run(steps=3)) == 3
    assert len(pieces.run(epochs=1)) == 3 + STEPS_PER_EPOCH
    assert len(list(itertools.islice(pieces.steps(), 2))) == 2
    assert len(pieces.run(epochs=2)) == 10 + 2 * STEPS_PER_EPOCH
    straight.run(epochs=4)
    assert {**bits(pieces), "total_steps": None} == {**bits(straight), "total_steps": None}
    assert pieces.history.epoch_loss == straight.history.epoch_loss


@pytest.mark.parametrize("asked", [{}, {"epochs": 1, "steps": 1}])
def test_a_run_is_of_epochs_or_of_steps(asked):
    with pytest.raises(ValueError, match="give either epochs or steps; got epochs="):
        make_trainer().run(**asked)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "3", True])
@pytest.mark.parametrize("name", ["epochs", "steps"])
def test_a_run_has_a_whole_number_of_them(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1; got {wrong!r}"):
        make_trainer().run(**{name: wrong})


def test_steps_are_endless_until_stopped_and_can_be_taken_up_again():
    trainer = make_trainer()
    seen = []
    for record in trainer.steps():
        seen.append(record.step)
        if record.step == 23:
            trainer.stop()
    assert seen == list(range(1, 24))
    assert next(trainer.steps()).step == 24
    assert len(trainer.run(steps=2)) == 26


def test_stop_within_a_run_ends_it_after_the_step():
    trainer = make_trainer()

    def stop_at_the_first_epoch(line):
        if line.startswith("Epoch 1:"):
            trainer.stop()

    assert len(trainer.run(epochs=9, console=stop_at_the_first_epoch)) == STEPS_PER_EPOCH


def test_stop_from_another_thread():
    trainer = make_trainer()
    most = 20_000
    ended = threading.Event()

    def stop_after_a_few():
        while trainer.steps_done < 5 and not ended.is_set():
            pass
        trainer.stop()

    watcher = threading.Thread(target=stop_after_a_few)
    watcher.start()
    try:
        history = trainer.run(steps=most)
    finally:
        ended.set()
        watcher.join()
    assert 5 <= len(history) < most
    assert len(history) == trainer.steps_done


def test_the_progress_bar_shows_where_asked(capsys):
    make_trainer().run(steps=2)
    assert capsys.readouterr().err == ""
    make_trainer().run(steps=2, progress=True)
    assert "2/2" in capsys.readouterr().err


# Accumulation.


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_k_batches_accumulated_are_one_batch_k_times_as_large(table, kind):
    model = make_model(table, "float64")
    common = {"shuffle": False, "optimizer": kind, "clip_norm": 0.1}
    parts = make_trainer(model, batch_size=1, accumulate=3, **common)
    whole = make_trainer(model, batch_size=3, **common)
    for _ in range(2):
        one, other = next(parts.steps()), next(whole.steps())
        assert one.tokens == other.tokens == 24
        assert one.loss == pytest.approx(other.loss, rel=1e-12)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-12)
        np.testing.assert_allclose(parts.params.flat, whole.params.flat, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("table", TABLES)
def test_a_short_window_weighs_by_its_tokens(table):
    trainer = make_trainer(
        make_model(table, "float64"),
        batch_size=4,
        accumulate=3,
        shuffle=False,
        optimizer="sgd",
        clip_norm=None,
        learning_rate=0.5,
    )
    batches = batches_of(trainer)
    assert [batch.targets.size for batch in batches] == [32, 24, 4]
    assert trainer.steps_per_epoch == 1
    before = trainer.params.flat.copy()
    found = [trainer.gradients(*batch) for batch in batches]
    shares = [32 / 60, 24 / 60, 4 / 60]
    mean = sum(share * grads.flat for share, (_, grads) in zip(shares, found, strict=True))
    record = next(trainer.steps())
    assert record.tokens == 60
    assert record.loss == pytest.approx(
        sum(s * loss for s, (loss, _) in zip(shares, found, strict=True)), rel=1e-13
    )
    assert record.grad_norm == pytest.approx(norm(mean), rel=1e-12)
    np.testing.assert_allclose(trainer.params.flat, before - 0.5 * mean, rtol=1e-12, atol=1e-14)


def test_the_last_step_of_an_epoch_accumulates_what_is_left():
    trainer = make_trainer(accumulate=2)
    history = trainer.run(epochs=2)
    assert trainer.steps_per_epoch == 3
    assert [r.epoch for r in history] == [1, 1, 1, 2, 2, 2]
    assert sum(r.tokens for r in history[:3]) == 60


# Dropout.


@pytest.mark.parametrize("table", TABLES)
def test_dropout_acts_in_training_alone_and_is_reproducible(table):
    model = make_model(table, dropout=0.4)
    one, other, another_seed = (make_trainer(model, seed=seed, learning_rate=0.0) for seed in (0, 0, 1))
    batch = a_batch(one)
    silent = model.loss(*batch)
    records = [[trainer.step(*batch).loss for _ in range(3)] for trainer in (one, other, another_seed)]
    assert records[0] == records[1]
    assert not set(records[0]) & set(records[2])
    assert len({*records[0], silent}) == 4
    assert one.loss(*batch) == silent
    assert one.gradients(*batch)[0] == silent
    assert (one.forward(batch[0]).logits == model.forward(batch[0]).logits).all()


def test_accumulated_batches_have_masks_of_their_own():
    # One symbol for ever: all windows are alike, and only their masks differ.
    corpus = Corpus.from_text("a " * 33)
    model = make_model(corpus=corpus, dropout=0.5, dtype="float64")
    losses = [next(make_trainer(model, corpus, batch_size=1, accumulate=n).steps()).loss for n in (1, 2)]
    assert losses[0] != losses[1]


def test_validation_is_without_dropout():
    model = make_model(dropout=0.4)
    trainer = make_trainer(model, validation_fraction=0.3)
    plain = make_trainer(make_model(), validation_fraction=0.3)
    trainer.params.flat[:] = plain.params.flat
    assert trainer.validation_loss() == plain.validation_loss()


# Validation.


def expected_validation_loss(trainer):
    """Token by token, window by window, over the whole split."""
    tokens = trainer.corpus.validation_tokens(trainer.config.validation_fraction)
    length = trainer.config.sequence_length
    total = 0.0
    for start in range(0, len(tokens) - 1, length):
        window = tokens[start : start + length + 1]
        n = len(window) - 1
        total += n * trainer.model.loss(window[None, :-1], window[None, 1:])
    return total / (len(tokens) - 1)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("corpus", [TEXT, LANGUAGE])
def test_the_validation_loss_is_the_mean_over_every_held_out_token(table, corpus):
    trainer = make_trainer(make_model(table, "float64", corpus), corpus, validation_fraction=0.4)
    trainer.run(steps=3)
    assert (len(corpus.validation_tokens(0.4)) - 1) % 8 != 0
    assert trainer.validation_loss() == pytest.approx(expected_validation_loss(trainer), rel=1e-13)


def test_validation_is_taken_at_the_end_of_each_epoch():
    trainer = make_trainer(validation_fraction=0.4)
    assert trainer.steps_per_epoch == 3
    for record in itertools.islice(trainer.steps(), 9):
        if record.step % 3 == 0:
            assert record.validation_loss == trainer.validation_loss()
            assert trainer.history[-1].validation_loss == record.validation_loss
        else:
            assert record.validation_loss is None


def test_validation_is_taken_every_so_many_steps():
    trainer = make_trainer(validation_fraction=0.4, validate_every=3)
    taken = [r.step for r in trainer.run(steps=10) if r.validation_loss is not None]
    assert taken == [3, 6, 9]


def test_held_out_tokens_are_never_trained_on():
    trainer = make_trainer(validation_fraction=0.4)
    seen = sum(record.tokens for record in trainer.run(epochs=1))
    assert seen == len(TEXT.training_tokens(0.4)) - 1 == TEXT.n_tokens - len(TEXT.validation_tokens(0.4)) - 1


def test_without_a_fraction_there_is_no_validation_loss():
    trainer = make_trainer(validate_every=1)
    assert trainer.run(steps=6)[-1].validation_loss is None
    with pytest.raises(CorpusError, match="validation_fraction=0 holds nothing out"):
        trainer.validation_loss()


# The two tables.


@pytest.mark.parametrize(
    "settings",
    [{}, {"norm": "post"}, {"tied": False, "activation": "gelu"}, {"dropout": 0.2, "attention": "none"}],
    ids=["default", "post", "untied-gelu", "dropout-no-attention"],
)
@pytest.mark.parametrize("kind", ["adam", "momentum"])
def test_both_tables_train_alike(settings, kind):
    losses = {}
    for table in TABLES:
        trainer = make_trainer(make_model(table, n_layers=2, **settings), optimizer=kind, learning_rate=3e-3)
        losses[table] = trainer.run(steps=20).losses
    np.testing.assert_allclose(losses["fast"], losses["reference"], rtol=0, atol=1e-5)
    assert losses["fast"][0] != losses["fast"][-1]


@pytest.mark.parametrize("table", TABLES)
def test_a_machine_learns_a_language_down_to_its_entropy(table):
    corpus = MarkovLanguage(n_symbols=5, seed=1, concentration=0.2, n_tokens=513)
    model = make_model(table, corpus=corpus, d_model=16)
    trainer = make_trainer(model, corpus, batch_size=8, learning_rate=0.02)
    history = trainer.run(steps=150)
    plateaus = corpus.plateaus()
    reached = float(np.mean(history.losses[-32:]))
    assert plateaus.bigram + 0.9 < plateaus.unigram
    assert reached == pytest.approx(plateaus.bigram, abs=0.08)


# The subject of the probes.


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}], ids=["plain", "accumulated"])
@pytest.mark.parametrize("steps", [0, 3])
def test_looking_leaves_the_trainer_as_it_was(settings, steps):
    def watched():
        model = make_model(dropout=0.1)
        trainer = make_trainer(model, validation_fraction=0.3, schedule="cosine", total_steps=30, **settings)
        trainer.at(5, learning_rate=0.5)
        for _ in range(steps):
            next(trainer.steps())
        return trainer

    trainer, twin = watched(), watched()
    tokens, targets = a_batch(trainer)
    before = bits(trainer)
    for look in (
        lambda: trainer.loss(tokens, targets),
        lambda: trainer.gradients(tokens, targets),
        lambda: trainer.forward(tokens),
        trainer.validation_loss,
        lambda: trainer.generate("the sky", n_tokens=3),
        lambda: trainer.tensor_rows(tokens, targets),
        lambda: trainer.steps_per_epoch,
        lambda: trainer.history.steps,
        trainer.state,
        lambda: trainer.load_state(trainer.state()),
    ):
        look()
        assert bits(trainer) == before
    trainer.run(steps=6)
    twin.run(steps=6)
    assert bits(trainer) == bits(twin)


def test_loss_and_gradients_are_those_of_the_machine():
    trainer = make_trainer()
    trainer.run(steps=2)
    batch = a_batch(trainer)
    loss, grads = trainer.model.gradients(*batch)
    assert trainer.loss(*batch) == loss
    found_loss, found = trainer.gradients(*batch)
    assert found_loss == loss
    assert (found.flat == grads.flat).all()
    assert list(found) == list(trainer.params)


def test_what_is_handed_out_does_not_change_with_later_steps():
    trainer = make_trainer(validation_fraction=0.3)
    tokens, targets = a_batch(trainer)
    record = trainer.step(tokens, targets)
    history = trainer.run(steps=4)
    activations = trainer.forward(tokens)
    _, grads = trainer.gradients(tokens, targets)
    state = trainer.state()
    kept = (
        replace(record),
        list(history),
        list(history.epoch_loss),
        {name: array.copy() for name, array in activations.items()},
        grads.flat.copy(),
        {name: array.copy() for name, array in state.arrays.items()},
        (state.records, state.epoch_step_losses, state.epoch_loss),
    )
    trainer.step(tokens, targets)
    trainer.run(steps=7)
    trainer.forward(targets)
    trainer.gradients(targets, tokens)
    assert record == kept[0]
    assert list(history) == kept[1]
    assert history.epoch_loss == kept[2]
    assert all((activations[name] == array).all() for name, array in kept[3].items())
    assert (grads.flat == kept[4]).all()
    assert all((state.arrays[name] == array).all() for name, array in kept[5].items())
    assert (state.records, state.epoch_step_losses, state.epoch_loss) == kept[6]


def test_a_history_handed_out_belongs_to_the_caller():
    trainer = make_trainer()
    history = trainer.run(epochs=1)
    history.epoch_loss.append(0.0)
    assert len(trainer.history.epoch_loss) == 1


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_state_put_back_repeats_what_followed(kind):
    trainer = make_trainer(optimizer=kind)
    trainer.run(steps=3)
    state = trainer.state()
    trainer.run(steps=8)
    first = bits(trainer)
    trainer.load_state(state)
    assert trainer.steps_done == 3
    trainer.run(steps=8)
    assert bits(trainer) == first


@pytest.mark.parametrize(
    "other",
    [
        {"sequence_length": 4},
        {"shuffle": False},
        {"accumulate": 2},
        {"batch_size": 3},
        {"seed": 1},
        {"validation_fraction": 0.2},
    ],
)
def test_a_state_of_other_settings_is_refused(other):
    trainer = make_trainer()
    before = bits(trainer)
    with pytest.raises(ValueError, match="this state belongs to"):
        trainer.load_state(make_trainer(**other).state())
    assert bits(trainer) == before


def test_a_state_of_another_machine_is_refused():
    for other in (make_model(d_model=4), make_model(dtype="float64")):
        with pytest.raises(ValueError, match="this state belongs to another machine"):
            make_trainer().load_state(make_trainer(other).state())


def test_a_state_with_settings_that_were_changed_on_the_way_is_taken():
    trainer = make_trainer()
    trainer.at(2, learning_rate=0.5, clip_norm=None, optimizer="momentum", momentum=0.5)
    trainer.run(steps=3)
    other = make_trainer()
    other.load_state(trainer.state())
    assert (other.config.learning_rate, other.parts.optimizer.name) == (0.5, "momentum")
    assert bits(other) == bits(trainer)


def test_a_state_beyond_the_end_of_the_epoch_is_refused():
    trainer = make_trainer()
    trainer.run(steps=4)
    short = Corpus(" ".join(TEXT.text.split()[:20]), TEXT.tokenizer)
    with pytest.raises(
        ValueError, match="stands after batch 4 of an epoch, but an epoch of this corpus has 2"
    ):
        make_trainer(corpus=short, model=make_model()).load_state(trainer.state())


# What each tensor does.


@pytest.mark.parametrize("table", TABLES)
def test_tensor_rows_tell_what_a_step_does(table):
    trainer = make_trainer(make_model(table, "float64"))
    trainer.run(steps=2)
    tokens, targets = a_batch(trainer)
    rows = {row.name: row for row in trainer.tensor_rows(tokens, targets)}
    assert list(rows) == list(trainer.params)
    before = trainer.params.copy()
    _, grads = trainer.gradients(tokens, targets)
    trainer.step(tokens, targets)
    for spec in trainer.params.specs:
        row = rows[spec.name]
        assert (row.group, row.shape, row.trainable) == (spec.group, spec.shape, True)
        assert row.weight == pytest.approx(norm(before[spec.name]), rel=1e-12)
        assert row.gradient == pytest.approx(norm(grads[spec.name]), rel=1e-12)
        assert row.gradient_zeros == np.count_nonzero(grads[spec.name] == 0) / spec.size
        change = trainer.params[spec.name] - before[spec.name]
        assert row.update == pytest.approx(norm(change), rel=1e-12)
        assert row.update > 0.0
    # Rows of tokens that are not in the batch have a gradient from the tied output alone; positions all have one.
    assert rows["position_embedding"].gradient_zeros == 0.0
