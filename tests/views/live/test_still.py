"""The picture that stays: what it draws of a run, and what it says where lines cannot show it."""

from __future__ import annotations

import io
import math
import threading

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.views.live.series import Curves, RunCurves
from cllm_lab.views.live.still import MOST_MARKS_NAMED, still_picture
from cllm_lab.views.picture import Picture
from tests.views.machines import machine, record, trainer

PLATEAUS = Plateaus(uniform=6.0, unigram=5.0, bigram=1.0, positional=0.5)
BAND = (3e-4, 1e-2)


def curves(records, most: int = 300) -> Curves:
    collected = RunCurves(most)
    for each in records:
        collected.add(each)
    return collected.curves()


def losses(values, **fields) -> Curves:
    return curves(record(step, float(loss), **fields) for step, loss in enumerate(values, start=1))


def still(run: Curves, ghost: Curves | None = None, marks=(), title: str = "a run") -> Picture:
    return still_picture(run, ghost, PLATEAUS, BAND, marks, title)


def drawn(axes):
    return {line.get_label(): line for line in axes.lines}


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_the_curves_of_a_real_run_are_drawn() -> None:
    history = trainer(validation_fraction=0.3).run(steps=9)
    run = curves(history)
    picture = still(run, title="costs $5 or $6")
    top, middle, bottom = picture.axes
    frame = history.steps
    loss = drawn(top)[f"loss: {history.losses[-1]:.2f}"]
    assert loss.get_xydata().tolist() == [[step, loss] for step, loss in enumerate(history.losses, start=1)]
    held_out = frame["validation_loss"].dropna()
    assert drawn(top)[f"held out: {held_out.iloc[-1]:.2f}"].get_ydata().tolist() == held_out.tolist()
    for name, level in {"ln V": 6.0, "H1": 5.0, "H2": 1.0, "positional entropy": 0.5}.items():
        assert drawn(top)[f"{name} {level:.2f}"].get_ydata() == [level, level]
        assert f"{name} {level:.2f}" in texts(top)
    for group in ("embedding", "attention", "ff", "ln"):
        assert drawn(middle)[group].get_ydata().tolist() == frame[f"grad_norm_{group}"].tolist()
        assert group in texts(middle)
    assert drawn(bottom)["update ratio"].get_ydata().tolist() == frame["update_ratio"].tolist()
    (band,) = bottom.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(BAND)
    assert "healthy runs, 3.0e-04 to 1.0e-02" in texts(bottom)
    assert [axes.get_yscale() for axes in picture.axes] == ["linear", "log", "log"]
    assert {axes.get_xlim() for axes in picture.axes} == {(1.0, 9.0)}
    assert top.get_title(loc="left") == "costs $5 or $6" and top.get_title(loc="right") == ""


def test_the_picture_is_wide_enough_to_read_and_small_enough_to_keep() -> None:
    rng = np.random.default_rng(0)
    records = [
        record(step, 5.0 + rng.normal(), update_ratio=abs(rng.normal()), grad_norm_ff=abs(rng.normal()))
        for step in range(1, 2001)
    ]
    png = still(curves(records), curves(records[:1500]), [(700, "learning_rate=0.01")]).png()
    assert Image.open(io.BytesIO(png)).size == (840, 720)
    assert len(png) <= 60_000


def test_a_machine_of_zeros_is_named_in_the_charts_and_in_words() -> None:
    picture = still(curves(trainer(machine(init="zeros")).run(steps=3)))
    _, middle, bottom = picture.axes
    assert "exactly 0 throughout: embedding, attention, ff, ln" in texts(middle)
    assert "exactly 0 throughout: update ratio" in texts(bottom)
    assert picture.words.split("\n")[1:] == [
        "gradient norm: exactly 0 throughout for embedding, attention, ff, ln.",
        "update ratio: median 0, nothing moves.",
    ]
    picture.png()


def test_zeros_inside_a_stretch_are_not_lost_in_its_mean() -> None:
    records = [record(step, 2.0, grad_norm_ff=0.0 if step == 7 else 1.0) for step in range(1, 41)]
    picture = still(curves(records, most=5))
    assert "exactly 0 at some steps: ff" in texts(picture.axes[1])
    assert "exactly 0 at some steps for ff" in picture.words
    line = drawn(picture.axes[1])["ff"]
    assert line.get_xdata().size <= 5 and np.all(line.get_ydata() > 0.0)


def test_stretches_show_their_extremes() -> None:
    picture = still(losses([2.0, 4.0] * 20))
    assert picture.axes[0].collections[0].get_datalim(picture.axes[0].transData).y1 == 4.0
    run = curves([record(step, 2.0 + 2.0 * (step % 2)) for step in range(1, 41)], most=10)
    shaded = still(run).axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (shaded.min(), shaded.max()) == (2.0, 4.0)
    assert {point.mean for point in run.loss} == {3.0}


def test_a_loss_that_runs_away_leaves_the_rest_of_the_chart_to_be_read() -> None:
    picture = still(losses([5.0, 6.0, 9.0, 1e6, 3.6e12]))
    top = picture.axes[0]
    assert drawn(top)["loss: 3.6e+12"].get_ydata().tolist() == [5.0, 6.0, 9.0, 12.0, 12.0]
    assert top.get_ylim()[1] < 14.0
    assert "loss goes off the chart: up to 3.6e+12" in texts(top)
    assert "loss goes off the chart: up to 3.6e+12." in picture.words
    assert "off the chart" not in still(losses([5.0, 11.9])).words


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_a_gap_and_is_told(bad: float) -> None:
    picture = still(losses([3.0, 2.0, bad, 2.5], grad_norm_ff=bad, update_ratio=bad))
    y = drawn(picture.axes[0])["loss: 2.50"].get_ydata()
    assert np.isnan(y).tolist() == [False, False, True, False]
    lines = picture.words.split("\n")
    assert "loss: not finite at step 3." in lines
    assert (
        lines[2]
        == "gradient norm: above 0 at every step for embedding, attention, ln; not finite at some steps for ff."
    )
    picture.png()


def test_a_run_whose_last_losses_are_not_finite() -> None:
    picture = still(losses([math.inf, math.nan]))
    assert picture.words.split("\n")[0] == "loss: not finite in steps 1 to 2."
    picture.png()


def test_the_previous_run_is_thin_named_and_cut() -> None:
    ghost = losses(np.linspace(5.0, 3.0, 400), grad_norm_ff=0.0)
    picture = still(losses([5.0, 4.5, 4.0]), ghost)
    top, middle, bottom = picture.axes
    line = drawn(top)["previous run"]
    assert line.get_linewidth() < drawn(top)["loss: 4.00"].get_linewidth()
    assert 25 < line.get_xdata().max() <= 30 == 10 * 3
    assert top.get_title(loc="right") == "thin lines: previous run"
    assert drawn(middle)["ln, previous run"].get_color() == drawn(middle)["ln"].get_color()
    assert np.isnan(drawn(middle)["ff, previous run"].get_ydata()).all()
    assert drawn(bottom)["update ratio, previous run"].get_ydata()[0] == 1e-3
    assert (
        "previous run: starts at 5.00 nats, falls, ends under H1 (5.00) and above H2 (1.00)." in picture.words
    )
    assert top.get_xlim()[1] == pytest.approx(line.get_xdata().max(), abs=1.0)


def test_edits_stand_in_every_chart_and_their_names_do_not_meet() -> None:
    marks = [
        (3, "lr\n=  1"),
        (50, "zero-init on " + "and more " * 9),
        (51, "zero-init off"),
        (90, "clip $1 or $2"),
    ]
    picture = still(losses(np.linspace(5.0, 4.0, 100)), None, marks)
    for axes in picture.axes:
        assert [line.get_xdata() for line in axes.lines if line.get_label() == "edit"] == [
            [step, step] for step, _ in marks
        ]
    named = [text for text in picture.axes[0].texts if text.get_rotation() == 90.0]
    assert {text.get_text() for text in named} == {"lr = 1", "zero-init off", "clip $1 or $2"}
    assert not any(text.get_parse_math() for text in named)
    assert "Changed at step 3: lr = 1." in picture.words.split("\n")
    assert picture.words.count("Changed at step") == 4
    many = still(losses(np.linspace(5.0, 4.0, 100)), None, [(9 * i, f"edit {i}") for i in range(1, 11)])
    assert len([text for text in many.axes[0].texts if text.get_rotation() == 90.0]) == MOST_MARKS_NAMED
    picture.png()


def test_an_edit_after_the_last_step_is_inside() -> None:
    picture = still(losses([5.0, 4.0]), None, [(7, "wrong-sign on")])
    assert {axes.get_xlim() for axes in picture.axes} == {(1.0, 7.0)}


def test_one_step_can_be_seen() -> None:
    top, middle, _ = still(losses([5.0])).axes
    assert drawn(top)["loss: 5.00"].get_marker() == "o" == drawn(middle)["ff"].get_marker()


def test_losses_alone_are_a_picture_too() -> None:
    picture = still(Curves(loss=losses([5.0, 4.0]).loss))
    assert picture.words == "loss: starts at 5.00 nats, falls, ends under H1 (5.00) and above H2 (1.00)."


def test_the_ratio_is_placed_in_the_band_that_was_given() -> None:
    run = losses([5.0, 4.0], update_ratio=5e-3)
    assert "the median lies inside the healthy band of 3.0e-04 to 1.0e-02." in still(run).words
    narrow = still_picture(run, None, PLATEAUS, (1e-3, 2e-3), (), "a run")
    assert "the median lies above the healthy band of 1.0e-03 to 2.0e-03." in narrow.words


def test_threads_draw_the_same_picture_and_leave_matplotlib_alone() -> None:
    run = losses(np.linspace(5.0, 3.0, 50))
    alone, settings = still(run).png(), dict(matplotlib.rcParams)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(still(run).png())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 2
    assert dict(matplotlib.rcParams) == settings


def test_levels_that_are_not_there_are_not_drawn() -> None:
    picture = still_picture(losses([5.0, 4.0]), None, Plateaus(6.0, 5.0, 1.0), BAND, (), "a run")
    assert set(drawn(picture.axes[0])) == {"loss: 4.00", "ln V 6.00", "H1 5.00", "H2 1.00"}


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="run has no steps yet"):
        still(Curves())
    for band in ((0.0, 1.0), (1e-2, 1e-3), (1e-3, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="band must be"):
            still_picture(losses([5.0]), None, PLATEAUS, band, (), "a run")
