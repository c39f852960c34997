"""What the bench says, from frames made by hand."""

from dataclasses import replace

import pytest

import cllm_lab as lab
from cllm_lab.clinic.instrument_words import instrument_words
from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.faults.fault import Fault
from cllm_lab.training.config import OPTIMIZERS
from cllm_lab.training.history import StepRecord
from cllm_lab.training.phases import PHASES, Phase
from cllm_lab.views.live import texts
from cllm_lab.views.live.glances import Glance
from cllm_lab.views.live.runner import STATES, Frame
from cllm_lab.views.live.series import Curves
from tests.views.live.runs import OwnFault

CATALOGUE = lab.faults.catalogue()
WRONG_SIGN, ZERO_INIT, SORTED = (CATALOGUE[each] for each in ("wrong-sign", "zero-init", "token-sorting"))
PLATEAUS = Plateaus(uniform=1.75, unigram=1.5, bigram=1.25)
MARKUP = '<script>alert("it\'s")</script>'
ESCAPED = "&lt;script&gt;alert(&quot;it&#x27;s&quot;)&lt;/script&gt;"


def frame(**choices) -> Frame:
    """A run that has not begun, save what is said."""
    empty = Frame(
        state="ready",
        goes_back=False,
        run=0,
        step=0,
        epoch=0,
        epochs=None,
        curves=Curves(),
        ghost=None,
        marks=(),
        recent=(),
        plateaus=PLATEAUS,
        optimizer="adam",
        faults=(),
        waiting=(),
        lingering=(),
        glance=Glance(),
        phases=(),
        console=(),
        seconds=0.0,
        tokens_per_second=None,
        remaining=None,
        error="",
    )
    return replace(empty, **choices)


def record(step: int, loss: float, norm: float = 0.25) -> StepRecord:
    return StepRecord(step, 1, loss, 1e-3, norm, 1e-3, norm, norm, norm, norm, tokens=16, seconds=0.5)


# The line of the state.


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_word_and_a_class(state):
    said = texts.status(frame(state=state))
    assert f"<b>{state.capitalize()}</b>" in said and f"cllm-state-{state}" in said


def test_the_status_says_step_epoch_speed_and_times():
    said = texts.status(
        frame(
            state="running",
            step=12345,
            epoch=2,
            epochs=7,
            seconds=61.9,
            tokens_per_second=20345.6,
            remaining=3600.0,
        )
    )
    inside = said[said.index("<b>") : said.index("</div>")]
    assert inside.split(" · ") == [
        "<b>Running</b>",
        "step 12,345",
        "epoch 2 of 7",
        "20,346 tokens/s",
        "1:01 of training",
        "1:00:00 left",
    ]


def test_what_is_not_known_is_not_said():
    said = texts.status(frame(state="running", step=3, epoch=1))
    assert "tokens/s" not in said and "left" not in said and "epoch 1 ·" in said and " of " in said
    assert "left" not in texts.status(frame(state="paused", remaining=12.0)), "a run that rests has no end"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0:00"),
        (0.99, "0:00"),
        (59.9, "0:59"),
        (60.0, "1:00"),
        (605.0, "10:05"),
        (3599.9, "59:59"),
        (3600.0, "1:00:00"),
        (90061.0, "25:01:01"),
    ],
)
def test_a_duration_is_read_as_a_clock(seconds, said):
    assert texts.duration(seconds) == said


# The line of words.


def test_before_the_first_step_the_levels_are_said():
    said = texts.words(frame())
    for number in ("ln V = 1.7500", "H1 = 1.5000", "H2 = 1.2500"):
        assert number in said
    assert 'role="status"' in said


def test_the_words_are_those_of_the_instruments_for_this_optimizer():
    records = tuple(record(step, 1.75) for step in range(1, 31))
    for optimizer, family in (("sgd", "sgd"), ("adamw", "adam")):
        said = texts.words(frame(recent=records, optimizer=optimizer))
        assert texts.escaped(instrument_words(records, PLATEAUS, family)) in said
    assert "flat" in said and "ln V" in said


def test_what_went_wrong_takes_the_place_of_the_words_and_is_escaped():
    said = texts.words(frame(error=MARKUP, recent=(record(1, 1.0),)))
    assert ESCAPED in said and MARKUP not in said and 'role="alert"' in said and "loss" not in said.lower()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_has_a_family_with_a_band(optimizer):
    wanted = "adam" if optimizer.startswith("adam") else "sgd"
    assert texts.family(frame(optimizer=optimizer)) == wanted


def test_the_levels_have_the_names_of_the_words_and_no_more_than_there_are():
    assert texts.levels(frame()) == {"ln V": 1.75, "H1": 1.5, "H2": 1.25}
    assert list(texts.levels(frame())) == ["ln V", "H1", "H2"]


# Faults.


def test_a_note_says_what_a_fault_is_and_when_it_acts():
    assert texts.fault_note(None) == ""
    for fault, when in (
        (WRONG_SIGN, "Acts at the next step."),
        (ZERO_INIT, "Acts after Reset."),
        (SORTED, "Acts after Reset or in a new run."),
    ):
        said = texts.fault_note(fault)
        assert when in said and texts.escaped(fault.title) in said and texts.escaped(fault.symptom) in said


def test_a_note_escapes_title_and_symptom():
    said = texts.fault_note(Fault("mine", MARKUP, {}, "here", MARKUP, "so", "end it"))
    assert said.count(ESCAPED) == 2 and "<script" not in said
    assert ESCAPED in texts.fault_note(OwnFault(MARKUP))


def states(wanted, **choices) -> list[tuple[str, str]]:
    return [(fault.id, said) for fault, said in texts.fault_states(frame(**choices), wanted)]


def test_a_fault_that_is_wanted_acts_will_act_or_waits():
    wanted = (WRONG_SIGN, ZERO_INIT, SORTED)
    assert states(wanted, faults=wanted) == [
        ("wrong-sign", "acts from the first step on"),
        ("zero-init", "acts from the first step on"),
        ("token-sorting", "acts from the first step on"),
    ]
    assert states(wanted, step=3, faults=(WRONG_SIGN,), waiting=(ZERO_INIT, SORTED)) == [
        ("wrong-sign", "acts"),
        ("zero-init", "waits: acts after Reset"),
        ("token-sorting", "waits: acts after Reset or in a new run"),
    ]
    assert states((WRONG_SIGN,), step=3) == [("wrong-sign", "acts from the next step on")]


def test_a_fault_that_is_not_wanted_any_more_goes_or_lingers():
    assert states((), step=3, faults=(WRONG_SIGN,)) == [("wrong-sign", "switched off from the next step on")]
    assert states((), step=3, faults=(SORTED,), lingering=(ZERO_INIT, SORTED)) == [
        ("zero-init", "switched off, but its weights stay until Reset"),
        ("token-sorting", "switched off, but its stream of tokens stays until Reset"),
    ]
    assert states((), step=3) == []


def test_where_a_reset_goes_back_to_a_trained_machine_a_new_run_is_needed():
    wanted = (ZERO_INIT, SORTED)
    assert {said for _, said in states(wanted, step=3, goes_back=True, waiting=wanted)} == {
        "waits: acts in a new run"
    }
    lingering = states((), step=3, goes_back=True, faults=(SORTED,), lingering=wanted)
    assert [said.partition("until ")[2] for _, said in lingering] == ["a new run", "a new run"]


# Phases, text, console, notices.


def phases_up_to(count: int) -> tuple[Phase, ...]:
    return tuple(Phase(name, 8, {"loss": 1.23456, "<b>": 0.0}) for name in PHASES[:count])


def test_before_the_first_phase_the_panel_says_what_there_is_to_press():
    said = texts.phases(frame())
    assert "Press Phase" in said and ", ".join(PHASES) in said


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_phases_are_a_table_that_says_what_comes_next(count):
    said = texts.phases(frame(phases=phases_up_to(count)))
    rows = [f'<tr><th scope="row">{name}</th>' for name in PHASES[:count]]
    assert [said.index(row) for row in rows] == sorted(said.index(row) for row in rows)
    assert said.count("<tr>") == count and "Step 8 by phases" in said
    then = "the step is done" if count == len(PHASES) else f"next: {PHASES[count]}"
    assert f"by phases; {then}</caption>" in said
    assert "loss 1.235" in said and "&lt;b&gt; 0" in said


def test_the_text_says_when_it_was_begun_and_is_escaped():
    assert "No text yet" in texts.sample(frame())
    said = texts.sample(frame(glance=Glance(text=f"the sky {MARKUP}", text_step=1200)))
    assert f"the sky {ESCAPED}" in said and "begun after step 1,200" in said and "<script" not in said


def test_where_no_attention_is_drawn_the_reason_is_said():
    assert "no steps yet" in texts.no_attention(frame())
    assert "No attention weights" in texts.no_attention(frame(glance=Glance(looked=True)))


def test_the_console_shows_its_latest_lines_escaped():
    assert "No line yet" in texts.console(frame())
    lines = tuple(f"line {number} {MARKUP}" for number in range(50))
    said = texts.console(frame(console=lines))
    shown = said[said.index(">") + 1 : said.index("</pre>")].split("\n")
    assert shown == [f"line {number} {ESCAPED}" for number in range(50 - texts.SHOWN_LINES, 50)]


def test_a_notice_says_whether_it_is_an_error_and_nothing_where_there_is_nothing():
    assert texts.notice("") == texts.notice("", is_error=True) == ""
    assert texts.notice("Saved.") == '<div class="cllm-done" role="status">Saved.</div>'
    assert texts.notice(MARKUP, is_error=True) == f'<div class="cllm-error" role="alert">{ESCAPED}</div>'


def test_a_line_break_in_what_is_said_cannot_make_a_line_of_its_own():
    assert "\n" not in texts.notice("one\ntwo") and "one\\ntwo" in texts.notice("one\ntwo")
