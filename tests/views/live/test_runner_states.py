"""Whatever is pressed, in any order and however fast, does no harm."""

import tempfile
import threading
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import cllm_lab as lab
from cllm_lab.training.parts import sort_swaps
from cllm_lab.views.live.runner import STATES, Runner
from tests.views.live.runs import LANGUAGE, assert_repeats, done, own_threads, small_setup

# Of every kind: acting at the next step, after a reset and in a new run; two in one slot; one that breaks the numbers.
FAULTS = (
    "doubled-attention",
    "no-causal-mask",
    "mse-gradient",
    "wrong-sign",
    "embeddings-only-update",
    "learning-rate-high",
    "decayed-to-zero",
    "adam-without-bias-correction",
    "zero-init",
    "init-too-large",
    "vanishing-gradient",
    "unshifted-targets",
    "shuffled-targets",
    "token-sorting",
)
OTHER_LANGUAGE = lab.MarkovLanguage(n_symbols=5, n_tokens=33)


class Presses(RuleBasedStateMachine):
    """Somebody at a bench."""

    from_another_thread = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = Runner(small_setup())
        self.refused = 0

    def press(self, action) -> None:
        if not self.from_another_thread:
            action()
            return
        thread = threading.Thread(target=action)
        thread.start()
        thread.join()

    @rule(button=st.sampled_from(("start", "pause", "step", "phase", "stop", "reset")))
    def press_a_button(self, button) -> None:
        self.press(getattr(self.runner, button))

    @rule(steps=st.integers(1, 5))
    def start_for_so_many_steps(self, steps) -> None:
        self.press(lambda: self.runner.start(steps))

    @rule(
        changes=st.dictionaries(
            st.sampled_from(("learning_rate", "clip_norm")), st.sampled_from((1e-3, 0.5)), min_size=1
        )
    )
    def turn_a_knob(self, changes) -> None:
        self.press(lambda: self.runner.change(**changes))

    @rule(optimizer=st.sampled_from(("sgd", "momentum", "adam", "adamw", "adam-epsilon-hat")))
    def choose_the_optimizer(self, optimizer) -> None:
        self.press(lambda: self.runner.change(optimizer=optimizer))

    @rule(schedule=st.sampled_from(("constant", "cosine", "step")), epochs=st.integers(1, 6))
    def choose_the_schedule(self, schedule, epochs) -> None:
        self.press(lambda: self.runner.set_epochs(epochs))
        self.press(lambda: self.runner.change(schedule=schedule))

    @rule(epochs=st.one_of(st.none(), st.integers(1, 6)))
    def choose_the_end(self, epochs) -> None:
        if epochs is not None or self.runner.setup.train.schedule == "constant":
            self.press(lambda: self.runner.set_epochs(epochs))

    @rule(faults=st.lists(st.sampled_from(FAULTS), max_size=4, unique=True))
    def switch_faults(self, faults) -> None:
        try:
            sort_swaps([lab.faults.catalogue()[each] for each in faults])
        except ValueError:  # two in one slot; test_runner.py says what is then said
            return
        self.press(lambda: self.runner.set_faults(faults))

    @rule(speed=st.sampled_from((None, 200.0, 2000.0)))
    def choose_the_speed(self, speed) -> None:
        self.press(lambda: self.runner.set_speed(speed))

    @rule(corpus=st.sampled_from((LANGUAGE, OTHER_LANGUAGE)), seed=st.integers(0, 2))
    def another_run(self, corpus, seed) -> None:
        self.press(lambda: self.runner.new_run(corpus=corpus, seed=seed))

    @rule()
    def wait_a_moment(self) -> None:
        self.runner.wait(0.01)

    @invariant()
    def there_is_something_to_show(self) -> None:
        frame = self.runner.frame()
        assert frame.state in STATES
        assert (frame.error != "") == (frame.state == "failed") or self.runner.busy
        assert own_threads().count("cllm_lab bench") <= 1

    def teardown(self) -> None:
        self.runner.stop()
        done(self.runner)
        assert own_threads() == []
        assert self.runner.state in ("ready", "paused", "stopped", "finished", "failed")
        if self.runner.state == "failed":
            assert self.runner.error.startswith("NonFiniteError"), self.runner.trace
        with tempfile.TemporaryDirectory() as folder:
            assert_repeats(self.runner, Path(folder))


class PressesFromAnotherThread(Presses):
    """The same, where callbacks do not run on the main thread."""

    from_another_thread = True


Presses.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
PressesFromAnotherThread.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestPresses = Presses.TestCase
TestPressesFromAnotherThread = PressesFromAnotherThread.TestCase
