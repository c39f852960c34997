"""A run that a person drives: start, pause, step, stop, reset, and changes in mid-flight. No widgets here.

Whoever presses a button leaves a job in a queue and goes on. One thread does the jobs and trains between them, and it
exists only while there is something to do: none before the first job, none after a pause or a stop. So what is pressed
happens in the order in which it was pressed. Changes are no jobs: they change what is wanted, and before each step the
machine is brought to that, as far as a machine that runs can be.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any

from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.corpus.source import TokenSource
from cllm_lab.faults.catalogue import resolve
from cllm_lab.faults.trainer import Trainer
from cllm_lab.model.config import require_count
from cllm_lab.model.parts.threads import dismiss_helpers
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.changes import FAULTS
from cllm_lab.training.history import StepRecord
from cllm_lab.training.parts import Fault
from cllm_lab.training.phases import Phase
from cllm_lab.training.trainer import TrainerState
from cllm_lab.views.live.glances import Glance, Glances
from cllm_lab.views.live.series import Curves, RunCurves
from cllm_lab.views.live.setup import Change, Setup, possible_faults, recipe, takes_effect

# "ready": nothing was done since the run was made; "running": the thread trains; "finished": the epochs are done;
# "failed": a step or a job raised. In all but "running" nothing is trained without being asked for.
STATES = ("ready", "running", "paused", "stopped", "finished", "failed")
RECENT = 200
CONSOLE_LINES = 400
# Seconds over which the speed is taken.
SPEED_WINDOW = 2.0
SHORT_NAMES = {"learning_rate": "rate", "clip_norm": "clip", "optimizer": ""}


@dataclass(frozen=True)
class Frame:
    """All that a bench shows, at one moment.

    ``run`` counts the runs. ``faults``: those in the machine, or that will be in it when the run begins; ``waiting``:
    those wanted that need a reset or a new run; ``lingering``: those no longer wanted that left their weights or their
    tokens behind. ``goes_back``: whether a reset goes back to a trainer as it was given, and not to a seed.
    ``epoch`` counts the whole epochs done. ``seconds``: time spent training; ``remaining``: seconds to the last
    epoch at the present speed, None where there is no end or no speed yet.
    """

    state: str
    run: int
    step: int
    epoch: int
    epochs: int | None
    curves: Curves
    ghost: Curves | None
    marks: tuple[tuple[int, str], ...]
    recent: tuple[StepRecord, ...]
    plateaus: Plateaus
    optimizer: str
    faults: tuple[Fault, ...]
    goes_back: bool
    waiting: tuple[Fault, ...]
    lingering: tuple[Fault, ...]
    glance: Glance
    phases: tuple[Phase, ...]
    console: tuple[str, ...]
    seconds: float
    tokens_per_second: float | None
    remaining: float | None
    error: str


class Runner:
    """Trains in a thread of its own what a `Setup` says, or a trainer that it is given.

    A trainer at its first step whose weights come from its seed is trained itself, and a reset makes it anew from the
    seed. Any other one is trained as it stands, and a reset goes back to where it stood when it was given.

    Every method may be called from any thread and returns at once, `wait` and `close` excepted. ``setup`` is what is
    wanted; ``trainer`` is the one of the present run, None before it was first needed; ``error`` says what went
    wrong last, ``trace`` where. Raises TypeError for what is neither, ConfigError for a schedule without an end.
    """

    def __init__(self, begin: Setup | Trainer, epochs: int | None = None) -> None:
        if isinstance(begin, Setup):
            self.setup = begin if epochs is None else replace(begin, epochs=epochs)
        elif isinstance(begin, Trainer):
            self.setup = Setup.of(begin, epochs)
        else:
            raise TypeError(f"trainer must be a Trainer or a Setup; got {type(begin).__name__}")
        self.state = "ready"
        self.error = self.trace = ""
        self.trainer: Trainer | None = None
        self._steps_per_second: float | None = None
        self._given = begin if isinstance(begin, Trainer) else None
        self._goes_back = self._given is not None and not _comes_from_its_seed(self._given)
        self._given_setup = self.setup
        # Where the trainer stood that was given, if it cannot be had from a seed.
        self._start: TrainerState | None = None
        self._lock = threading.Condition()
        self._jobs: deque[tuple[Callable[[], None], bool]] = deque()
        self._worker: threading.Thread | None = None
        self._run_wanted = self._run = 0
        # Held while what a frame shows is changed or read.
        self._data = threading.Lock()
        self._ghost: Curves | None = None
        self._plateaus: tuple[tuple[TokenSource, int], Plateaus] | None = None
        self._clear()

    def _clear(self) -> None:
        """A run that has not begun."""
        self.trainer = None
        self._begun = self.setup
        self._brought_to: Setup | None = None
        self._planned_faults: tuple[Fault, ...] = ()
        self._planned_settings: dict[str, Any] = {}
        self._steps: Iterator[StepRecord] = iter(())
        self._under_way: Iterator[Phase] | None = None
        self._glances: Glances | None = None
        self._steps_per_epoch = 1
        self._pause_at: int | None = None
        self._curves = RunCurves()
        self._recent: deque[StepRecord] = deque(maxlen=RECENT)
        self._console: deque[str] = deque(maxlen=CONSOLE_LINES)
        self._changes: list[Change] = []
        self._marks: list[tuple[int, str]] = []
        self._phases: list[Phase] = []
        self._seconds = 0.0
        # (moment, tokens and steps since the run was made), for the speed.
        self._pace: deque[tuple[float, int, int]] = deque()
        self._tokens = 0

    # What a person asks for.

    def start(self, steps: int | None = None) -> None:
        """Trains for so many steps and pauses, or until the epochs are done; goes on where the run stands.

        Raises ConfigError for less than 1 step.
        """
        if steps is not None:
            require_count("steps", steps)
        self._ask(lambda: self._go_on(steps), moves=True)

    def step(self) -> None:
        """One step, or the rest of one that was begun by phases."""
        self._ask(self._one_step, moves=True)

    def phase(self) -> None:
        """The next phase of a step: forward, loss, backward or update."""
        self._ask(self._one_phase, moves=True)

    def pause(self) -> None:
        """No further step after the one that is being made; those asked for and not yet made are forgotten."""
        self._ask(lambda: self._halt("paused"), cuts=True)

    def stop(self) -> None:
        """As `pause`, and the run counts as over; `start` goes on with it all the same."""
        self._ask(lambda: self._halt("stopped"), cuts=True)

    def reset(self) -> None:
        """Back to the first step from the same seed, with everything that is wanted now."""
        self.new_run()

    def new_run(self, **choices: Any) -> None:
        """A new machine: ``choices`` are fields of `Setup`, such as corpus, model, train, seed, epochs or faults.

        Raises ValueError and ConfigError as `Setup` does, TypeError for a field that it does not have.
        """
        with self._lock:
            self.setup = replace(self.setup, **choices)
            self._run_wanted += 1
            number = self._run_wanted
            self._ask(lambda: self._begin_anew(number, forget_given=bool(choices)), cuts=True)

    def set_speed(self, steps_per_second: float | None) -> None:
        """At most so many steps a second; None for as many as there can be. Raises ValueError unless above 0."""
        if steps_per_second is not None and not steps_per_second > 0.0:
            raise ValueError(f"steps_per_second must be above 0, or None; got {steps_per_second!r}")
        with self._lock:
            self._steps_per_second = steps_per_second
            self._lock.notify_all()

    def set_epochs(self, epochs: int | None) -> None:
        """How many epochs the run has in all, None for no end. Raises ConfigError for less than 1."""
        with self._lock:
            self.setup = replace(self.setup, epochs=epochs)

    def change(self, **settings: Any) -> None:
        """Training settings from the next step on, by their names in `TrainConfig`. Raises as `Setup.changed`."""
        with self._lock:
            self.setup = self.setup.changed(**settings)

    def set_faults(self, faults: Sequence[str | Fault]) -> None:
        """All the faults that are wanted, by id or object. Each acts as soon as its ``takes_effect`` lets it.

        Raises ValueError for an unknown id and for two in one slot, naming both.
        """
        with self._lock:
            self.setup = replace(self.setup, faults=resolve(faults))

    def between_steps(self, job: Callable[[], None]) -> None:
        """Does something of the caller's with the trainer while no step is being made. What it raises fails the run."""
        self._ask(job)

    # What there is to see.

    @property
    def busy(self) -> bool:
        """Whether the thread exists: it trains, or does a job."""
        return self._worker is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Until there is nothing left to do, or for so many seconds; says whether there is nothing left."""
        with self._lock:
            worker = self._worker
            is_over = self._lock.wait_for(lambda: self._worker is None, timeout)
        if is_over and worker is not None and worker is not threading.current_thread():
            worker.join()
        return is_over

    def close(self) -> None:
        """Stops, and waits for the end of the thread."""
        self.stop()
        self.wait()

    def recipe(self) -> str:
        """The run so far as Python that repeats it bit for bit; see `cllm_lab.views.live.setup.recipe`."""
        with self._data:
            begun = self.setup if self.trainer is None else self._begun
            origin = (self._start or self._given) if self._goes_back else None
            given_at = None if origin is None else origin.steps_done
            steps = (given_at or 0) if self.trainer is None else self.trainer.steps_done
            return recipe(begun, self._changes, steps, given_at)

    def frame(self) -> Frame:
        """All that there is to show now."""
        with self._data:
            setup = self.setup
            trainer: Trainer | TrainerState | None = self.trainer
            if trainer is None and self._goes_back:
                trainer = self._start or self._given
            present = setup.faults if trainer is None else trainer.faults
            possible = setup.faults if trainer is None else possible_faults(setup.faults, present)
            left = () if trainer is None else self._begun.faults
            seconds_per_step, tokens_per_second = self._speed()
            return Frame(
                state=self.state,
                run=self._run,
                step=0 if trainer is None else trainer.steps_done,
                epoch=0 if trainer is None else trainer.epochs_done,
                epochs=setup.epochs,
                curves=self._curves.curves(),
                ghost=self._ghost,
                marks=tuple(self._marks),
                recent=tuple(self._recent),
                plateaus=self._levels(setup),
                optimizer=setup.train.optimizer,
                faults=present,
                goes_back=self._goes_back,
                waiting=tuple(fault for fault in setup.faults if fault not in possible),
                lingering=tuple(
                    fault for fault in left if fault not in setup.faults and takes_effect(fault) != "step"
                ),
                glance=Glance() if self._glances is None else self._glances.glance,
                phases=tuple(self._phases),
                console=tuple(self._console),
                seconds=self._seconds,
                tokens_per_second=tokens_per_second,
                remaining=self._remaining(seconds_per_step),
                error=self.error,
            )

    def _levels(self, setup: Setup) -> Plateaus:
        known = (setup.corpus, setup.model.vocab_size)
        if self._plateaus is None or self._plateaus[0] != known:
            self._plateaus = known, setup.corpus.plateaus(setup.model.vocab_size)
        return self._plateaus[1]

    def _speed(self) -> tuple[float | None, float | None]:
        """Seconds a step and tokens a second, lately."""
        if len(self._pace) < 2:
            return None, None
        (before, tokens_before, steps_before), (now, tokens, steps) = self._pace[0], self._pace[-1]
        return (now - before) / (steps - steps_before), (tokens - tokens_before) / (now - before)

    def _remaining(self, seconds_per_step: float | None) -> float | None:
        epochs = self.setup.epochs
        if epochs is None or seconds_per_step is None or self.trainer is None:
            return None
        return max(0, epochs * self._steps_per_epoch - self.trainer.steps_done) * seconds_per_step

    # The thread.

    def _ask(self, job: Callable[[], None], moves: bool = False, cuts: bool = False) -> None:
        """Leaves a job. One that ``cuts`` takes out of the queue what ``moves`` the run and was not yet done, and is
        so short that no thread is made for it where there is none."""
        with self._lock:
            if cuts and self._worker is None:
                job()
                return
            if cuts:
                self._drop_moves()
            self._jobs.append((job, moves))
            self._lock.notify_all()
            if self._worker is None:
                # With the caller's context: some versions of ipykernel look there for the cell that a message is for.
                self._worker = threading.Thread(
                    target=copy_context().run, args=(self._work,), name="cllm_lab bench", daemon=True
                )
                self._worker.start()

    def _drop_moves(self) -> None:
        self._jobs = deque((job, moves) for job, moves in self._jobs if not moves)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs and self.state != "running":
                    dismiss_helpers()
                    self._worker = None
                    self._lock.notify_all()
                    return
                job = self._jobs.popleft()[0] if self._jobs else self._run_on
            try:
                job()
            # Whatever a step or a job raises belongs on the bench, before the eyes of whoever pressed.
            except Exception as broken:
                self._fail(broken)

    def _fail(self, broken: Exception) -> None:
        with self._lock:
            self._drop_moves()
        self.error = f"{type(broken).__name__}: {broken}"
        self.trace = "".join(traceback.format_exception(broken))
        self._under_way = None  # a step that was begun is begun again
        if self.trainer is not None:
            self._steps = self.trainer.steps()  # an exception ends a generator
        self.state = "failed"

    def _run_on(self) -> None:
        began = time.perf_counter()
        self._make_step()
        assert self.trainer is not None
        if self._is_done():
            self.state = "finished"
        elif self.trainer.steps_done == self._pause_at:
            self.state = "paused"
        with self._lock:
            speed = self._steps_per_second
            if speed is not None and self.state == "running":
                left = began + 1.0 / speed - time.perf_counter()
                self._lock.wait_for(
                    lambda: bool(self._jobs) or self._steps_per_second != speed, max(0.0, left)
                )

    # The jobs, done in the thread one after the other.

    def _go_on(self, steps: int | None) -> None:
        trainer = self._prepare()
        with self._data:
            self._pace.clear()
        self._pause_at = None if steps is None else trainer.steps_done + steps
        self.state = "finished" if self._is_done() else "running"

    def _halt(self, state: str) -> None:
        if self.state in ("running", "paused", "stopped"):
            self.state = state

    def _one_step(self) -> None:
        self._prepare()
        self.state = "paused"
        with self._data:
            self._pace.clear()
        self._make_step()
        if self._is_done():
            self.state = "finished"
        assert self._glances is not None
        self._glances.look()

    def _one_phase(self) -> None:
        self._prepare()
        self.state = "paused"
        self._next_phase()

    def _next_phase(self) -> None:
        trainer = self._prepare()
        if self._under_way is None:
            self._before_step(trainer)
            with self._data:
                self._phases = []
            self._under_way = trainer.phases()
        began = time.perf_counter()
        phase = next(self._under_way)
        seconds = time.perf_counter() - began
        with self._data:
            self._phases.append(phase)
        if phase.name == "update":
            self._under_way = None
            with self._data:
                self._pace.clear()
            self._after_step(trainer, trainer.last_record, seconds)
        else:
            self._seconds += seconds

    def _finish_phases(self) -> None:
        while self._under_way is not None:
            self._next_phase()

    def _begin_anew(self, number: int, forget_given: bool) -> None:
        with self._data:
            if forget_given:
                self._given = self._start = None
                self._goes_back = False
            curves = self._curves.curves()
            if len(curves.loss) > 1:
                self._ghost = curves
            self._clear()
            self._run = number
            self.error = self.trace = ""
            self.state = "ready"

    def _prepare(self) -> Trainer:
        """The trainer of this run, made when it is first needed; what went wrong before is forgotten."""
        self.error = self.trace = ""
        if self.trainer is not None:
            return self.trainer
        setup, given = self.setup, self._given
        trainer = self._make(setup)
        with self._data:
            self._begun = self._given_setup if trainer is given or self._start is not None else setup
            self._planned_faults = trainer.faults
            self._planned_settings = {name: getattr(trainer.config, name) for name in setup.wanted(1)}
            self._steps_per_epoch = trainer.steps_per_epoch
            self._steps = trainer.steps()
            self._glances = Glances(trainer)
            self.trainer = trainer
        return trainer

    def _make(self, setup: Setup) -> Trainer:
        given = self._given
        if given is None:
            return setup.trainer()
        if self._start is not None:
            again = Trainer(given.sound_model(), given.corpus, self._start.config, self._start.faults)
            again.load_state(self._start)
            return again
        if self._goes_back:
            self._start = given.state()
            return given
        self._given = None
        # Only the faults of a start cannot be brought to it any more.
        possible = possible_faults(setup.faults, given.faults)
        same_start = {fault.id for fault in possible} == {fault.id for fault in setup.faults}
        return given if same_start else setup.trainer()

    # One step.

    def _make_step(self) -> None:
        trainer = self._prepare()
        if self._under_way is not None:
            self._finish_phases()
            return
        self._before_step(trainer)
        began = time.perf_counter()
        record = next(self._steps, None)
        if record is None:  # somebody called trainer.stop()
            self._steps = trainer.steps()
            self.state = "paused"
            return
        self._after_step(trainer, record, time.perf_counter() - began)

    def _before_step(self, trainer: Trainer) -> None:
        if self.setup is not self._brought_to:
            self._bring_to_what_is_wanted(trainer)
        lines = trainer.lines_before_step()
        if lines:
            with self._data:
                self._console.extend(lines)

    def _after_step(self, trainer: Trainer, record: StepRecord, seconds: float) -> None:
        now = time.perf_counter()
        lines = trainer.lines_after_step()
        with self._data:
            self._seconds += seconds
            self._tokens += record.tokens
            self._pace.append((now, self._tokens, record.step))
            while self._pace[0][0] < now - SPEED_WINDOW and len(self._pace) > 2:
                self._pace.popleft()
            self._curves.add(record)
            self._recent.append(record)
            self._console.extend(lines)
        with self._lock:
            is_waited_for = bool(self._jobs)
        if self._glances is not None and not is_waited_for:
            self._glances.after_step()

    def _bring_to_what_is_wanted(self, trainer: Trainer) -> None:
        """Plans for the next step what is wanted and not yet planned, as far as it can act in a machine that runs."""
        with self._lock:
            setup = self.setup
            if self._run != self._run_wanted:  # a new run is asked for, and what is wanted belongs to it
                return
        change: dict[str, Any] = {
            name: value
            for name, value in setup.wanted(self._steps_per_epoch).items()
            if value != self._planned_settings[name]
        }
        faults = possible_faults(setup.faults, self._planned_faults)
        if faults != self._planned_faults:
            change[FAULTS] = faults
        if change:
            step = trainer.steps_done + 1
            trainer.at(step, **change)
            with self._data:
                self._changes.append((step, change))
                self._marks += [(step, text) for text in _in_words(change, self._planned_faults)]
                self._planned_settings |= {name: change[name] for name in change if name != FAULTS}
                self._planned_faults = faults
        self._brought_to = setup

    def _is_done(self) -> bool:
        epochs = self.setup.epochs
        return epochs is not None and self.trainer is not None and self.trainer.epochs_done >= epochs


def _comes_from_its_seed(trainer: Trainer) -> bool:
    """Whether the same trainer can be made from its settings and seeds: nothing done, nothing put in by hand."""
    if trainer.steps_done > 0 or trainer.planned_changes or trainer.sound_model().swapped_slots():
        return False
    drawn = Transformer(trainer.model.config, trainer.model.seed, trainer.model.dtype, trainer.model.table)
    trainer.parts.initialisation(drawn.params, drawn.config, drawn.seed)
    return bool((drawn.params.flat == trainer.params.flat).all())


def _in_words(change: dict[str, Any], faults_before: Sequence[Fault]) -> Iterator[str]:
    """The texts of the marks in the curves."""
    for name, value in change.items():
        if name == FAULTS:
            yield from (f"+{fault.id}" for fault in value if fault not in faults_before)
            yield from (f"-{fault.id}" for fault in faults_before if fault not in value)
        else:
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            yield f"{SHORT_NAMES.get(name, name.replace('_', ' '))} {shown}".strip()
