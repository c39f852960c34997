"""Learning curves and schedules: the drawn data, the plateaus, and words computed from both."""

import math

import pytest

import cllm_lab as lab
from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.training.history import History
from cllm_lab.views.curves import describe_losses, describe_runs, levels, loss_curve, schedule_curves
from tests.views.machines import corpus, history, record, trainer

PLATEAUS = Plateaus(uniform=6.0, unigram=5.0, bigram=1.0)
KNOWN = levels(PLATEAUS)


def drawn(picture):
    (axes,) = picture.axes
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_epoch_means_and_plateaus_are_drawn() -> None:
    run = history([9.0, 9.0], epoch_loss=[5.5, 4.25])
    lines = drawn(loss_curve({"mine": run}, PLATEAUS))
    assert lines["mine: 4.25"] == [[1, 5.5], [2, 4.25]]
    assert {name: line[0][1] for name, line in lines.items() if "mine" not in name} == {
        "ln V 6.00": 6.0,
        "unigram entropy 5.00": 5.0,
        "bigram entropy 1.00": 1.0,
    }


def test_steps_are_drawn_where_asked_for() -> None:
    picture = loss_curve({"mine": history([3.0, 2.5, 2.0], epoch_loss=[2.5])}, by="step")
    assert drawn(picture) == {"mine: 2.00": [[1, 3.0], [2, 2.5], [3, 2.0]]}
    assert picture.axes[0].get_xlabel() == "step"
    assert picture.axes[0].get_ylabel() == "loss (nats per token)"


def test_the_positional_plateau_stands_where_the_corpus_was_asked_for_it() -> None:
    plateaus = corpus().plateaus(sequence_length=4)
    lines = drawn(loss_curve({"mine": [2.0, 1.0]}, plateaus))
    assert lines[f"positional entropy {plateaus.positional:.2f}"][0][1] == plateaus.positional
    assert not any(
        "positional" in name for name in drawn(loss_curve({"mine": [2.0, 1.0]}, corpus().plateaus()))
    )


def test_held_out_losses_stand_beside_their_run() -> None:
    records = [
        record(1, 3.0, epoch=1, validation_loss=3.5),
        record(2, 2.0, epoch=1, validation_loss=3.25),
        record(3, 1.0, epoch=2),
        record(4, 0.5, epoch=2, validation_loss=4.0),
        record(5, 0.5, epoch=3, validation_loss=5.0),
    ]
    run = History(records, [2.5, 0.75])
    by_epoch = drawn(loss_curve({"mine": run}))
    assert by_epoch["mine, held out: 4.00"] == [[1, 3.25], [2, 4.0]]
    by_step = drawn(loss_curve({"mine": run}, by="step"))
    assert by_step["mine, held out: 5.00"] == [[1, 3.5], [2, 3.25], [4, 4.0], [5, 5.0]]
    assert describe_runs({"mine": run}).split("\n") == [
        "mine: starts at 2.50 nats, falls, ends at 0.8.",
        "mine, held out: starts at 3.25 nats, rises, ends at 4.0.",
    ]


def test_a_real_run_takes_its_validation_loss_every_epoch() -> None:
    machine = trainer(validation_fraction=0.3)
    run = machine.run(epochs=2)
    lines = drawn(loss_curve({"mine": run}))
    (held_out,) = [line for name, line in lines.items() if "held out" in name]
    assert [x for x, _ in held_out] == [1, 2]
    assert held_out[-1][1] == machine.validation_loss()


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([6.0, 6.001, 6.0], "x: stays at 6.00 nats, which is ln V."),
        ([5.5, 5.5], "x: stays at 5.50 nats."),
        (
            [5.9, 3.0],
            "x: starts at 5.90 nats, falls, ends under the unigram entropy (5.00) and above the bigram entropy (1.00).",
        ),
        ([5.9, 0.3], "x: starts at 5.90 nats, falls, ends under the bigram entropy (1.00)."),
        ([5.9, 6.7], "x: starts at 5.90 nats, rises, ends above ln V (6.00)."),
        ([5.9, 5.004], "x: starts at 5.90 nats, falls, ends at the unigram entropy (5.00)."),
        (
            [5.9, 3.0, 5.9],
            "x: starts at 5.90 nats, moves, but ends where it began, "
            "ends under ln V (6.00) and above the unigram entropy (5.00).",
        ),
        ([5.9, math.nan, 3.0], "x: not finite from value 2 on."),
        ([5.9, math.inf], "x: not finite from value 2 on."),
    ],
)
def test_words_follow_the_losses(losses: list[float], words: str) -> None:
    assert describe_losses("x", losses, KNOWN) == words


def test_the_picture_carries_its_words() -> None:
    runs = {"a": [6.0, 6.0], "b": [6.0, 0.5]}
    assert loss_curve(runs, PLATEAUS).words == describe_runs(runs, PLATEAUS)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="by must be one of 'epoch', 'step'; got 'hour'"):
        loss_curve({"mine": [1.0]}, by="hour")
    with pytest.raises(ValueError, match="'mine' has no complete epoch yet"):
        loss_curve({"mine": history([1.0])})
    with pytest.raises(ValueError, match="'mine' has no complete step yet"):
        loss_curve({"mine": history([])}, by="step")
    with pytest.raises(ValueError, match="empty"):
        loss_curve({})


def test_schedules_are_those_of_the_trainer() -> None:
    config = lab.TrainConfig(schedule="cosine", warmup_steps=2, learning_rate=0.5)
    picture = schedule_curves({"cosine": config}, total_steps=6)
    run = trainer(schedule="cosine", warmup_steps=2, learning_rate=0.5).run(steps=6)
    assert drawn(picture)["cosine"] == [[record.step, record.learning_rate] for record in run]
    assert picture.words == "cosine: starts at 2.5e-01, reaches 5.0e-01 at step 2, ends at 0.0e+00."
    with pytest.raises(ValueError, match="total_steps must be at least 2"):
        schedule_curves({"cosine": config}, total_steps=1)
