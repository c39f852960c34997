"""What a trainer keeps while it runs is bounded, and what it drops is freed at once."""

import gc
import tracemalloc
import weakref
from contextlib import contextmanager

import pytest

from cllm_lab.model.compiled_pass import CompiledPass
from cllm_lab.model.transformer import Pass
from cllm_lab.training.machine import MOST_KEPT_PASSES
from tests.training.machines import TABLES, TEXT, a_batch, make_model, make_trainer


@contextmanager
def without_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def passes_of(trainer):
    gc.collect()
    found = [each for each in gc.get_objects() if type(each) in (Pass, CompiledPass)]
    return [each for each in found if each.model is trainer.model]


@pytest.mark.parametrize("table", TABLES)
def test_batches_of_many_shapes_keep_a_bounded_number_of_passes(table):
    trainer = make_trainer(make_model(table), validation_fraction=0.3)
    for rows in range(1, 4):
        for length in range(1, 9):
            trainer.step(*a_batch(trainer, shape=(rows, length)))
    trainer.validation_loss()
    assert len(passes_of(trainer)) == MOST_KEPT_PASSES == 8
    trainer.run(epochs=1)
    assert len(passes_of(trainer)) == MOST_KEPT_PASSES


def test_a_pass_that_was_dropped_and_made_again_gives_the_same_bits():
    one, other = make_trainer(), make_trainer()
    batches = [a_batch(one, seed=n, shape=(1 + n % 3, 1 + n % 8)) for n in range(30)]
    for number, batch in enumerate(batches):
        if number % 4 == 0:
            other._passes.clear()
        one.step(*batch)
        other.step(*batch)
    assert (one.params.flat == other.params.flat).all()


@pytest.mark.parametrize("table", TABLES)
def test_three_hundred_steps_leave_no_more_than_their_records(table):
    trainer = make_trainer(make_model(table), validation_fraction=0.3)
    trainer.run(steps=20)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        trainer.run(steps=300)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A record is some 105 bytes; one gradient kept a step would be 300 times this machine's size.
    assert trainer.params.flat.nbytes > 4000
    assert after - before < 300 * 300


@pytest.mark.parametrize("table", TABLES)
def test_a_pass_is_freed_without_the_garbage_collector(table):
    model = make_model(table)
    tokens, targets = a_batch(make_trainer(model))
    with without_garbage_collection():
        full = Pass(model)
        full.forward(tokens)
        full.loss(targets)
        root = weakref.ref(full.root)
        activations = full.activations()
        del full
        assert activations.logits.shape == (2, 8, TEXT.vocab_size)
        del activations
        assert root() is None


@pytest.mark.parametrize("look", ["loss", "gradients", "forward", "validation_loss"])
def test_looking_again_and_again_takes_no_more_memory(look):
    trainer = make_trainer(validation_fraction=0.3)
    tokens, targets = a_batch(trainer)
    arguments = {"forward": (tokens,), "validation_loss": ()}.get(look, (tokens, targets))
    getattr(trainer, look)(*arguments)
    with without_garbage_collection():
        tracemalloc.start()
        try:
            getattr(trainer, look)(*arguments)
            before, peak = tracemalloc.get_traced_memory()
            for _ in range(20):
                getattr(trainer, look)(*arguments)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < peak
