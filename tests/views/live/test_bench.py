"""The bench's widgets: what a press does, and what can be read afterwards."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ipywidgets
import numpy as np
import pandas
import pytest
from matplotlib.text import Text

import cllm_lab as lab
from cllm_lab.corpus.corpora import Corpus
from cllm_lab.faults.fault import Fault
from cllm_lab.model.config import ConfigError, ModelConfig
from cllm_lab.views.live import registry
from cllm_lab.views.live.bench import Bench
from cllm_lab.views.live.controls import PANELS
from cllm_lab.views.live.runner import Runner
from cllm_lab.views.picture import Picture
from tests.views.live.runs import (
    NAN_LOSS,
    OwnFault,
    assert_repeats,
    every_html,
    made_by,
    own_threads,
    small_setup,
    switch_off_buttons,
    until,
)

CATALOGUE = lab.faults.catalogue()


@pytest.fixture
def make():
    """Makes benches; none of their threads may be left. Of an exception in one pytest makes an error itself."""
    made = []

    def bench(setup=None, **choices) -> Bench:
        made.append(Bench(Runner(small_setup(**choices) if setup is None else setup)))
        return made[-1]

    yield bench
    for each in made:
        each.close()
    assert own_threads() == []


def press(bench: Bench, *names: str) -> None:
    """Presses buttons, and waits after each until everything is drawn."""
    for name in names:
        getattr(bench._controls, name).click()
        bench.wait()


def turn(bench: Bench, name: str, value) -> None:
    getattr(bench._controls, name).value = value
    bench.wait()


def status(bench: Bench) -> str:
    return bench._controls.status.value


def notice(bench: Bench) -> str:
    return bench._controls.notice.value


def knobs(bench: Bench) -> dict[str, object]:
    names = ("learning_rate", "clips", "clip_norm", "optimizer", "schedule", "epochs", "seed", "held_out")
    return {name: getattr(bench._controls, name).value for name in names}


# The knobs show what is wanted.


def test_the_knobs_begin_with_what_is_wanted(make):
    train = replace(
        small_setup().train,
        learning_rate=0.5,
        clip_norm=2.5,
        optimizer="sgd",
        schedule="cosine",
        validation_fraction=0.25,
    )
    assert knobs(make(train=train, epochs=7, seed=11)) == {
        "learning_rate": 0.5,
        "clips": True,
        "clip_norm": 2.5,
        "optimizer": "sgd",
        "schedule": "cosine",
        "epochs": 7,
        "seed": 11,
        "held_out": 0.25,
    }
    unclipped = make(train=replace(train, clip_norm=None), epochs=7)
    assert knobs(unclipped)["clips"] is False


def test_a_command_from_a_cell_moves_the_knobs_too(make):
    bench = make()
    bench.change(learning_rate=0.25, clip_norm=None, optimizer="momentum")
    bench.new_run(seed=9)
    shown = knobs(bench)
    assert (shown["learning_rate"], shown["clips"], shown["optimizer"], shown["seed"]) == (
        0.25,
        False,
        "momentum",
        9,
    )


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("learning_rate", 0.125, {"learning_rate": 0.125}),
        ("clip_norm", 3.0, {"clip_norm": 3.0}),
        ("clips", False, {"clip_norm": None}),
        ("optimizer", "sgd", {"optimizer": "sgd"}),
    ],
)
def test_a_knob_that_is_turned_acts_at_the_next_step(make, name, value, wanted):
    bench = make()
    bench.run(2)
    turn(bench, name, value)
    press(bench, "step")
    assert {key: getattr(bench.trainer.config, key) for key in wanted} == wanted
    assert notice(bench) == ""


def test_the_rate_is_halved_and_doubled(make):
    bench = make()
    press(bench, "halve", "halve", "double")
    assert bench.runner.setup.train.learning_rate == 0.005 == bench._controls.learning_rate.value


def test_epochs_end_a_run_and_none_is_written_as_nothing(make):
    bench = make()
    turn(bench, "epochs", 2)
    turn(bench, "schedule", "cosine")
    press(bench, "start")
    assert bench.runner.state == "finished" and "epoch 2 of 2" in status(bench)
    turn(bench, "schedule", "constant")
    turn(bench, "epochs", 0)
    assert bench.runner.setup.epochs is None


def test_clipping_can_be_switched_on_where_a_run_began_without(make):
    bench = make(train=replace(small_setup().train, clip_norm=None))
    turn(bench, "clips", True)
    assert notice(bench) == ""
    assert bench.runner.setup.train.clip_norm == bench._controls.clip_norm.value > 0.0


@pytest.mark.parametrize("speed", ["2 steps/s", "10 steps/s", "full speed"])
def test_the_speed_is_the_runners(make, monkeypatch, speed):
    bench = make()
    asked = []
    monkeypatch.setattr(bench.runner, "set_speed", asked.append)
    turn(bench, "speed", "10 steps/s" if speed == "2 steps/s" else "2 steps/s")
    turn(bench, "speed", speed)
    assert asked[-1] == {"2 steps/s": 2.0, "10 steps/s": 10.0, "full speed": None}[speed]


# What cannot work is said, and the knobs show what is wanted again.


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("learning_rate", -1.0, "learning_rate must be a finite number of at least 0"),
        ("learning_rate", float("nan"), "learning_rate must be a finite number"),
        ("clip_norm", 0.0, "clip_norm must be a finite number above 0"),
        ("clip_norm", -2.0, "clip_norm must be a finite number above 0"),
        ("epochs", -3, "epochs must be a whole number of at least 1"),
        ("schedule", "cosine", "set epochs, or total_steps"),
    ],
)
def test_bad_input_is_said_and_taken_back(make, name, value, said):
    bench = make()
    bench.run(2)
    before, setup = knobs(bench), bench.runner.setup
    turn(bench, name, value)
    assert said in notice(bench) and 'role="alert"' in notice(bench)
    assert knobs(bench) == before and bench.runner.setup is setup
    press(bench, "step")
    assert notice(bench) == "" and bench.trainer.steps_done == 3


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("seed", -1, "seed"), ("held_out", 1.5, "validation_fraction"), ("held_out", 1e-6, "holds out 0 of 49")],
)
def test_a_new_run_that_cannot_be_is_said_and_the_old_one_stays(make, name, value, said):
    bench = make()
    bench.run(2)
    before = knobs(bench)
    turn(bench, name, value)
    press(bench, "new_run")
    assert said in notice(bench) and 'role="alert"' in notice(bench)
    # What was typed stays, to be mended.
    assert knobs(bench) == {**before, name: value} and "step 2" in status(bench)


def test_a_command_from_a_cell_raises_what_a_press_says(make):
    bench = make()
    with pytest.raises(ConfigError, match="learning_rate"):
        bench.change(learning_rate=-1.0)
    with pytest.raises(ValueError, match="no fault 'zero'"):
        bench.set_faults(["zero"])


# Buttons.


def test_the_buttons_drive_the_run_and_the_status_follows(make):
    bench = make()
    assert "<b>Ready</b>" in status(bench) and "step 0" in status(bench)
    bench._controls.start.click()
    until(lambda: bench.runner.frame().step > 3)
    press(bench, "pause")
    taken = bench.trainer.steps_done
    assert "<b>Paused</b>" in status(bench) and f"step {taken}" in status(bench)
    press(bench, "step")
    assert f"step {taken + 1}" in status(bench)
    press(bench, "stop")
    assert "<b>Stopped</b>" in status(bench)
    press(bench, "reset")
    assert "<b>Ready</b>" in status(bench) and "step 0" in status(bench)
    assert bench.runner.frame().ghost is not None


def test_four_presses_of_phase_are_read_one_by_one(make):
    bench = make()
    for name, then in (
        ("forward", "next: loss"),
        ("loss", "next: backward"),
        ("backward", "next: update"),
        ("update", "the step is done"),
    ):
        press(bench, "phase")
        table = bench._controls.phases.value
        assert f'<th scope="row">{name}</th>' in table and then in table and "Step 1 by phases" in table


def test_run_waits_for_the_drawing_and_says_what_went_wrong(make):
    bench = make()
    bench.run(5)
    assert "step 5" in status(bench) and own_threads() == []
    bench.set_faults([NAN_LOSS])
    with pytest.raises(RuntimeError, match="NonFiniteError: step 6"):
        bench.run(5)
    assert "<b>Failed</b>" in status(bench)
    assert 'role="alert"' in bench._controls.words.value and "NonFiniteError" in bench._controls.words.value


def test_what_is_done_while_the_run_rests_is_drawn(make):
    bench = make()
    bench.run(2)
    words = bench._controls.words.value
    press(bench, "reset")
    assert bench._controls.words.value != words and "Nothing trained yet" in bench._controls.words.value
    bench.set_faults(["wrong-sign"])
    assert "acts from the first step on" in bench._controls.fault_list.children[0].children[1].value


def test_the_pictures_follow_the_run(make):
    bench = make()
    names = ("loss", "norms", "update")
    before = [getattr(bench._controls, name).value for name in names]
    bench.run(6)
    after = [getattr(bench._controls, name).value for name in names]
    assert all(one != other and "<svg" in other for one, other in zip(before, after, strict=True))
    assert "no steps yet" not in bench._controls.attention.value
    bench.change(learning_rate=0.25)
    bench.run(1)
    assert all("rate 0.25" in getattr(bench._controls, name).value for name in names)


def test_a_machine_without_attention_says_so_in_the_place_of_the_maps(make):
    bench = make(model=replace(small_setup().model, attention="none"))
    press(bench, "step")
    assert "No attention weights in this machine" in bench._controls.attention.value


# Faults.


def test_a_fault_is_found_by_its_title_or_its_id(make):
    bench = make()
    offered = bench._controls.fault.options
    assert len(offered) == len(CATALOGUE)
    for given in (next(each for each in offered if each.startswith("wrong-sign:")), " no-clipping "):
        turn(bench, "fault", given)
        press(bench, "switch_on")
        assert notice(bench) == "" and bench._controls.fault.value == ""
    assert [fault.id for fault in bench.runner.setup.faults] == ["wrong-sign", "no-clipping"]


def test_the_note_says_when_a_fault_would_act(make):
    bench = make()
    for name, when in (
        ("wrong-sign", "at the next step"),
        ("zero-init", "after Reset"),
        ("token-sorting", "in a new run"),
    ):
        turn(bench, "fault", f"{name}: {CATALOGUE[name].title}")
        assert when in bench._controls.fault_note.value
    turn(bench, "fault", "something that is being typed")
    assert bench._controls.fault_note.value == ""


def test_the_list_says_what_each_fault_does_and_switches_it_off(make):
    bench = make()
    bench.run(2)
    for name in ("wrong-sign", "zero-init"):
        turn(bench, "fault", name)
        press(bench, "switch_on")
    lines = [line.children[1].value for line in bench._controls.fault_list.children]
    assert lines == [
        "<b>wrong-sign</b>: acts from the next step on",
        "<b>zero-init</b>: waits: acts after Reset",
    ]
    press(bench, "step")
    assert "<b>wrong-sign</b>: acts" == bench._controls.fault_list.children[0].children[1].value
    press(bench, "reset", "step")
    for button in switch_off_buttons(bench):
        button.click()
        bench.wait()
    press(bench, "step")
    [line] = bench._controls.fault_list.children
    assert line.children[-1].value == ("<b>zero-init</b>: switched off, but its weights stay until Reset")
    press(bench, "reset")
    assert bench._controls.fault_list.children == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("zero-int", "did you mean &#x27;zero-init&#x27;"),
        ("", "no fault &#x27;&#x27;"),
        ("<script>", "no fault &#x27;&lt;script&gt;&#x27;"),
    ],
)
def test_an_unknown_fault_is_said_and_stays_to_be_mended(make, given, said):
    bench = make()
    turn(bench, "fault", given)
    press(bench, "switch_on")
    assert said in notice(bench) and bench._controls.fault.value == given
    assert bench.runner.setup.faults == ()


def test_two_faults_in_one_slot_are_refused_by_name(make):
    bench = make(faults=(CATALOGUE["wrong-sign"],))
    turn(bench, "fault", "mse-gradient")
    press(bench, "switch_on")
    assert "wrong-sign" in notice(bench) and "mse-gradient" in notice(bench)
    assert [fault.id for fault in bench.runner.setup.faults] == ["wrong-sign"]


def test_a_fault_that_is_on_already_is_not_put_in_twice(make):
    bench = make(faults=(CATALOGUE["wrong-sign"],))
    turn(bench, "fault", "wrong-sign")
    press(bench, "switch_on")
    assert notice(bench) == "" and len(bench.runner.setup.faults) == 1


# Taking along.


SAVES = {
    "save_history": [".csv"],
    "save_picture": [".png", ".svg"],
    "save_checkpoint": [".safetensors"],
    "save_console": [".txt"],
}


@pytest.mark.parametrize(("button", "suffixes"), SAVES.items())
def test_everything_can_be_saved_beside_the_notebook(make, tmp_path, monkeypatch, button, suffixes):
    monkeypatch.chdir(tmp_path)
    bench = make()
    bench.run(6)
    turn(bench, "file_name", "my run")
    press(bench, button, button)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"my run{number}{suffix}" for number in ("", "-2") for suffix in suffixes}
    said = bench._controls.saved.value
    assert all(f"my run-2{suffix}" in said for suffix in suffixes) and 'role="status"' in said
    assert bench.runner.state == "paused"


def test_what_was_saved_is_the_run(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench = make()
    bench.run(6)
    press(bench, *SAVES)
    table = pandas.read_csv(tmp_path / "live_run.csv", engine="python")
    assert table["loss"].tolist() == bench.trainer.history.losses
    again = lab.Trainer.load(tmp_path / "live_run.safetensors")
    assert (again.params.flat == bench.trainer.params.flat).all() and again.steps_done == 6
    console = (tmp_path / "live_run.txt").read_text(encoding="utf-8")
    assert console.splitlines() == list(bench.runner.frame().console) != []
    assert b"PNG" in (tmp_path / "live_run.png").read_bytes()[:8]


def test_a_checkpoint_can_be_saved_while_it_trains(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench = make()
    bench._controls.start.click()
    until(lambda: bench.runner.frame().step > 3)
    bench._controls.save_checkpoint.click()
    until(lambda: "Saved" in bench._controls.saved.value)
    press(bench, "stop")
    again = lab.Trainer.load(tmp_path / "live_run.safetensors")
    assert again.history.losses == bench.trainer.history.losses[: again.steps_done]
    again.run(steps=bench.trainer.steps_done - again.steps_done + 1)
    bench.run(1)
    assert (again.params.flat == bench.trainer.params.flat).all()


@pytest.mark.parametrize("button", SAVES)
def test_before_the_first_step_there_is_nothing_to_save(make, tmp_path, monkeypatch, button):
    monkeypatch.chdir(tmp_path)
    bench = make()
    press(bench, button)
    assert "train at least one step" in bench._controls.saved.value
    assert list(tmp_path.iterdir()) == [] and bench.runner.state == "ready"


@pytest.mark.parametrize("name", ["", "..", "a/b", "<b>/"])
def test_a_name_that_is_none_is_said(make, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    bench = make()
    bench.run(1)
    turn(bench, "file_name", name)
    press(bench, "save_history")
    said = bench._controls.saved.value
    assert "name must be that of a file" in said and 'role="alert"' in said and "<b>" not in said
    assert bench.runner.state == "paused" and list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_said_and_the_run_goes_on(make, tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    bench = make()
    bench.run(2)
    folder.rmdir()
    press(bench, "save_history")
    monkeypatch.chdir(tmp_path)
    assert 'role="alert"' in bench._controls.saved.value
    assert bench.runner.state == "paused" and bench.runner.error == ""


def test_a_file_that_cannot_be_written_is_said(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    bench = make()
    bench.run(1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        press(bench, "save_console")
    assert "No space left on device" in bench._controls.saved.value
    assert list(tmp_path.iterdir()) == []


def test_the_run_is_written_down_as_python_that_repeats_it(make, tmp_path):
    bench = make()
    bench.run(2)
    turn(bench, "learning_rate", 0.125)
    turn(bench, "fault", "wrong-sign")
    press(bench, "switch_on", "step", "write_down")
    written = bench._controls.recipe.value
    assert written == bench.recipe()
    again = made_by(written, tmp_path)["trainer"]
    assert again.history.losses == bench.trainer.history.losses
    assert_repeats(bench.runner, tmp_path)


# New runs.


def test_a_new_run_has_the_text_the_machine_and_the_seed_that_were_chosen(make):
    bench = make()
    bench.run(2)
    turn(bench, "corpus", "copied blocks")
    turn(bench, "size", "d=32, 1 layer")
    turn(bench, "seed", 5)
    turn(bench, "held_out", 0.25)
    press(bench, "new_run")
    setup = bench.runner.setup
    assert setup.corpus == lab.InductionLanguage(n_symbols=8)
    assert (setup.model.d_model, setup.model.n_layers, setup.model.vocab_size) == (32, 1, 8)
    assert setup.seed == setup.train.seed == 5 and setup.train.validation_fraction == 0.25
    assert bench._controls.corpus.value == bench._controls.size.value == "as it is"
    bench.run(1)
    assert bench.trainer.corpus == setup.corpus and "step 1" in status(bench)


# Safe: what comes from a text, a fault or an error is text.


def test_markup_in_the_text_stays_text(make):
    corpus = Corpus.from_text("<script>alert(1)</script> <img src=x onerror=y> & " * 20)
    model = replace(small_setup().model, vocab_size=corpus.vocab_size)
    bench = make(corpus=corpus, model=model)
    runner = bench.runner
    press(bench, "step")
    until(lambda: bench.run(5) or runner.frame().glance.text != "")
    for panel in range(len(PANELS)):
        bench._controls.panels.selected_index = panel
    shown = every_html(bench)
    assert "<script>" not in shown and "<img src" not in shown
    assert "&lt;script&gt;" in bench._controls.text.value
    assert "&lt;script&gt;" in bench._controls.attention.value


def test_markup_in_a_fault_and_in_an_error_stays_text(make):
    def part(*arguments):
        raise KeyError("<script>alert(2)</script>")

    fault = Fault("<i>mine</i>", "<u>title</u>", {"clipping": part}, "here", "<b>it</b>", "so", "end it")
    bench = make()
    bench.set_faults([fault, OwnFault("<img src=x>", {})])
    bench.start(2)
    bench.wait()
    bench._controls.write_down.click()
    shown = every_html(bench)
    assert "&lt;i&gt;mine" in shown and "&lt;script&gt;" in shown and "&lt;img src" in shown
    for markup in ("<script>", "<i>mine", "<u>", "<img src"):
        assert markup not in shown


# Panels.


def test_a_panel_is_drawn_when_it_is_opened_and_while_it_is_open(make):
    bench = make()
    console = bench._controls.console
    bench.run(5)
    assert console.value == ""
    bench._controls.panels.selected_index = PANELS.index("Console")
    assert "Gradient" in console.value or "gradient" in console.value
    lines = console.value
    bench.run(5)
    assert console.value != lines and "Epoch 3" in console.value
    assert PANELS == bench._controls.panels.titles


# The picture that stays.


def captions(picture: Picture) -> list[str]:
    return [text.get_text() for text in picture.findobj(Text) if "steps" in text.get_text()]


class Handle:
    """As much of a display handle as a bench uses, with a note of which step each picture shows."""

    def __init__(self, bench: Bench, also: Callable[[], None] = lambda: None) -> None:
        self.bench, self.also = bench, also
        self.steps: list[str] = []
        bench._handles.append(self)

    def update(self, data: Any, **options: Any) -> None:
        picture = self.bench.picture()
        assert data["image/png"] == picture.png() and data["text/plain"] == picture.words
        self.steps += captions(picture)
        self.also()


def test_the_picture_says_what_it_shows(make):
    bench = make(faults=(CATALOGUE["wrong-sign"],))
    bench.run(6)
    picture = bench.picture()
    assert isinstance(picture, Picture) and "6 steps, wrong-sign" in captions(picture)
    assert picture.words.startswith("loss: starts at")


@pytest.mark.parametrize("halt", ["pause", "stop", "step"])
def test_the_picture_stays_when_a_run_rests(make, halt):
    bench = make()
    handle = Handle(bench)
    bench._controls.start.click()
    until(lambda: bench.runner.frame().step > 3)
    press(bench, halt)
    assert handle.steps[-1] == f"{bench.trainer.steps_done} steps"


def test_a_step_that_is_over_before_anyone_looks_leaves_its_picture(make, monkeypatch):
    bench = make()
    bench.run(2)
    handle = Handle(bench)
    show = bench._show_wanted
    monkeypatch.setattr(bench, "_show_wanted", lambda: (show(), bench.runner.wait()))
    press(bench, "step")
    assert handle.steps[-1] == "3 steps"


def test_what_is_pressed_while_the_picture_is_drawn_is_drawn_too(make):
    bench = make()

    def press_step_once() -> None:
        handle.also = lambda: None
        thread = threading.Thread(target=lambda: (bench.step(), bench.runner.wait()))
        thread.start()
        thread.join()

    handle = Handle(bench, press_step_once)
    bench.run(2)
    assert bench.trainer.steps_done == 3
    assert "step 3" in status(bench) and handle.steps[-1] == "3 steps"


def test_a_bench_that_is_shown_leaves_a_place_for_its_picture(make, monkeypatch):
    bench, shown = make(), []

    def display(*data, **options):
        shown.append((data, options))
        if options.get("display_id"):
            handle = Handle(bench)
            bench._handles.remove(handle)
            return handle
        return None

    monkeypatch.setattr("IPython.display.display", display)
    bench._ipython_display_()
    assert [options for _, options in shown] == [{"raw": True}, {"display_id": True}]
    assert "application/vnd.jupyter.widget-view+json" in shown[0][0][0]
    [handle] = bench._handles
    assert handle.steps == []
    bench.run(2)
    assert handle.steps == ["2 steps"]
    bench._ipython_display_()
    assert bench._handles[-1].steps == ["2 steps"], "shown again, it has its picture at once"


# Life and end.


def test_live_begins_with_the_shipped_text_and_the_default_machine():
    bench = lab.live()
    setup = bench.runner.setup
    assert setup.corpus.name == "large" and setup.model == ModelConfig(vocab_size=setup.corpus.vocab_size)
    assert bench.trainer is None and own_threads() == []
    bench.close()


def test_live_takes_a_trainer_epochs_and_a_name():
    given = small_setup().trainer()
    bench = lab.live(given, epochs=2, name="mine")
    assert bench.runner.setup.epochs == 2 and bench._controls.file_name.value == "mine"
    bench.start()
    bench.wait()
    assert bench.trainer is given and bench.runner.state == "finished"
    bench.close()


def test_live_refuses_what_is_no_trainer_and_a_schedule_without_an_end():
    with pytest.raises(TypeError, match="must be a Trainer or a Setup; got str"):
        lab.live("large")
    train = replace(small_setup().train, schedule="step")
    with pytest.raises(ConfigError, match="set epochs"):
        lab.live(small_setup(train=train, epochs=2).trainer())


def test_a_closed_bench_has_stopped_and_leaves_no_widget():
    widgets_before = set(ipywidgets.widgets.widget._instances)
    bench = Bench(Runner(small_setup()))
    bench.set_faults(["wrong-sign"])
    bench.start()
    until(lambda: bench.runner.frame().step > 2)
    bench.close()
    assert bench.runner.state == "stopped" and own_threads() == []
    left = [
        widget
        for key, widget in ipywidgets.widgets.widget._instances.items()
        if key not in widgets_before and not isinstance(widget, ipywidgets.Layout)
    ]
    styles = [widget for widget in left if type(widget).__name__.endswith("Style")]
    assert [widget for widget in left if widget not in styles] == []


def test_faults_that_come_and_go_leave_no_widget(make):
    bench = make()
    count = []
    for _ in range(3):
        bench.set_faults(["wrong-sign", "zero-init"])
        bench.set_faults([])
        count.append(
            sum(
                isinstance(each, ipywidgets.Button | ipywidgets.HTML | ipywidgets.HBox)
                for each in ipywidgets.widgets.widget._instances.values()
            )
        )
    assert len(set(count)) == 1


def test_the_numbers_on_the_bench_are_those_of_the_trainer(make):
    bench = make(dtype="float64")
    bench.run(4)
    [shown] = [record for record in bench.runner.frame().recent if record.step == 4]
    assert shown == bench.trainer.history[-1]
    assert np.isfinite(shown.loss) and registry.running_cell() == ("", "")
