"""How soon the live bench opens, answers and stops, read from the stored measurements of `make bench-live`."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from cllm_lab.resources import data_path

FILE = "live_bench.json"
# Quoted, not measured here: the seconds that the original needs for its table, its program compiled with
# optimisation, and as its makefile compiles it; and whether anything makes the table once the start does not.
ORIGINAL_CACHE_SECONDS = (4.7, 19.6)
ORIGINAL_MAKES_IT_LATER = False


def live_bench() -> dict[str, Any]:
    """At the documents' size, the slowest of all kernels: answers and buttons while the bench trains, and buttons
    while a cell does; what Stop takes and leaves; and what keys do that are typed into a field and on a button.
    """
    stored = _stored()
    kernels = stored["documents_size"]
    cells = [kernel["in_a_cell"] for kernel in kernels]
    frozen = max(cells, key=lambda cell: max(cell["presses"]))
    typed = stored["text_fields"]
    return {
        "ipykernels": [kernel["ipykernel"] for kernel in kernels],
        "parameters": kernels[0]["machine"]["parameters"],
        "step_seconds": [median(kernel["steps"]) for kernel in kernels],
        "answer_seconds": median(answer for kernel in kernels for answer in kernel["answers"]),
        "longest_answer_seconds": max(max(kernel["answers"]) for kernel in kernels),
        "longest_freeze_seconds": max(max(kernel["answers"] + kernel["presses"]) for kernel in kernels),
        "longest_freeze_blocking_seconds": max(frozen["presses"]),
        "cell_seconds": frozen["cell"],
        "stop_beyond_the_step_seconds": max(
            stop["beyond_the_step"] for kernel in kernels for stop in kernel["stops"]
        ),
        "threads_of_ours_after_stop": max(
            len(threads["ours"]) for kernel in kernels for threads in kernel["threads"]["after_stop"]
        ),
        "fields": None if typed is None else typed["fields"],
        "hotkey_stolen": None
        if typed is None
        else bool(typed["commands"]) or typed["arrived"] < typed["texts"],
        "commands_on_a_button": [] if typed is None else typed["commands_on_a_button"],
        "commands_on_a_cell": [] if typed is None else typed["commands_on_a_cell"],
    }


def startup_times() -> dict[str, Any]:
    """From starting Python to a bench, with the table of lattice values made at first use and made beforehand; what
    three idle threads cost; and what is quoted of the original.
    """
    opening = _stored()["opening"]
    cache, threads = opening["values"], opening["idle_threads"]
    after = median(opening["bench"]["process"])
    return {
        "original_cache_seconds": list(ORIGINAL_CACHE_SECONDS),
        "original_makes_it_later": ORIGINAL_MAKES_IT_LATER,
        "entries": cache["historical_entries"][0],
        "cache_seconds": median(cache["historical"]),
        "before_seconds": after + median(cache["historical"]),
        "after_seconds": after + median(cache["lazy"]),
        "idle_threads_seconds": median(threads["making"]),
        "idle_threads_work_ratio": median(threads["work_ratio"]),
    }


def _stored() -> dict[str, Any]:
    return json.loads(data_path(FILE).read_text(encoding="utf-8"))
