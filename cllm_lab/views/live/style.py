"""The looks of the bench's pictures: colours for both themes, dash patterns, and text made safe for HTML."""

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

_RULES: Final = """\
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


def style_sheet() -> str:
    """One <style> element for every picture inside an element of the class ``cllm-live``.

    Colours are the variables ``--cllm-NAME`` for the names of `STROKES`; they turn lighter where the page's body
    says ``data-jp-theme-light="false"``, as JupyterLab and Notebook do. Nothing moves.
    """
    themes = {
        f".{ROOT}": {name: stroke.light for name, stroke in STROKES.items()},
        f'[data-jp-theme-light="false"] .{ROOT}': {name: stroke.dark for name, stroke in STROKES.items()},
    }
    page = {
        "text": "var(--jp-ui-font-color1, #212121)",
        "grid": "var(--jp-border-color2, #ddd)",
        "ground": "var(--jp-layout-color1, #fff)",
    }
    rules = [_block(f".{ROOT}", page)]
    rules += [_block(selector, colours) for selector, colours in themes.items()]
    for name, stroke in STROKES.items():
        dash = f" stroke-dasharray: {stroke.dash};" if stroke.dash else ""
        rules.append(f".{ROOT} .cllm-chart .{name} {{ stroke: var(--cllm-{name});{dash} }}")
        rules.append(f".{ROOT} .cllm-chart .{name}.band {{ fill: var(--cllm-{name}); }}")
    return "<style>\n" + "\n".join(rules) + "\n" + _RULES + "</style>"


def _block(selector: str, variables: dict[str, str]) -> str:
    inside = " ".join(f"--cllm-{name}: {value};" for name, value in variables.items())
    return f"{selector} {{ {inside} }}"


def printable(text: str) -> str:
    """Text with what cannot be printed, a line break for one, as its escape sequence."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def escaped(text: str) -> str:
    """Printable text for HTML or SVG, inside an element or an attribute."""
    return html.escape(printable(text), quote=True)
