"""What the bench's style sheet promises: its scope, a visible focus, words that can be read, room kept free."""

import re
from collections.abc import Iterator
from pathlib import Path

import ipywidgets as widgets
import pytest

from cllm_lab.views.live import bench, charts, texts
from cllm_lab.views.live import controls as controls_module
from cllm_lab.views.live.controls import Controls
from cllm_lab.views.live.runner import STATES
from cllm_lab.views.live.style import CONTROLS, STROKES, escaped, printable, style_sheet
from tests.views.live.test_charts import colours, contrast

SHEET = style_sheet()


def rules() -> dict[str, str]:
    """What each selector sets, those inside a @container left out."""
    outside = re.sub(r"@container[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", SHEET.removeprefix("<style>"))
    found: dict[str, str] = {}
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", outside):
        for selector in selectors.split(","):
            name = " ".join(selector.split())
            found[name] = found.get(name, "") + body
    return found


def shown(name: str, dark: bool) -> str:
    """The colour of a variable, the fallback where JupyterLab's own is asked for."""
    value = colours(SHEET, dark)[name]
    colour = re.sub(r"var\(--[^,]+, (#\w+)\)", r"\1", value)
    return colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])


def test_every_rule_is_inside_the_bench() -> None:
    assert len(rules()) > 60
    roots = (".cllm-live", '[data-jp-theme-light="false"] .cllm-live')
    assert not [selector for selector in rules() if not selector.startswith(roots)]
    assert SHEET.count("{") == SHEET.count("}")


def test_whatever_has_the_focus_shows_it() -> None:
    (rule,) = [body for selector, body in rules().items() if selector.endswith(" :focus-visible")]
    assert re.search(r"outline: 2px solid var\(--cllm-focus\) !important", rule)
    assert not re.search(r"outline: (none|0)", SHEET)


@pytest.mark.parametrize(("dark", "ground"), [(False, "#ffffff"), (True, "#111111")])
def test_words_can_be_read_and_the_focus_seen_on_what_they_stand_on(dark: bool, ground: str) -> None:
    for name, least in (("focus", 3.0), ("quiet", 4.5), ("alarm", 4.5)):
        assert contrast(shown(name, dark), ground) >= least, name
        assert contrast(shown(name, dark), shown("tint", dark)) >= least, name


def test_no_control_has_the_name_of_a_stroke() -> None:
    assert not set(CONTROLS) & set(STROKES)


@pytest.mark.parametrize(
    "part",
    [".cllm-words", ".cllm-status-row", ".cllm-phases", ".cllm-text", ".cllm-console-pane", ".cllm-saved"],
)
def test_what_a_run_fills_with_words_has_its_height_from_the_beginning(part: str) -> None:
    assert re.search(r"min-height: [1-9]", rules()[f".cllm-live {part}"])


def test_pictures_have_their_height_before_they_are_there() -> None:
    assert "aspect-ratio: 16 / 9" in rules()[".cllm-live .cllm-charts > .cllm-attention"]


def test_never_more_than_two_charts_in_a_row() -> None:
    columns = re.search(r"minmax\(min\(100%, max\((\d+)px, (\d+)%\)\)", rules()[".cllm-live .cllm-charts"])
    assert columns is not None
    assert 3 * int(columns[2]) > 100
    assert int(columns[1]) < 364  # what a window of 480 pixels leaves in JupyterLab


def inside(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from inside(child)


def test_every_class_with_a_rule_is_worn_by_something() -> None:
    """A rule for a class that nothing has is a spelling mistake, or what is left of something."""
    controls = Controls(("a fault",), ("as it is",), ("as it is",))
    everything = [each for row in controls.rows() for each in inside(row)]
    worn = {name for widget in everything for name in widget._dom_classes}
    for widget in everything:
        widget.close()
    written = "".join(Path(module.__file__).read_text() for module in (texts, controls_module, bench, charts))
    worn |= set(re.findall(r"cllm-[a-z-]*[a-z]", written))
    worn |= {"cllm-live", "cllm-chart", *(f"cllm-state-{state}" for state in STATES)}
    # A name after a hyphen is a variable's, one after @container that of the bench.
    assert set(re.findall(r"\.(cllm-[a-z-]+)", SHEET)) <= worn


def test_the_controls_stand_in_the_order_in_which_they_are_read() -> None:
    controls = Controls(("a fault",), ("as it is",), ("as it is",))
    order = [each for row in controls.rows() for each in inside(row)]
    wanted = [
        controls.start,
        controls.speed,
        controls.epochs,
        controls.status,
        controls.words,
        controls.loss,
        controls.attention,
        controls.learning_rate,
        controls.schedule,
        controls.fault,
        controls.switch_on,
        controls.panel_choice,
        controls.panels,
        controls.new_run,
        controls.recipe,
    ]
    places = [order.index(each) for each in wanted]
    assert places == sorted(places)
    for widget in order:
        widget.close()


def test_a_panel_is_chosen_by_a_button_and_the_button_shows_which() -> None:
    """Buttons, since Enter and Space work on them in JupyterLab and in Notebook."""
    controls = Controls(("a fault",), ("as it is",), ("as it is",))
    assert isinstance(controls.panel_choice, widgets.ToggleButtons)
    assert tuple(controls.panel_choice.options) == controls.panels.titles
    controls.panel_choice.value = "Console"
    assert controls.panels.children[controls.panels.selected_index] is controls.console
    controls.panels.selected_index = 1
    assert controls.panel_choice.value == "Text"
    for row in controls.rows():
        for widget in inside(row):
            widget.close()


def test_text_is_made_safe_and_nothing_else() -> None:
    assert printable("plain, ∇ too") == "plain, ∇ too"
    assert printable("a\nb\x00") == "a\\nb\\x00"
    assert escaped("<b a='1'>&\t") == "&lt;b a=&#x27;1&#x27;&gt;&amp;\\t"
