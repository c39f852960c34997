"""The line of words says what real runs show, and nothing that their records do not carry."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cllm_lab as lab
from cllm_lab.clinic.instrument_words import RECORD_BANDS, WARM_UP, instrument_words, record_band
from cllm_lab.clinic.update_statistics import FAMILIES
from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.history import StepRecord

CORPUS = lab.load_corpus("large")
LEVELS = CORPUS.plateaus(sequence_length=16)
SMALL = Plateaus(uniform=6.0, unigram=5.0, bigram=1.0, positional=0.5)


@cache
def run(fault: str = "", steps: int = 60, model=(), **train) -> tuple[StepRecord, ...]:
    """The records of a small machine on the shipped text; up to where it breaks."""
    settings = {"d_model": 16, "n_heads": 2, "n_layers": 1, "context_length": 16} | dict(model)
    config = lab.ModelConfig(vocab_size=CORPUS.vocab_size, **settings)
    given = {"sequence_length": 16, "batch_size": 8, "learning_rate": 1e-2} | train
    trainer = lab.Trainer(
        lab.Transformer(config), CORPUS, lab.TrainConfig(**given), (fault,) if fault else ()
    )
    records = []
    try:
        for record in trainer.steps():
            records.append(record)
            if record.step == steps:
                break
    except NonFiniteError:
        assert records
    return tuple(records)


def words(*asked, last: int = 200, family: str = "adam", **settings) -> str:
    return instrument_words(run(*asked, **settings)[-last:], LEVELS, family)


def record(step: int = 100, loss: float = 3.0, norm: float = 0.5, **fields) -> StepRecord:
    values = {
        "epoch": 1,
        "learning_rate": 1e-3,
        "grad_norm": 2.0 * norm,
        "update_ratio": 1e-3,
        "grad_norm_embedding": norm,
        "grad_norm_attention": norm,
        "grad_norm_ff": norm,
        "grad_norm_ln": norm,
        "tokens": 8,
        "seconds": 0.1,
    }
    return StepRecord(step=step, loss=loss, **(values | fields))


def series(losses, start: int = 101, **fields) -> list[StepRecord]:
    return [record(start + i, float(loss), **fields) for i, loss in enumerate(losses)]


def noise(n: int = 60) -> np.ndarray:
    return 0.1 * (-1.0) ** np.arange(n)


# Runs of real machines.


@pytest.mark.parametrize("fault", ["zero-init", "zero-init-lattice"])
def test_a_machine_of_zeros_is_flat_at_ln_v_and_nothing_moves(fault):
    assert words(fault, steps=30) == (
        f"Loss flat at ln V ({LEVELS.uniform:.4f}) over 30 steps; every gradient exactly 0: nothing moves."
    )
    assert words(fault, steps=1) == (
        f"One step: loss {LEVELS.uniform:.2f}, near ln V; every gradient exactly 0: nothing moves."
    )


def test_a_sound_machine_falls_between_levels_with_gradients_and_healthy_updates():
    line = words(learning_rate=3e-3)
    mean = math.fsum(record.loss for record in run(learning_rate=3e-3)[-15:]) / 15
    assert LEVELS.bigram < mean < LEVELS.unigram
    norm = float(np.median([record.grad_norm for record in run(learning_rate=3e-3)[-10:]]))
    assert line == (
        f"Loss {mean:.2f} over 15 steps, falling, between H1 and H2; gradients {norm:.2f}, "
        "updates within the healthy band."
    )


def test_a_sound_machine_trained_by_sgd_is_within_the_band_of_its_kind():
    settings = {"optimizer": "sgd", "learning_rate": 0.1}
    assert "updates within the healthy band" in words(family="sgd", **settings)
    # The band for the median over matrices would call it too fast.
    assert np.median([record.update_ratio for record in run(**settings)[-10:]]) > 1.9e-3


def test_a_wrong_sign_rises_above_ln_v():
    line = words("wrong-sign")
    assert ", rising, above ln V; gradients " in line


@pytest.mark.parametrize(
    ("fault", "rate", "place"),
    [
        ("learning-rate-high", 1e-3, "above"),
        ("learning-rate-low", 1e-3, "below"),
        ("", 1e-3, "within"),
    ],
)
def test_rates_show_in_the_band(fault, rate, place):
    assert f"updates {place} the healthy band." in words(fault, learning_rate=rate)


def test_a_rate_that_has_reached_zero_moves_no_weights_though_gradients_flow():
    line = words("decayed-to-zero", learning_rate=1e-3)
    norm = float(np.median([record.grad_norm for record in run("decayed-to-zero", learning_rate=1e-3)[-10:]]))
    assert line.endswith(f"; gradients {norm:.2f}, the weights do not move (learning rate 0).")


def test_a_gradient_of_squared_errors_is_flat_near_ln_v_though_the_weights_move():
    settings = {"optimizer": "sgd", "learning_rate": 1e-2, "clip_norm": None, "steps": 80}
    line = words("mse-gradient", last=30, family="sgd", **settings)
    assert line.startswith("Loss flat at ")
    assert ", near ln V, over 30 steps though the weights move; gradients " in line


def test_a_loss_without_the_model_repeats_itself_while_the_weights_move():
    repeated = "the same to the last digit in each epoch though the weights move"
    assert repeated in words("loss-ignores-model", shuffle=False)
    assert repeated not in words(shuffle=False)
    # In another order of the text it cannot be told from a loss that stands.
    assert repeated not in words("loss-ignores-model")
    assert ", standing, " in words("loss-ignores-model")


def test_frozen_weights_repeat_their_losses_and_that_is_no_finding():
    line = words(shuffle=False, learning_rate=0.0)
    assert "same to the last digit" not in line
    assert line.endswith("the weights do not move (learning rate 0).")


def test_groups_without_a_gradient_are_named():
    line = words("embeddings-only-backward")
    assert "; gradients of attention, ff and ln exactly 0, updates " in line
    assert "; attention's gradient exactly 0, updates " in words("doubled-attention")
    assert "exactly 0" not in words()


def test_an_optimizer_that_leaves_tensors_alone_does_not_show_in_these_instruments():
    line = words("embeddings-only-update")
    assert ", falling, " in line and "exactly 0" not in line and "move" not in line


def test_without_clipping_gradients_are_huge():
    trainer = lab.faults.catalogue()["no-clipping"].broken()
    # Where exactly it breaks is decided by the last bits of a processor.
    with suppress(NonFiniteError):
        trainer.run(steps=14, progress=False)
    line = instrument_words(trainer.history, LEVELS, "sgd")
    assert "above ln V; gradients huge (" in line


def test_a_first_step_without_a_way_down_is_vanishingly_small():
    model = (("n_layers", 8),)
    line = words("vanishing-gradient", steps=1, model=model)
    norm = run("vanishing-gradient", steps=1, model=model)[0].grad_norm_embedding
    assert 0.0 < norm < 1e-9
    assert f"; embedding's gradient vanishingly small ({norm:.1e}), " in line


@pytest.mark.parametrize("fault", ["", *lab.faults.catalogue()])
def test_every_line_is_one_short_line(fault):
    line = words(fault, steps=24, learning_rate=1e-3)
    assert "\n" not in line and line.endswith(".") and len(line) <= 145


# Readings of single records.


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (4.21 + noise(), "standing, between H1 and H2"),
        (np.linspace(5.5, 4.0, 60) + noise(), "falling, between H1 and H2"),
        (np.linspace(5.0, 9.0, 60) + noise(), "rising, above ln V"),
        (np.linspace(2.0, -3.0, 60) + noise(), "falling, below positional entropy"),
        (0.7 + noise(), "standing, between H2 and positional entropy"),
    ],
)
def test_the_way_and_the_place_of_a_loss(losses, expected):
    mean = math.fsum(losses[-15:]) / 15
    assert instrument_words(series(losses), SMALL).startswith(f"Loss {mean:.2f} over 15 steps, {expected}; ")


def test_a_loss_on_a_level_is_near_it_and_a_flat_one_at_it():
    assert ", standing, near H1; " in instrument_words(series(5.01 + noise()), SMALL)
    assert instrument_words(series([5.0] * 9), SMALL).startswith(
        "Loss flat to the last digit at H1 (5.0000) over 9 steps though the weights move; gradients 1.00, "
    )
    assert instrument_words(series([5.01, 5.011, 5.01]), SMALL).startswith(
        "Loss flat at 5.0100, near H1, over 3 steps though the weights move; gradients 1.00, "
    )
    assert instrument_words(series([4.1855] * 9, update_ratio=0.0), SMALL) == (
        "Loss flat at 4.1855, between H1 and H2, over 9 steps; gradients 1.00, the weights do not move."
    )


def test_few_steps_make_no_trend():
    falling = series(np.linspace(5.5, 4.0, 20))
    assert ", falling, " in instrument_words(falling, SMALL)
    assert ", too early for a trend, between H1 and H2; " in instrument_words(falling[1:], SMALL)
    assert instrument_words(series([2.0, 3.0]), SMALL).startswith(
        "Loss 3.00 over 1 step, too early for a trend"
    )


def test_the_first_steps_are_held_against_no_band():
    early = series([3.0], start=WARM_UP, update_ratio=0.5)
    assert instrument_words(early, SMALL) == (
        "One step: loss 3.00, between H1 and H2; gradients 1.00, updates 5.0e-01 of the weights."
    )
    later = early + series([3.0], start=WARM_UP + 1, update_ratio=1e-3)
    assert "updates within the healthy band" in instrument_words(later, SMALL)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named_with_its_step(bad):
    line = instrument_words(series([3.0, bad, 3.0], norm=1e9), SMALL)
    assert line == (
        f"Loss not finite at step 102 ({bad}); gradients huge (2.0e+09), updates within the healthy band."
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_and_updates_that_are_not_finite(bad):
    line = instrument_words(series([3.0], grad_norm_ff=bad, update_ratio=bad), SMALL)
    assert line.endswith("; gradients not finite, |update| / |weights| not finite.")
    line = instrument_words(series([3.0], norm=0.0, update_ratio=math.nan), SMALL)
    assert line.endswith("; every gradient exactly 0, |update| / |weights| not finite.")


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (2e-7, "gradients vanishingly small (4.0e-07)"),
        (6e-7, "gradients 1.2e-06"),
        (0.2, "gradients 0.40"),
        (49.0, "gradients 98.0"),
        (51.0, "gradients huge (102.0)"),
        (1e8, "gradients huge (2.0e+08)"),
    ],
)
def test_sizes_of_gradients(norm, expected):
    assert f"; {expected}, " in instrument_words(series([3.0], norm=norm), SMALL)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"grad_norm_ff": 0.0}, "ff's gradient exactly 0"),
        ({"grad_norm_embedding": 0.0, "grad_norm_ln": 0.0}, "gradients of embedding and ln exactly 0"),
        ({"grad_norm_ff": 1e-8}, "ff's gradient vanishingly small (1.0e-08)"),
        (
            {"grad_norm_ff": 1e-8, "grad_norm_attention": 3e-9},
            "gradients of attention and ff vanishingly small (1.0e-08)",
        ),
        ({"grad_norm_ff": 1e-6}, "gradients 0.87"),
    ],
)
def test_groups_that_stand_apart(fields, expected):
    assert f"; {expected}, " in instrument_words(series([3.0], **fields), SMALL)


def test_zeros_are_read_in_the_latest_record():
    switched_on = [*series([3.0] * 30), record(131, 3.0, grad_norm_ff=0.0)]
    assert "ff's gradient exactly 0" in instrument_words(switched_on, SMALL)
    switched_off = [*series([3.0] * 30, grad_norm_ff=0.0, update_ratio=0.0), record(131, 3.0)]
    line = instrument_words(switched_off, SMALL)
    # Nine of the last ten records lack a group.
    assert line.endswith("; gradients 0.87, updates within the healthy band.")


def test_weights_that_only_just_began_to_move_explain_no_loss():
    stood = series([3.0] * 30, update_ratio=0.0)
    assert instrument_words([*stood, record(131, 3.0)], SMALL).startswith(
        "Loss flat at 3.0000, between H1 and H2, over 31 steps; gradients 1.00, "
    )


def test_weights_that_move_without_a_gradient():
    line = instrument_words(series([3.0], norm=0.0), SMALL)
    assert line.endswith("; every gradient exactly 0, yet the weights move.")


def test_sizes_are_medians_of_the_last_ten():
    records = series([3.0] * 20, norm=5.0, update_ratio=1.0) + series([3.0] * 9, start=121)
    assert "gradients 1.00, updates within" in instrument_words(
        [*records, record(130, 3.0, norm=40.0)], SMALL
    )


def test_a_repetition_needs_a_whole_epoch_that_equals_the_one_before():
    rng = np.random.default_rng(1)
    epoch = rng.normal(3.0, 0.5, 7).tolist()
    records = [
        replace(each, epoch=1 + i // 7) for i, each in enumerate(series([*rng.normal(3, 0.5, 7), *epoch * 3]))
    ]
    repeated = "the same to the last digit in each epoch though the weights move"
    assert repeated in instrument_words(records, SMALL)
    assert repeated in instrument_words(records[:-3], SMALL)
    assert repeated not in instrument_words(records[:-8], SMALL)
    off = [*records[:-5], replace(records[-5], loss=math.nextafter(records[-5].loss, 9.0)), *records[-4:]]
    assert repeated not in instrument_words(off, SMALL)


# A loss of more than a float32 holds cannot come from a trainer of float32.
LOSSES = st.one_of(st.floats(width=32), st.sampled_from([3.0, 6.0, math.nan, math.inf]))


@given(
    st.lists(LOSSES, min_size=1, max_size=40),
    st.lists(st.floats(0.0), min_size=5, max_size=5),
    st.integers(1, 30),
)
def test_any_record_has_its_line(losses, readings, start):
    embedding, attention, ff, ln, ratio = readings
    records = series(
        losses,
        start,
        grad_norm_embedding=embedding,
        grad_norm_attention=attention,
        grad_norm_ff=ff,
        grad_norm_ln=ln,
        update_ratio=ratio,
    )
    line = instrument_words(records, SMALL)
    assert "\n" not in line and line.endswith(".")
    assert ("every gradient exactly 0" in line) == (embedding == attention == ff == ln == 0.0)
    assert ("Loss not finite" in line) == (not np.isfinite(losses).all())


# The band of the records.


@pytest.mark.parametrize(("family", "rates"), [("sgd", (1e-2, 1e-1)), ("adam", (1e-3, 3e-3))])
def test_the_stored_bands_come_from_measurements(family, rates):
    found = []
    for rate in rates:
        config = lab.ModelConfig(vocab_size=CORPUS.vocab_size, d_model=32, n_layers=2)
        train = lab.TrainConfig(optimizer=family, learning_rate=rate, warmup_steps=WARM_UP)
        history = lab.Trainer(lab.Transformer(config), CORPUS, train).run(steps=40, progress=False)
        found += [record.update_ratio for record in history if record.step > WARM_UP]
    low, high = record_band(family)
    assert low <= min(found) < max(found) <= high
    # The highest rate gives the upper end, on the smallest machine a little more.
    assert max(found) > high / 2


def test_bands_by_name():
    assert record_band() == (RECORD_BANDS["sgd"][0], RECORD_BANDS["adam"][1])
    assert {record_band(family) for family in set(FAMILIES.values())} == set(RECORD_BANDS.values())
    with pytest.raises(ValueError, match="family must be any, sgd or adam; got 'lion'"):
        record_band("lion")


def test_the_family_decides():
    records = series([3.0] * 30, update_ratio=8e-3)
    assert "within" in instrument_words(records, SMALL, "adam")
    assert "within" in instrument_words(records, SMALL)
    assert "above" in instrument_words(records, SMALL, "sgd")


def test_what_is_refused():
    with pytest.raises(ValueError, match="at least one step; got none"):
        instrument_words([], SMALL)
    with pytest.raises(ValueError, match="family must be"):
        instrument_words([record()], SMALL, "lion")
    with pytest.raises(TypeError, match=r"corpus\.plateaus"):
        instrument_words([record()], {"uniform": 6.0})
