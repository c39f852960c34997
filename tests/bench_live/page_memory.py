"""What the page holds on to while a bench in JupyterLab is drawn again and again."""

from __future__ import annotations

from typing import Any

from tests.bench_live.browser import opened_notebook
from tests.bench_live.measure import BENCH, Plan

# Every step is drawn and sent, without the bench's own threads: so many updates in so many steps.
DRAW = """
def draw_every_step(steps):
    bench.runner._go_on(None)
    for _ in range(steps):
        bench.runner._run_on()
        bench._draw()
    bench.runner._halt("paused")
    bench._draw()
draw_every_step({warm_up})
"""
MORE = "draw_every_step({updates})"
WARM_UP = 500
SHOWS_STEP = "shown => shown.includes('step {step:,} ')"
# Milliseconds for the page to take in what the kernel has sent.
WITHIN = 900_000


def page_memory(plan: Plan) -> dict[str, Any]:
    """``growth``: bytes by which JavaScript's heap grew, after a garbage collection, over so many ``updates``;
    ``elements``: how many more the page had then. Raises NoBrowserError without Playwright or Chromium.
    """
    cells = [BENCH, DRAW.format(warm_up=WARM_UP), MORE.format(updates=plan.drawn_updates)]
    with opened_notebook(cells) as opened:
        opened.page.set_default_timeout(WITHIN)
        opened.run_cell(0)
        opened.run_cell(1)
        opened.wait_for("cllm-status-line", SHOWS_STEP.format(step=WARM_UP))
        heap, elements = opened.heap_bytes(), _elements(opened)
        opened.run_cell(2)
        opened.wait_for("cllm-status-line", SHOWS_STEP.format(step=WARM_UP + plan.drawn_updates))
        return {
            "updates": plan.drawn_updates,
            "growth": opened.heap_bytes() - heap,
            "elements": _elements(opened) - elements,
        }


def _elements(opened: Any) -> int:
    return int(opened.page.evaluate("document.querySelectorAll('*').length"))
