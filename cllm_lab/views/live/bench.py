"""The live bench: the controls of a `Runner`, and a thread that draws while there is something new to see."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from cllm_lab.clinic.instrument_words import record_band
from cllm_lab.faults.catalogue import catalogue, resolve
from cllm_lab.faults.trainer import Trainer
from cllm_lab.training.parts import Fault
from cllm_lab.views.live import presets, registry, texts
from cllm_lab.views.live.attention_picture import attention_chart
from cllm_lab.views.live.charts import loss_chart, norms_chart, update_chart
from cllm_lab.views.live.controls import PANELS, SPEEDS, Controls
from cllm_lab.views.live.glances import Glance
from cllm_lab.views.live.runner import Frame, Runner
from cllm_lab.views.live.setup import title
from cllm_lab.views.live.style import style_sheet

if TYPE_CHECKING:
    from cllm_lab.views.picture import Picture

# Seconds between two drawings.
INTERVAL = 0.17
# Seconds without a press after which a paused run leaves its picture.
QUIET = 1.0


def live(trainer: Trainer | None = None, epochs: int | None = None, name: str = "live_run") -> Bench:
    """The live bench: the machine trains while its curves move, and faults are switched on and off in mid-flight.

    ``trainer``: what to train, the default machine on the shipped text where None; see `Runner` for what a reset
    does to it. ``epochs``: where the run ends, nowhere where None. ``name``: of the files that are saved.
    A cell that is run again closes the bench it had before. A trainer that a reset makes anew writes no log.
    Nothing is trained or compiled, and no thread made, before something is pressed.
    Raises TypeError for what is no trainer, ConfigError for a schedule without an end.
    """
    bench = Bench(Runner(presets.first_setup() if trainer is None else trainer, epochs), name)
    registry.take_place(bench)
    return bench


class Bench(widgets.VBox):
    """A `Runner` with controls and pictures. What the buttons do can be called as well: `start`, `pause`, `step`,
    `phase`, `stop`, `reset`, `new_run`, `change`, `set_faults`, with the arguments and errors of the runner's.
    """

    def __init__(self, runner: Runner, name: str = "live_run") -> None:
        self.runner = runner
        self._known = {f"{fault.id}: {title(fault)}": fault for fault in catalogue().values()}
        self._controls = Controls(
            tuple(self._known),
            (presets.AS_IT_IS, *presets.CORPORA),
            (presets.AS_IT_IS, *presets.SIZES),
        )
        self._controls.file_name.value = name
        self._drawing = threading.RLock()
        # The thread that draws, or drew last.
        self._drawer: threading.Thread | None = None
        self._is_drawing = False
        self._has_news = threading.Event()
        self._in_a_hurry = False
        self._pictured = (0, 0)
        # What the fields of a new run were set to last: what is typed there stays until it is used.
        self._shown_run: tuple[int, float] = (0, 0.0)
        self._handles: list[Any] = []
        self._showing = False
        self._drawn: object = None
        self._glanced: Glance | None = None
        self._listed: list[tuple[Fault, str]] = []
        super().__init__(tuple(self._controls.rows()))
        self.add_class("cllm-live")
        self._controls.style.value = style_sheet()
        self._show_wanted()
        self._connect()
        self._draw()

    # What the buttons do.

    @property
    def trainer(self) -> Trainer | None:
        """The trainer of the present run; None before one was needed."""
        return self.runner.trainer

    @property
    def words(self) -> str:
        """The line of words that the bench shows now."""
        return texts.line_of_words(self.runner.frame())

    def start(self, steps: int | None = None) -> None:
        """As `Runner.start`."""
        self._drive(lambda: self.runner.start(steps))

    def pause(self) -> None:
        """As `Runner.pause`."""
        self._drive(self.runner.pause)

    def step(self) -> None:
        """As `Runner.step`."""
        self._drive(self.runner.step)

    def phase(self) -> None:
        """As `Runner.phase`."""
        self._drive(self.runner.phase)

    def stop(self) -> None:
        """As `Runner.stop`."""
        self._drive(self.runner.stop)

    def reset(self) -> None:
        """As `Runner.reset`."""
        self._drive(self.runner.reset)

    def new_run(self, **choices: Any) -> None:
        """As `Runner.new_run`."""
        self._drive(lambda: self.runner.new_run(**choices))

    def change(self, **settings: Any) -> None:
        """As `Runner.change`."""
        self._drive(lambda: self.runner.change(**settings))

    def set_faults(self, faults: Sequence[str | Fault]) -> None:
        """As `Runner.set_faults`."""
        self._drive(lambda: self.runner.set_faults(faults))

    def recipe(self) -> str:
        """As `Runner.recipe`."""
        return self.runner.recipe()

    def run(self, steps: int) -> None:
        """Trains for so many steps and waits for their end, for a notebook that drives the bench from a cell.

        Raises RuntimeError with what went wrong where a step failed.
        """
        before = self.runner.frame()
        self.start(steps)
        try:
            self.wait()
        except KeyboardInterrupt:
            self.pause()
            raise
        if self.runner.error:
            raise RuntimeError(self.runner.error)
        made = self.runner.frame().step - before.step
        if made < steps and self.runner.state == "finished":
            raise RuntimeError(
                f"{made} of {steps} steps were made: all {before.epochs} epochs are done; "
                "raise epochs or reset"
            )

    def wait(self) -> None:
        """Until there is nothing left to do and everything is drawn."""
        self.runner.wait()
        drawer = self._drawer
        if drawer is not None:
            self._in_a_hurry = True
            self._has_news.set()
            try:
                drawer.join()
            finally:
                self._in_a_hurry = False

    def close(self) -> None:
        """Stops the run, waits for the last picture, and takes the widgets away."""
        self.runner.close()
        self.wait()
        for widget in _inside(self):
            widget.close()
        super().close()

    # A widget closes itself when it is collected. When the interpreter ends this one would wait for threads that run
    # no longer; before, only benches without a thread are collected.
    def __del__(self) -> None:
        """Does nothing."""

    def _drive(self, action: Callable[[], None]) -> None:
        """Does what a person asked for, and sees to it that what comes of it is drawn."""
        action()
        self._show_wanted()
        with self._drawing:
            self._has_news.set()
            if self._is_drawing:
                return
            frame = self.runner.frame()
            has_picture = frame.step == 0 or self._pictured == (frame.run, frame.step)
            if not self.runner.busy and has_picture:
                self._draw()
                return
            if self._drawer is not None:
                self._drawer.join()  # it has drawn its last, and ends
            self._drawer = threading.Thread(
                target=copy_context().run, args=(self._keep_drawing,), name="cllm_lab drawing", daemon=True
            )
            self._is_drawing = True
            self._drawer.start()

    # Pictures.

    def _keep_drawing(self) -> None:
        try:
            self._draw_to_the_end()
        # Nobody sees what a thread raises: it belongs on the bench, and the next press draws again.
        except Exception as broken:
            self._say(f"The picture could not be drawn: {type(broken).__name__}: {broken}", is_error=True)
            with self._drawing:
                self._is_drawing = False

    def _draw_to_the_end(self) -> None:
        """Draws until the run has nothing left to do and what came of it is on the bench."""
        while True:
            self._has_news.clear()
            # Asked before the frame is taken: what happened until then is in this drawing.
            is_last = not self.runner.busy
            self._draw()
            if not is_last:
                self.runner.wait(INTERVAL)
                continue
            # Who takes step after step waits for no picture.
            quiet = QUIET if self.runner.state == "paused" and not self._in_a_hurry else 0.0
            if self._has_news.wait(quiet):
                continue
            self._leave_picture()
            with self._drawing:
                if not self._has_news.is_set():
                    self._is_drawing = False
                    return

    def _draw(self) -> None:
        with self._drawing:
            frame, controls = self.runner.frame(), self._controls
            controls.status.value = texts.status(frame)
            controls.words.value = texts.words(frame)
            self._draw_curves(frame)
            self._list_faults(frame)
            panel = PANELS[controls.panels.selected_index or 0]
            if panel == "Phases":
                controls.phases.value = texts.phases(frame)
            elif panel == "Text":
                controls.text.value = texts.sample(frame)
            elif panel == "Console":
                controls.console.value = texts.console(frame)

    def _draw_curves(self, frame: Frame) -> None:
        """Only what changed is sent."""
        controls, ghost, marks = self._controls, frame.ghost, frame.marks
        drawn = (
            frame.run,
            frame.recent[-1] if frame.recent else None,
            ghost,
            marks,
            frame.optimizer,
            frame.plateaus,
        )
        if drawn != self._drawn:
            band = record_band(texts.family(frame))
            controls.loss.value = loss_chart(frame.curves, ghost, texts.levels(frame), marks)
            controls.norms.value = norms_chart(frame.curves, ghost, marks)
            controls.update.value = update_chart(frame.curves, ghost, band, marks)
            self._drawn = drawn
        if frame.glance is not self._glanced:
            controls.attention.value = self._attention(frame)
            self._glanced = frame.glance

    def _attention(self, frame: Frame) -> str:
        glance = frame.glance
        if glance.attention is None:
            return texts.no_attention(frame)
        return attention_chart(glance.attention, glance.tokens, glance.layer)

    def picture(self) -> Picture:
        """The curves as they are now, as a matplotlib picture. Raises ValueError before the first step."""
        return self._picture_of(self.runner.frame())

    def _picture_of(self, frame: Frame) -> Picture:
        from cllm_lab.views.live.still import still_picture

        band = record_band(texts.family(frame))
        return still_picture(
            frame.curves, frame.ghost, frame.plateaus, band, frame.marks, self._caption(frame)
        )

    def _caption(self, frame: Frame) -> str:
        faults = ", ".join(fault.id for fault in frame.faults)
        return f"{frame.step:,} steps" + (f", {faults}" if faults else "")

    def _leave_picture(self) -> None:
        """The picture that stays in the notebook when no kernel is there any more."""
        frame = self.runner.frame()
        if self._handles and frame.curves.loss:
            picture = self._picture_of(frame)
            data = {"image/png": picture.png(), "text/plain": picture.words}
            for handle in self._handles:
                handle.update(data, raw=True, metadata={"image/png": {"alt": picture.words}})
        self._pictured = (frame.run, frame.step)

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        display(self._repr_mimebundle_(), raw=True)
        handle = display(
            Markdown("*The bench's last picture stays here when the notebook is closed.*"), display_id=True
        )
        self._handles.append(handle)
        self._leave_picture()

    # Controls.

    def _connect(self) -> None:
        controls = self._controls
        for button, action in (
            (controls.start, self.start),
            (controls.pause, self.pause),
            (controls.step, self.step),
            (controls.phase, self.phase),
            (controls.stop, self.stop),
            (controls.reset, self.reset),
            (controls.halve, lambda: self.change(learning_rate=self.runner.setup.train.learning_rate / 2)),
            (controls.double, lambda: self.change(learning_rate=self.runner.setup.train.learning_rate * 2)),
            (controls.switch_on, self._switch_on),
            (controls.new_run, self._new_run),
            (controls.write_down, self._write_down),
            (controls.save_history, lambda: self._save("history")),
            (controls.save_picture, lambda: self._save("picture")),
            (controls.save_checkpoint, lambda: self._save("checkpoint")),
            (controls.save_console, lambda: self._save("console")),
        ):
            button.on_click(lambda _, action=action: self._try(action))
        for knob, setting in (
            (controls.learning_rate, lambda: self.change(learning_rate=controls.learning_rate.value)),
            (controls.clips, self._change_clipping),
            (controls.clip_norm, self._change_clipping),
            (controls.optimizer, lambda: self.change(optimizer=controls.optimizer.value)),
            (controls.schedule, lambda: self.change(schedule=controls.schedule.value)),
            (
                controls.epochs,
                lambda: self._drive(lambda: self.runner.set_epochs(controls.epochs.value or None)),
            ),
            (controls.speed, lambda: self.runner.set_speed(SPEEDS[controls.speed.value])),
            (controls.fault, self._describe_fault),
        ):
            knob.observe(lambda _, setting=setting: self._turned(setting), names="value")
        controls.panels.observe(lambda _: self._draw(), names="selected_index")

    def _turned(self, setting: Callable[[], None]) -> None:
        if not self._showing:  # else the bench itself moved the knob, to show what is wanted
            self._try(setting)

    def _try(self, action: Callable[[], None]) -> None:
        """Does what was pressed; what cannot work is said on the bench, and the knobs show what is wanted again."""
        self._say("")
        try:
            action()
        except (ValueError, TypeError) as refused:
            self._say(str(refused), is_error=True)
            self._show_wanted()

    def _say(self, text: str, is_error: bool = False) -> None:
        self._controls.notice.value = texts.notice(text, is_error)

    def _show_wanted(self) -> None:
        """Brings the knobs to what is wanted."""
        controls, setup = self._controls, self.runner.setup
        self._showing = True
        try:
            controls.learning_rate.value = setup.train.learning_rate
            controls.clips.value = setup.train.clip_norm is not None
            if setup.train.clip_norm is not None:
                controls.clip_norm.value = setup.train.clip_norm
            controls.optimizer.value = setup.train.optimizer
            controls.schedule.value = setup.train.schedule
            controls.epochs.value = setup.epochs or 0
            if setup.seed != self._shown_run[0]:
                controls.seed.value = setup.seed
            if setup.train.validation_fraction != self._shown_run[1]:
                controls.held_out.value = setup.train.validation_fraction
            self._shown_run = (setup.seed, setup.train.validation_fraction)
        finally:
            self._showing = False

    def _change_clipping(self) -> None:
        controls = self._controls
        self.change(clip_norm=controls.clip_norm.value if controls.clips.value else None)

    def _describe_fault(self) -> None:
        self._controls.fault_note.value = texts.fault_note(self._known.get(self._controls.fault.value))

    def _switch_on(self) -> None:
        given = self._controls.fault.value
        fault = self._known.get(given) or resolve([given.strip()])[0]
        wanted = self.runner.setup.faults
        if fault in wanted:
            self._say(f"{fault.id} is switched on already")
        else:
            self.set_faults((*wanted, fault))
        self._controls.fault.value = ""

    def _switch_off(self, fault: Fault) -> None:
        self.set_faults([each for each in self.runner.setup.faults if each is not fault])

    def _list_faults(self, frame: Frame) -> None:
        """A line for every fault that is wanted or still felt, with a button where it can be switched off."""
        states = texts.fault_states(frame, self.runner.setup.faults)
        if states == self._listed:
            return
        self._listed = states
        before = self._controls.fault_list.children
        self._controls.fault_list.children = tuple(self._fault_line(*each) for each in states)
        for line in before:
            for child in line.children:
                child.close()
            line.close()

    def _fault_line(self, fault: Fault, said: str) -> widgets.HBox:
        text = widgets.HTML(f"<b>{texts.escaped(fault.id)}</b>: {texts.escaped(said)}")
        if fault not in self.runner.setup.faults:
            return widgets.HBox([text])
        button = widgets.Button(description="Switch off", tooltip=f"Take {fault.id} out", icon="times")
        button.add_class("cllm-switch-off")
        button.on_click(lambda _: self._try(lambda: self._switch_off(fault)))
        return widgets.HBox([button, text])

    def _new_run(self) -> None:
        controls = self._controls
        choices = presets.chosen(
            self.runner.setup,
            controls.corpus.value,
            controls.size.value,
            controls.seed.value,
            controls.held_out.value,
        )
        self.new_run(**choices)
        controls.corpus.value = controls.size.value = presets.AS_IT_IS

    def _write_down(self) -> None:
        self._controls.recipe.value = self.recipe()

    def _save(self, what: str) -> None:
        """Between two steps, so that what is saved is of one moment."""
        name = self._controls.file_name.value
        self._drive(lambda: self.runner.between_steps(lambda: self._write_file(what, name)))

    def _write_file(self, what: str, name: str) -> None:
        from cllm_lab.views.live import exports

        trainer = self.trainer
        try:
            folder = Path.cwd()
            if trainer is None or trainer.steps_done == 0:
                raise ValueError("nothing to save yet: train at least one step")
            if what == "history":
                saved = [exports.save_history(trainer.history, folder, name)]
            elif what == "picture":
                saved = list(exports.save_figure(self.picture(), folder, name))
            elif what == "checkpoint":
                saved = [exports.save_checkpoint(trainer, folder, name)]
            else:
                lines = "\n".join(self.runner.frame().console) + "\n"
                saved = [exports.save_text(lines, folder, name, ".txt")]
        # A file that cannot be written is no failure of the run.
        except Exception as failed:
            self._controls.saved.value = texts.notice(f"{type(failed).__name__}: {failed}", is_error=True)
        else:
            names = ", ".join(path.name for path in saved)
            self._controls.saved.value = texts.notice(f"Saved {names} in {folder}.")


def _inside(box: widgets.Widget) -> Iterator[widgets.Widget]:
    """Every widget in a box, and in the boxes in it."""
    for widget in getattr(box, "children", ()):
        yield from _inside(widget)
        yield widget
