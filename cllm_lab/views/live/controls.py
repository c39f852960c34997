"""The bench's controls: core ipywidgets, each with a label and a class by which a test finds it.

Choices are buttons or a field with suggestions, never a list box: while a list box has the focus, JupyterLab takes
letters that are typed to find an entry for its own commands, and "dd" deletes the cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ipywidgets as widgets
import traitlets

from cllm_lab.training.config import OPTIMIZERS, SCHEDULES

SPEEDS = {"full speed": None, "10 steps/s": 10.0, "2 steps/s": 2.0}
PANELS = ("Phases", "Text", "Console", "New run", "Take along")


def _button(name: str, label: str, tooltip: str, icon: str = "", **more: Any) -> widgets.Button:
    made = widgets.Button(description=label, tooltip=tooltip, icon=icon, **more)
    made.layout.width = "auto"
    return _named(made, name)


def _choice(name: str, label: str, options: Any, **more: Any) -> widgets.ToggleButtons:
    made = widgets.ToggleButtons(options=options, description=label, **more)
    made.style.button_width = "auto"
    made.style.description_width = "initial"
    return _named(made, name)


def _field(kind: Any, name: str, label: str, width: str, **more: Any) -> Any:
    made = kind(description=label, continuous_update=False, **more)
    made.layout.width = width
    made.style.description_width = "initial"
    return _named(made, name)


def _html(name: str) -> widgets.HTML:
    made = widgets.HTML()
    made.layout.margin = "0"
    return _named(made, name)


def _named(widget: Any, name: str) -> Any:
    widget.add_class(f"cllm-{name}")
    return widget


def _row(name: str, *children: widgets.Widget, align: str = "center") -> widgets.HBox:
    row = widgets.HBox(children)
    row.layout.flex_flow = "row wrap"
    row.layout.align_items = align
    return _named(row, name)


def _column(name: str, *children: widgets.Widget) -> widgets.VBox:
    return _named(widgets.VBox(children), name)


def _heading(text: str) -> widgets.HTML:
    made = widgets.HTML(f'<div class="cllm-heading">{text}</div>')
    made.layout.margin = "0"
    return made


@dataclass
class Controls:
    """Every widget of a bench, by name."""

    faults: Sequence[str]
    corpora: Sequence[str]
    sizes: Sequence[str]

    style: widgets.HTML = field(default_factory=lambda: _html("style"))
    status: widgets.HTML = field(default_factory=lambda: _html("status-line"))
    words: widgets.HTML = field(default_factory=lambda: _html("words-line"))
    loss: widgets.HTML = field(default_factory=lambda: _html("loss"))
    norms: widgets.HTML = field(default_factory=lambda: _html("norms"))
    update: widgets.HTML = field(default_factory=lambda: _html("update"))
    attention: widgets.HTML = field(default_factory=lambda: _html("attention"))
    notice: widgets.HTML = field(default_factory=lambda: _html("notice"))

    def __post_init__(self) -> None:
        self.start = _button("start", "Start", "Train from here on", "play", button_style="primary")
        self.pause = _button("pause", "Pause", "No further step", "pause")
        self.step = _button("step", "Step", "One step", "step-forward")
        self.phase = _button(
            "phase", "Phase", "The next phase of a step: forward, loss, backward, update", "bars"
        )
        self.stop = _button("stop", "Stop", "The run is over; its picture stays", "stop")
        self.reset = _button("reset", "Reset", "Back to the first step, same seed", "undo")
        self.speed = _choice("speed", "speed", list(SPEEDS))
        self.epochs = _field(widgets.IntText, "epochs", "epochs (0: no end)", "170px")

        self.learning_rate = _field(widgets.FloatText, "learning-rate", "learning rate", "190px", step=None)
        self.halve = _button("halve", "÷ 2", "Half the learning rate")
        self.double = _button("double", "× 2", "Twice the learning rate")
        self.clips = _named(widgets.Checkbox(description="clip gradients to", indent=False), "clips")
        self.clips.layout.width = "auto"
        self.clip_norm = _field(widgets.FloatText, "clip-norm", "norm", "120px", step=None, value=1.0)
        self.clip_norm.tooltip = "Largest norm of the gradient"
        self.optimizer = _choice("optimizer", "optimizer", OPTIMIZERS)
        self.schedule = _choice("schedule", "schedule", SCHEDULES)

        self.fault = _field(
            widgets.Combobox,
            "fault",
            "fault",
            "auto",
            options=list(self.faults),
            placeholder=f"type to search {len(self.faults)} faults",
        )
        self.switch_on = _button("switch-on", "Switch on", "Put this fault into the machine", "plug")
        self.fault_note = _html("fault-note")
        self.fault_list = _named(widgets.VBox(), "fault-list")

        self.phases, self.text, self.console = _html("phases"), _html("text"), _html("console-pane")
        self.corpus = _choice("corpus", "text", list(self.corpora))
        self.size = _choice("size", "machine", list(self.sizes))
        self.seed = _field(widgets.IntText, "seed", "seed", "120px")
        self.held_out = _field(
            widgets.FloatText, "held-out", "share held out for validation", "260px", step=None
        )
        self.new_run = _button("new-run", "New run", "Draw a new machine with these choices", "plus")
        self.file_name = _field(widgets.Text, "file-name", "file name", "260px", value="live_run")
        self.save_history = _button("save-history", "History (CSV)", "A row for every step")
        self.save_picture = _button("save-picture", "Picture (PNG, SVG)", "The curves as they are now")
        self.save_checkpoint = _button("save-checkpoint", "Checkpoint", "To go on with lab.Trainer.load")
        self.save_console = _button("save-console", "Console (text)", "The latest lines of the console")
        self.write_down = _button("write-down", "As Python", "The run as lines that repeat it, bit for bit")
        self.recipe = _field(widgets.Textarea, "recipe", "the run as Python", "min(100%, 900px)")
        self.recipe.layout.height = "190px"
        self.recipe.placeholder = "Press As Python: the run, as lines to copy, seed and every change included"
        self.saved = _html("saved")
        # Not a widgets.Tab: Notebook takes the arrow keys for itself, so that its tabs cannot be changed by keyboard.
        self.panel_choice = _choice("panel-choice", "", PANELS)
        self.panels = _named(
            widgets.Stack(
                children=[
                    self.phases,
                    self.text,
                    self.console,
                    _column(
                        "panel",
                        self.corpus,
                        self.size,
                        _row("toolbar", self.seed, self.held_out, self.new_run),
                    ),
                    _column(
                        "panel",
                        _row(
                            "line",
                            self.file_name,
                            self.save_history,
                            self.save_picture,
                            self.save_checkpoint,
                            self.save_console,
                        ),
                        self.saved,
                        _row("line", self.write_down),
                        self.recipe,
                    ),
                ],
                titles=PANELS,
                selected_index=0,
            ),
            "panels",
        )
        traitlets.link((self.panel_choice, "index"), (self.panels, "selected_index"))

    def rows(self) -> Iterable[widgets.Widget]:
        """The bench from top to bottom."""
        return (
            self.style,
            _row(
                "toolbar",
                _row("buttons", self.start, self.pause, self.step, self.phase, self.stop, self.reset),
                self.speed,
                self.epochs,
            ),
            _row("status-row", self.status, self.notice),
            self.words,
            _row(
                "main",
                _named(widgets.GridBox([self.loss, self.norms, self.update, self.attention]), "charts"),
                _row("knobs", self._settings(), self._faults(), align="flex-start"),
                align="flex-start",
            ),
            self.panel_choice,
            self.panels,
        )

    def _settings(self) -> widgets.VBox:
        return _column(
            "group",
            _heading("Change while it runs"),
            _row("line", self.learning_rate, self.halve, self.double),
            _row("line", self.clips, self.clip_norm),
            self.optimizer,
            self.schedule,
        )

    def _faults(self) -> widgets.VBox:
        return _column(
            "group",
            _heading("Break it"),
            _row("line", self.fault, self.switch_on),
            self.fault_note,
            self.fault_list,
        )
