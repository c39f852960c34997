"""What is looked at between two steps changes nothing, and takes no more than its share."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cllm_lab.corpus.corpora import Corpus
from cllm_lab.views.live import glances as glances_module
from cllm_lab.views.live.glances import ATTENTION_EVERY, MOST_POSITIONS, TEXT_EVERY, TEXT_TOKENS, Glances
from tests.views.live.runs import small_setup

TEXT = Corpus.from_text("the sky is blue and the grass is green and the sea is blue " * 5)


class Clock:
    """A time that passes only when it is told to, or by so much at each look."""

    def __init__(self, monkeypatch, tick: float = 0.0) -> None:
        self.now, self.tick = 1000.0, tick
        monkeypatch.setattr(glances_module, "time", SimpleNamespace(perf_counter=self.read))

    def read(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def text_trainer(**choices):
    model = replace(small_setup().model, vocab_size=TEXT.vocab_size, n_layers=2)
    return small_setup(corpus=TEXT, model=model, **choices).trainer()


def test_nothing_is_looked_at_before_the_first_step(clock):
    glance = Glances(text_trainer()).glance
    assert glance.attention is None and not glance.looked and glance.text == ""
    assert glance.tokens == tuple("the sky is blue and the grass is".split())


def test_the_attention_is_that_of_the_last_layer_for_the_first_window(clock):
    trainer = text_trainer()
    glances = Glances(trainer)
    assert glances.after_step()
    glance = glances.glance
    window = TEXT.training_tokens(0.0)[None, :8]
    expected = trainer.forward(window)["layers.1.attention.weights"][0]
    assert glance.looked and glance.layer == 1 and glance.text == ""
    np.testing.assert_array_equal(glance.attention, expected)
    trainer.run(steps=3)
    np.testing.assert_array_equal(glance.attention, expected)  # a copy
    glances.look()
    assert (glances.glance.attention != expected).any()


def test_attention_and_text_take_turns_and_each_has_its_time(clock):
    glances = Glances(text_trainer())
    clock.now += 1.0
    assert glances.after_step() and glances.glance.looked
    first = glances.glance
    shown = []
    while glances.after_step():
        shown.append(glances.glance.text)
    assert len(shown) == 1 + TEXT_TOKENS + 1  # begun, each token, its end
    assert shown[0] == "" and len(set(shown[1:-1])) == TEXT_TOKENS, "the text is shown while it grows"
    assert len(glances.glance.text.split()) == 1 + TEXT_TOKENS
    assert glances.glance.attention is first.attention
    assert not glances.after_step(), "nothing is due"
    clock.now += ATTENTION_EVERY
    assert glances.after_step() and glances.glance.attention is not first.attention
    assert not glances.after_step()
    clock.now += TEXT_EVERY - ATTENTION_EVERY
    assert sum(1 for _ in iter(glances.after_step, False)) == 1 + 1 + TEXT_TOKENS + 1  # attention is due too


def test_the_text_begins_with_the_texts_first_word_and_says_after_which_step(clock):
    trainer = text_trainer()
    trainer.run(steps=7)
    glances = Glances(trainer)
    while glances.after_step():
        pass
    glance = glances.glance
    assert glance.text_step == 7 and glance.text.startswith("the ")
    assert glance.text == trainer.generate("the", TEXT_TOKENS, temperature=0.8, seed=7)


def test_no_more_than_its_share_of_the_time_is_spent(monkeypatch):
    clock = Clock(monkeypatch, tick=0.001)  # a look reads the clock twice: it takes a millisecond
    glances = Glances(text_trainer(), share=0.1)
    looks = 0
    began = clock.now
    for _ in range(2000):
        clock.now += 0.002  # the step
        looks += glances.after_step()
    assert 10 < looks
    assert looks * 0.001 <= 0.1 * (clock.now - began) + 0.001


@pytest.mark.parametrize("accumulate", [1, 2])
def test_looking_changes_nothing_of_the_training(clock, accumulate):
    train = replace(small_setup().train, accumulate=accumulate)
    watched, alone = text_trainer(train=train), text_trainer(train=train)
    glances = Glances(watched)
    for _ in range(20):
        watched.run(steps=1)
        clock.now += 1.0
        glances.after_step()
        glances.look()
    alone.run(steps=20)
    assert watched.history.losses == alone.history.losses
    assert (watched.params.flat == alone.params.flat).all()


def test_a_machine_without_attention_was_looked_at_and_has_none(clock):
    glances = Glances(small_setup(model=replace(small_setup().model, attention="none")).trainer())
    glances.look()
    assert glances.glance.looked and glances.glance.attention is None


def test_weights_that_are_no_numbers_give_a_reason_in_the_place_of_a_text(clock):
    trainer = text_trainer()
    trainer.params.flat[:] = np.nan
    glances = Glances(trainer)
    while glances.after_step():
        pass
    assert glances.glance.text.startswith("no text: ") and "not all finite" in glances.glance.text
    assert np.isnan(glances.glance.attention).any()


@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_any_first_word_will_do(clock, tokenizer):
    corpus = Corpus.from_text("\n  <unk> Ünïcödé \t" + "the sky is blue " * 9, tokenizer)
    model = replace(small_setup().model, vocab_size=corpus.vocab_size)
    glances = Glances(small_setup(corpus=corpus, model=model).trainer())
    while glances.after_step():
        pass
    assert glances.glance.text != ""


def test_the_window_is_no_longer_than_can_be_read(clock):
    model = replace(small_setup().model, context_length=64)
    train = replace(small_setup().train, sequence_length=40)
    glances = Glances(small_setup(model=model, train=train).trainer())
    glances.look()
    assert glances.glance.attention.shape == (2, MOST_POSITIONS, MOST_POSITIONS)
    assert len(glances.glance.tokens) == MOST_POSITIONS


def test_the_held_out_text_is_not_looked_at(clock):
    train = replace(small_setup().train, validation_fraction=0.5)
    text = Corpus.from_text("a b c d e f g h i j")
    model = replace(small_setup().model, vocab_size=text.vocab_size)
    glances = Glances(small_setup(corpus=text, model=model, train=train).trainer())
    assert glances.glance.tokens == tuple("abcde")
