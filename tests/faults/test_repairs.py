"""The repairs: what is broken until each is made, which machines move, and that all together make a healthy one."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.faults import repairs
from cllm_lab.faults.repairs import REPAIRS, every_combination, in_order, learned, text_loss, trainer_with
from cllm_lab.model.config import ConfigError
from tests.training.machines import TABLES

NAMES = tuple(REPAIRS)
CORPUS = lab.load_corpus("large")
LN_V = math.log(CORPUS.vocab_size)
AFTER_003 = ("loss", "layers", "updates", "gradient")
each_repair = pytest.mark.parametrize("name", NAMES)


def all_but(name: str) -> tuple[str, ...]:
    return tuple(other for other in NAMES if other != name)


# The machines.


def test_with_every_repair_it_is_this_engines_own_machine() -> None:
    repaired = trainer_with(NAMES)
    config = lab.ModelConfig(vocab_size=CORPUS.vocab_size, d_model=32, n_layers=1, d_ff=64)
    healthy = lab.Trainer(lab.Transformer(config), CORPUS, lab.TrainConfig(learning_rate=1e-2))
    assert repaired.faults == ()
    assert repaired.run(steps=3).losses == healthy.run(steps=3).losses


@each_repair
def test_a_repair_left_out_leaves_its_parts_and_settings_and_nothing_else(name: str) -> None:
    repair, trainer, healthy = REPAIRS[name], trainer_with(all_but(name)), trainer_with(NAMES)
    assert dict(trainer.faults[0].swaps if trainer.faults else {}) == dict(repair.swaps)
    assert trainer.model.config == replace(healthy.model.config, **repair.model)
    assert trainer.config == replace(healthy.config, **repair.train)
    assert repair.swaps or repair.model or repair.train
    assert repair.title and repair.source


def test_of_two_unmade_repairs_in_one_slot_the_first_shows_and_an_edit_is_applied_to_it() -> None:
    swaps = trainer_with(()).faults[0].swaps
    assert swaps["block"] is REPAIRS["layers"].swaps["block"]
    doubled, passed_by = REPAIRS["attention"].swaps["attention"], REPAIRS["backward"].swaps["attention"]
    assert swaps["attention"].forward is doubled.forward
    assert swaps["attention"].backward is passed_by.backward
    assert trainer_with(("layers",)).faults[0].swaps["block"] is REPAIRS["block"].swaps["block"]
    assert trainer_with(("backward",)).faults[0].swaps["attention"] is doubled


def test_the_small_machine_learns_at_the_originals_rate_per_logit() -> None:
    assert trainer_with(()).config.learning_rate * trainer_with(()).model.config.d_model == 0.001 * 512


@pytest.mark.parametrize("name", [None, *NAMES])
def test_both_tables_and_both_types_agree_on_every_machine(name: str | None) -> None:
    made = (*AFTER_003, "weights") if name is None else all_but(name)
    losses = [
        trainer_with(made, dtype=dtype, parts=table).run(steps=2).losses[-1]
        for table in TABLES.values()
        for dtype in ("float32", "float64")
    ]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-4)


# What they learn.


@each_repair
def test_no_repair_alone_moves_the_machine_before_document_002(name: str) -> None:
    found = learned([name], epochs=1)
    assert found.moved == 0
    assert found.made == (name,)
    assert found.size == trainer_with([name]).params.flat.size
    if name != "weights":
        assert found.loss == pytest.approx(LN_V, abs=1e-12)


def test_three_pairs_are_the_smallest_sets_that_move_it_and_all_have_the_weights() -> None:
    moving = set()
    for pair in combinations(NAMES, 2):
        trainer = trainer_with(pair)
        before = trainer.params.flat.copy()
        trainer.run(steps=1)
        if (trainer.params.flat != before).any():
            moving.add(pair)
    assert moving == {("gradient", "weights"), ("backward", "weights"), ("weights", "positions")}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in AFTER_003])
def test_after_document_003_the_weights_are_what_moves_it(name: str) -> None:
    found = learned((*AFTER_003, name), epochs=2)
    assert (found.moved > 0) is (name == "weights")
    assert (found.loss < LN_V - 0.02) is (name == "weights")


def test_all_but_the_weights_is_pinned() -> None:
    found = learned(all_but("weights"), epochs=2)
    assert found.moved == 0 and found.broke_off is None
    assert found.loss == pytest.approx(LN_V, abs=1e-12)
    assert found.printed == pytest.approx((LN_V, LN_V), abs=1e-12)


def test_the_loss_is_that_of_the_logits_whatever_is_printed() -> None:
    printed = learned(all_but("loss"), epochs=2)
    assert printed.loss != pytest.approx(printed.printed[-1], abs=1.0)
    trainer = trainer_with(all_but("loss"))
    before = trainer.params.flat.copy()
    trainer.run(epochs=2)
    assert text_loss(trainer) == printed.loss
    assert printed.moved == np.sum(before != trainer.params.flat) > 0.9 * printed.size
    n, config = len(CORPUS.tokens) - 1, trainer.config
    windows = [
        (CORPUS.tokens[start : start + 32][None], CORPUS.tokens[start + 1 : start + 33][None])
        for start in range(0, n, config.sequence_length)
    ]
    windows = [(inputs[:, : targets.shape[1]], targets) for inputs, targets in windows]
    total = math.fsum(
        lab.recomputed_loss(trainer, inputs, targets).recomputed * targets.size for inputs, targets in windows
    )
    assert text_loss(trainer) == pytest.approx(total / n, rel=1e-5)


def test_a_run_that_overflows_is_reported_with_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairs, "_ADAM_RATE", 1e30)
    found = repairs._learned.__wrapped__(frozenset(NAMES), 1, 0)
    assert found.broke_off is not None and found.broke_off > 1
    assert found.printed == () and not math.isfinite(found.loss)


# Orders and combinations.


def test_an_order_gives_a_machine_for_each_of_its_beginnings() -> None:
    order = ("weights", "gradient", "layers")
    machines = in_order(order, epochs=1)
    assert [set(machine.made) for machine in machines] == [set(order[:n]) for n in range(4)]
    assert machines[-1] is learned(reversed(order), epochs=1)
    assert machines[-1].made == ("layers", "gradient", "weights")


def test_every_combination_has_its_place() -> None:
    losses = every_combination(("attention", "weights"), AFTER_003, epochs=1)
    assert losses.shape == (2, 2)
    for attention, weights in np.ndindex(2, 2):
        made = AFTER_003 + ("attention",) * attention + ("weights",) * weights
        assert losses[attention, weights] == learned(made, epochs=1).loss
    assert losses[1, 0] == losses[0, 0] > losses[0, 1]


@pytest.mark.parametrize("made", [("weight",), ("loss", "loss"), "loss"[:3]])
def test_what_is_no_repair_is_refused(made: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"repairs must be some of loss, layers, .*each once; got"):
        learned(made, epochs=1)
    with pytest.raises(ValueError, match="each once"):
        every_combination(("weights",), ("weights",), epochs=1)
    with pytest.raises(ConfigError, match="epochs"):
        learned((), epochs=0)
