"""The looks of the bench: colours for both themes, dash patterns, layout, and text made safe for HTML."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Final

ROOT: Final = "cllm-live"


@dataclass(frozen=True, slots=True)
class Stroke:
    """How a line is drawn: its colour on light and on dark ground, and its dash pattern (empty: unbroken)."""

    light: str
    dark: str
    dash: str = ""


# Light: four of the ten colours of Petroff (2021), made for colour-blind eyes too. Dark: the same hues, lighter.
STROKES: Final = {
    "embedding": Stroke("#3f90da", "#7cc0ff"),
    "attention": Stroke("#e76300", "#ff9a3d", "7 3"),
    "ff": Stroke("#832db6", "#a866dd", "2 2.5"),
    "ln": Stroke("#717581", "#e3e5ea", "9 3 2 3"),
    "training": Stroke("#3f90da", "#7cc0ff"),
    "validation": Stroke("#e76300", "#ff9a3d", "7 3"),
    "update": Stroke("#3f90da", "#7cc0ff"),
    "previous": Stroke("#717581", "#a3a7b0", "4 4"),
    "level": Stroke("#717581", "#a3a7b0", "1 3"),
    "any": Stroke("#717581", "#a3a7b0"),
    "healthy": Stroke("#00857a", "#4fd1c0", "1 3"),
    "mark": Stroke("#50545c", "#c8cbd2"),
    "alarm": Stroke("#bd1f01", "#ff8a75"),
}

# Of what is around the pictures: the focus, quiet words, and the ground of what stands out.
CONTROLS: Final = {
    "focus": Stroke("#0b62b8", "#8ecbff"),
    "quiet": Stroke("#5c5f66", "#b4b8c0"),
    "tint": Stroke("var(--jp-layout-color2, #eee)", "var(--jp-layout-color1, #212121)"),
}

_PICTURES: Final = """\
.cllm-live svg.cllm-chart { display: block; width: 100%; max-width: 680px; height: auto;
  font-family: var(--jp-ui-font-family, system-ui, sans-serif); }
.cllm-live .cllm-chart text { fill: var(--cllm-text); stroke: none; }
.cllm-live .cllm-chart .note { paint-order: stroke; stroke: var(--cllm-ground); stroke-width: 4px;
  stroke-linejoin: round; }
.cllm-live .cllm-chart .ground { fill: var(--cllm-ground); stroke: none; }
.cllm-live .cllm-chart .grid { stroke: var(--cllm-grid); stroke-width: 1; fill: none; }
.cllm-live .cllm-chart .axis { stroke: var(--cllm-text); stroke-opacity: 0.55; stroke-width: 1; fill: none; }
.cllm-live .cllm-chart .line { stroke-width: 2; fill: none; stroke-linejoin: round; }
.cllm-live .cllm-chart .thin { stroke-width: 1.2; fill: none; stroke-linejoin: round; }
.cllm-live .cllm-chart .mark { stroke-width: 0.9; }
.cllm-live .cllm-chart .ghost { stroke-width: 1.3; fill: none; stroke-dasharray: 1.5 2.5; }
.cllm-live .cllm-chart .dots { stroke-width: 6; stroke-linecap: round; fill: none; stroke-dasharray: none; }
.cllm-live .cllm-chart .band { fill-opacity: 0.2; stroke: none; }
.cllm-live .cllm-chart .small.dots { stroke-width: 3; }
.cllm-live .cllm-chart image { image-rendering: pixelated; }
.cllm-live .cllm-chart .hover { fill: transparent; stroke: none; }
"""

# Charts stand two in a row, or one where there is no room for two; the knobs stand beside them in a wide window. What
# a run fills with words has its height from the beginning, so that nothing below moves.
_LAYOUT: Final = """\
.cllm-live.widget-box { container: cllm-live / inline-size; gap: 8px; padding: 4px 2px; }
.cllm-live .widget-box { overflow: visible; }
.cllm-live .widget-html-content { line-height: 1.45; min-width: 0; }
.cllm-live .cllm-style { display: none; }
.cllm-live .cllm-toolbar { gap: 4px 14px; }
.cllm-live .cllm-buttons, .cllm-live .cllm-line { gap: 4px; }
.cllm-live .cllm-main { gap: 8px 20px; align-items: flex-start; }
.cllm-live .cllm-charts { display: grid; flex: 3 1 640px; min-width: 0; gap: 10px 16px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, max(300px, 34%)), 1fr)); }
.cllm-live .cllm-charts > * { width: auto; min-width: 0; height: auto; margin: 0; }
.cllm-live .cllm-charts > .cllm-attention { aspect-ratio: 16 / 9; }
.cllm-live .cllm-knobs { flex: 1 1 300px; min-width: 0; gap: 12px 24px; }
.cllm-live .cllm-group { flex: 1 1 290px; min-width: 0; gap: 4px; }
.cllm-live .cllm-group > .widget-combobox { width: 100%; }

.cllm-live .cllm-heading { font-weight: 600; color: var(--cllm-text); }
.cllm-live .cllm-status-row { gap: 0 18px; align-items: baseline; min-height: 1.6em; }
.cllm-live .cllm-status { color: var(--cllm-text); font-variant-numeric: tabular-nums; }
.cllm-live .cllm-status::before { content: ""; display: inline-block; width: 0.65em; height: 0.65em;
  margin-right: 0.45em; border-radius: 50%; background: var(--cllm-quiet); }
.cllm-live .cllm-state-running::before { background: var(--cllm-healthy); }
.cllm-live .cllm-state-failed::before { background: var(--cllm-alarm); }
.cllm-live .cllm-words-line { width: auto; height: auto; }
.cllm-live .cllm-words { display: flex; align-items: center; box-sizing: border-box; min-height: 3.9em;
  padding: 0.45em 0.8em; font-size: 1.08em; color: var(--cllm-text); background: var(--cllm-tint);
  border-left: 4px solid var(--cllm-focus);
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.cllm-live .cllm-words.cllm-error { border-left-color: var(--cllm-alarm); }
.cllm-live .cllm-error { color: var(--cllm-alarm); font-weight: 600; }
.cllm-live .cllm-done { color: var(--cllm-quiet); }
.cllm-live .cllm-note { color: var(--cllm-quiet); max-width: 78ch; }
.cllm-live .cllm-note b { color: var(--cllm-text); }
.cllm-live .cllm-notice { width: auto; height: auto; }
.cllm-live .cllm-saved { width: auto; height: auto; min-height: 1.45em; }
.cllm-live .cllm-attention .cllm-note { padding: 3px 4px; }
.cllm-live .cllm-fault-list .widget-html { width: auto; height: auto; flex: 1 1 0; }
.cllm-live .cllm-fault-list .widget-box { align-items: center; gap: 6px; }
.cllm-live .cllm-switch-off { width: auto; flex: 0 0 auto; }

.cllm-live .cllm-table { border-collapse: collapse; color: var(--cllm-text); }
.cllm-live .cllm-table caption { text-align: left; font-weight: 600; padding-bottom: 4px; white-space: nowrap; }
.cllm-live .cllm-table th { text-align: left; vertical-align: top; font-weight: 600; padding: 3px 18px 3px 0; }
.cllm-live .cllm-table td { text-align: left; padding: 3px 0; font-variant-numeric: tabular-nums; }
.cllm-live .cllm-table tr { border-top: 1px solid var(--cllm-grid); background: none; }
.cllm-live .cllm-console, .cllm-live .cllm-sample { box-sizing: border-box; margin: 0; padding: 8px 10px;
  color: var(--cllm-text); background: var(--cllm-tint); overflow: auto; }
.cllm-live .cllm-console { height: 25em; white-space: pre; line-height: 1.45; font-size: 0.93em;
  font-family: var(--jp-code-font-family, monospace); }
.cllm-live .cllm-sample { min-height: 4.5em; max-height: 14em; white-space: pre-wrap; overflow-wrap: anywhere;
  margin-bottom: 6px; font-size: 1.08em; }
.cllm-live .cllm-recipe { flex-flow: column; }
.cllm-live .cllm-recipe textarea { flex: 1 1 auto; font-family: var(--jp-code-font-family, monospace); white-space: pre;
  overflow-x: auto; line-height: 1.45; }
.cllm-live .cllm-phases, .cllm-live .cllm-text, .cllm-live .cllm-console-pane { width: auto; height: auto;
  min-height: 13em; margin: 0; }
.cllm-live .cllm-panel-choice { margin-top: 6px; }
.cllm-live .cllm-panels { box-sizing: border-box; margin-top: -5px; padding: 12px;
  border: 1px solid var(--cllm-grid); }
.cllm-live .cllm-panels > * { align-self: stretch; width: auto; max-width: 100%; }
.cllm-live .cllm-panels .widget-html-content { flex: 1 1 auto; }
.cllm-live .cllm-panel { gap: 8px; }

.cllm-live .widget-toggle-buttons > .widget-label { margin-right: 5px; }
.cllm-live .widget-label { width: auto; overflow: visible; text-overflow: clip; white-space: nowrap; }
.cllm-live .widget-toggle-buttons { display: flex; flex-flow: row wrap; align-items: baseline; height: auto;
  width: auto; max-width: 100%; gap: 3px; }
.cllm-live .widget-toggle-buttons > div { display: contents; }
.cllm-live .jupyter-button { margin: 0; overflow: visible; }
.cllm-live .widget-toggle-button { padding: 0 9px; }
.cllm-live .widget-toggle-button.mod-active { box-shadow: inset 0 -3px var(--cllm-focus); }
.cllm-live .widget-inline-hbox { margin: 0; }
.cllm-live .widget-checkbox { width: auto; align-items: center; }
.cllm-live .widget-checkbox label { display: flex; align-items: center; width: auto; overflow: visible; }
.cllm-live .widget-checkbox input { margin: 0 6px 0 0; }
.cllm-live.widget-box :focus-visible { outline: 2px solid var(--cllm-focus) !important; outline-offset: 1px; }

@container cllm-live (max-width: 700px) {
.cllm-live .cllm-words { min-height: 6.8em; }
.cllm-live .cllm-status-row { min-height: 3em; }
}
"""


def style_sheet() -> str:
    """One <style> element for everything inside an element of the class ``cllm-live``.

    Colours are the variables ``--cllm-NAME`` for the names of `STROKES` and `CONTROLS`; they turn lighter where the
    page's body says ``data-jp-theme-light="false"``, as JupyterLab and Notebook do. Nothing moves.
    """
    colours = STROKES | CONTROLS
    themes = {
        f".{ROOT}": {name: stroke.light for name, stroke in colours.items()},
        f'[data-jp-theme-light="false"] .{ROOT}': {name: stroke.dark for name, stroke in colours.items()},
    }
    page = {
        "text": "var(--jp-ui-font-color1, #212121)",
        "grid": "var(--jp-border-color2, #ddd)",
        "ground": "var(--jp-layout-color0, #fff)",
    }
    rules = [_block(f".{ROOT}", page)]
    rules += [_block(selector, colours) for selector, colours in themes.items()]
    for name, stroke in STROKES.items():
        dash = f" stroke-dasharray: {stroke.dash};" if stroke.dash else ""
        rules.append(f".{ROOT} .cllm-chart .{name} {{ stroke: var(--cllm-{name});{dash} }}")
        rules.append(f".{ROOT} .cllm-chart .{name}.band {{ fill: var(--cllm-{name}); }}")
    return "<style>\n" + "\n".join(rules) + "\n" + _PICTURES + _LAYOUT + "</style>"


def _block(selector: str, variables: dict[str, str]) -> str:
    inside = " ".join(f"--cllm-{name}: {value};" for name, value in variables.items())
    return f"{selector} {{ {inside} }}"


def printable(text: str) -> str:
    """Text with what cannot be printed, a line break for one, as its escape sequence."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def escaped(text: str) -> str:
    """Printable text for HTML or SVG, inside an element or an attribute."""
    return html.escape(printable(text), quote=True)
