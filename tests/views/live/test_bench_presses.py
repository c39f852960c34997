"""Whatever is pressed on the bench itself, in any order and however fast, does no harm."""

import re
import tempfile
import threading
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cllm_lab.training.config import OPTIMIZERS, SCHEDULES
from cllm_lab.views.live.bench import Bench
from cllm_lab.views.live.controls import PANELS
from cllm_lab.views.live.runner import Runner
from cllm_lab.views.live.texts import STATE_WORDS
from tests.views.live.runs import assert_repeats, done, own_threads, small_setup, switch_off_buttons

BUTTONS = ("start", "pause", "step", "phase", "stop", "reset", "halve", "double", "new_run", "write_down")
FAULTS = (
    "wrong-sign",
    "mse-gradient",
    "zero-init",
    "init-too-large",
    "vanishing-gradient",
    "token-sorting",
    "unshifted-targets",
    "learning-rate-high",
    "no such fault",
    "",
)


class BenchPresses(RuleBasedStateMachine):
    """Somebody at the widgets of a bench. What a bench cannot do it says, and never raises."""

    from_another_thread = False

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[threading.ExceptHookArgs] = []
        self.hook, threading.excepthook = threading.excepthook, self.broken.append
        self.bench = Bench(Runner(small_setup()))
        self.controls = self.bench._controls

    def press(self, action) -> None:
        if not self.from_another_thread:
            action()
            return
        thread = threading.Thread(target=action)
        thread.start()
        thread.join()

    def turn(self, name, value) -> None:
        self.press(lambda: setattr(getattr(self.controls, name), "value", value))

    @rule(button=st.sampled_from(BUTTONS))
    def press_a_button(self, button) -> None:
        self.press(getattr(self.controls, button).click)

    @rule(button=st.sampled_from(("step", "phase", "start")), again=st.integers(2, 4))
    def press_a_button_again_and_again(self, button, again) -> None:
        for _ in range(again):
            self.press(getattr(self.controls, button).click)

    @rule(
        name=st.sampled_from(("learning_rate", "clip_norm")),
        value=st.sampled_from((-1.0, 0.0, 1e-3, 0.5, 2.0)),
    )
    def type_a_number(self, name, value) -> None:
        self.turn(name, value)

    @rule(clips=st.booleans())
    def tick(self, clips) -> None:
        self.turn("clips", clips)

    @rule(optimizer=st.sampled_from(OPTIMIZERS))
    def choose_the_optimizer(self, optimizer) -> None:
        self.turn("optimizer", optimizer)

    @rule(schedule=st.sampled_from(SCHEDULES))
    def choose_the_schedule(self, schedule) -> None:
        self.turn("schedule", schedule)

    @rule(epochs=st.integers(-1, 5))
    def type_the_epochs(self, epochs) -> None:
        self.turn("epochs", epochs)

    @rule(name=st.sampled_from(FAULTS))
    def switch_a_fault_on(self, name) -> None:
        self.turn("fault", name)
        self.press(self.controls.switch_on.click)

    # No precondition: which buttons there are depends on how far the threads are, and what is drawn must not.
    @rule(place=st.integers(0, 5))
    def switch_a_fault_off(self, place) -> None:
        buttons = switch_off_buttons(self.bench)
        if buttons:
            self.press(buttons[place % len(buttons)].click)

    @rule(seed=st.integers(-1, 2), held_out=st.sampled_from((0.0, 0.25, 2.0)))
    def fill_in_a_new_run(self, seed, held_out) -> None:
        self.turn("seed", seed)
        self.turn("held_out", held_out)

    @rule(panel=st.integers(0, len(PANELS) - 1))
    def open_a_panel(self, panel) -> None:
        self.press(lambda: setattr(self.controls.panels, "selected_index", panel))

    @rule(speed=st.sampled_from(("full speed", "10 steps/s")))
    def choose_the_speed(self, speed) -> None:
        self.turn("speed", speed)

    @rule()
    def wait_a_moment(self) -> None:
        self.bench.runner.wait(0.01)

    @invariant()
    def one_thread_trains_and_one_draws(self) -> None:
        alive = own_threads()
        assert alive.count("cllm_lab bench") <= 1 and alive.count("cllm_lab drawing") <= 1
        assert self.broken == []

    def teardown(self) -> None:
        try:
            self.press(self.controls.stop.click)
            done(self.bench.runner)
            self.bench.wait()
            assert own_threads() == []
            assert self.broken == []
            self.the_bench_shows_what_is()
            with tempfile.TemporaryDirectory() as folder:
                assert_repeats(self.bench.runner, Path(folder))
        finally:
            threading.excepthook = self.hook
            self.bench.close()

    def the_bench_shows_what_is(self) -> None:
        frame, controls, wanted = self.bench.runner.frame(), self.controls, self.bench.runner.setup
        assert f"<b>{STATE_WORDS[frame.state]}</b>" in controls.status.value
        assert f"step {frame.step:,} " in controls.status.value
        assert f"epoch {frame.epoch}" in controls.status.value
        assert (frame.error != "") == ('role="alert"' in controls.words.value)
        if frame.error:
            assert frame.error.startswith(("NonFiniteError", "ConfigError")), self.bench.runner.trace
        train = wanted.train
        assert controls.learning_rate.value == train.learning_rate
        assert controls.clips.value == (train.clip_norm is not None)
        assert train.clip_norm in (None, controls.clip_norm.value)
        assert (controls.optimizer.value, controls.schedule.value) == (train.optimizer, train.schedule)
        assert controls.epochs.value == (wanted.epochs or 0)
        listed = [
            re.match("<b>(.*?)</b>", line.children[-1].value)[1] for line in controls.fault_list.children
        ]
        felt = [fault.id for fault in (*wanted.faults, *frame.lingering)]
        assert listed[: len(felt)] == felt
        assert len(switch_off_buttons(self.bench)) == len(wanted.faults)


class BenchPressesFromAnotherThread(BenchPresses):
    """The same, where callbacks do not run on the main thread."""

    from_another_thread = True


BenchPresses.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
BenchPressesFromAnotherThread.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None
)
TestBenchPresses = BenchPresses.TestCase
TestBenchPressesFromAnotherThread = BenchPressesFromAnotherThread.TestCase
