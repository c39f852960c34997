"""The measurements that are made in kernels, each in one of its own. Times are in seconds, memory in bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench_live.figures import (
    beyond_the_step,
    median_ratio,
    rate,
    step_seconds,
    waits,
)
from tests.bench_live.kernel import PATIENCE_SECONDS, Kernel, KernelError, kernel

CONTROLS = ("start", "pause", "stop", "loss", "status-line")
BENCH = "import cllm_lab as lab\nbench = lab.live()\nbench"
# numpy's linear algebra has threads of its own from its import on.
TOOLS = "import ipykernel, numpy\nfrom tests.bench_live import inside"
DOCUMENTS_SIZE = """
from cllm_lab.views.live import presets
bench.new_run(**presets.chosen(bench.runner.setup, presets.AS_IT_IS, "documents' size", 0, 0.0))
watch = inside.Watch(bench)
bell = inside.Doorbell()
"""
STEPS_BEFORE = 3
# Between two questions, so that they meet a step in all its parts.
GAP_SECONDS = 0.1
# Until a start, or a change of what is measured, has settled.
SETTLING_SECONDS = 0.3


@dataclass(frozen=True)
class Plan:
    """How often each is done; ``seconds`` is a turn of each kind of training, with a bench and without."""

    starts: int
    answers: int
    stops: int
    rounds: int
    seconds: float
    drawn_updates: int


FULL = Plan(starts=5, answers=40, stops=5, rounds=8, seconds=1.5, drawn_updates=10_000)
QUICK = Plan(starts=1, answers=8, stops=2, rounds=2, seconds=0.8, drawn_updates=300)


def first_curves(plan: Plan) -> dict[str, list[float]]:
    """In fresh kernels: until the kernel answers, until the bench is shown, and from Start to a curve in the page."""
    found: dict[str, list[float]] = {"kernel_ready": [], "bench_shown": [], "first_curve": []}
    for _ in range(plan.starts):
        began = time.monotonic()
        with kernel() as talk:
            found["kernel_ready"].append(time.monotonic() - began)
            began = time.monotonic()
            talk.run(BENCH)
            found["bench_shown"].append(time.monotonic() - began)
            talk.run(TOOLS)
            ids = _controls(talk)
            pressed = talk.press(ids["start"])
            trained = talk.await_value(ids["status-line"], pressed, r"step [1-9]")
            found["first_curve"].append(talk.await_value(ids["loss"], trained) - pressed)
    return found


def documents_size(plan: Plan, overlay: Path | None = None) -> dict[str, Any]:
    """At the documents' size: what there is before Start, how soon the kernel answers while the bench trains, how
    soon Stop acts and what it leaves, and what the same training does in a cell."""
    with kernel(overlay) as talk:
        talk.run(TOOLS)
        at_first = talk.ask("inside.threads()")
        talk.run(BENCH)
        talk.run(DOCUMENTS_SIZE)
        ids = _controls(talk)
        found: dict[str, Any] = {
            "ipykernel": talk.ask("ipykernel.__version__"),
            "threads": {"at_first": at_first, "before_start": talk.ask("inside.threads()"), "after_stop": []},
            "answers_idle": [_ask_slowly(talk) for _ in range(plan.answers)],
        }
        talk.press(ids["start"])
        _await_steps(talk, STEPS_BEFORE)
        found["machine"] = talk.ask("inside.machine(bench)")
        found["threads"]["training"] = talk.ask("inside.threads()")
        found["answers"] = [_ask_slowly(talk) for _ in range(plan.answers)]
        found["presses"] = _ring(talk, plan.answers)
        found["steps"] = step_seconds(talk.ask("watch.step_ends"))
        found["stops"] = []
        for number in range(plan.stops):
            time.sleep(GAP_SECONDS * number)
            found["stops"].append(_stop(talk, ids))
            found["threads"]["after_stop"].append(talk.ask("inside.threads()"))
            talk.press(ids["start"])
            _await_steps(talk, STEPS_BEFORE)
        _stop(talk, ids)
        found["in_a_cell"] = _in_a_cell(talk)
    return found


def _controls(talk: Kernel) -> dict[str, str]:
    return {name: talk.ask(f"inside.control(bench, {name!r})") for name in CONTROLS}


def _ask_slowly(talk: Kernel) -> float:
    time.sleep(GAP_SECONDS)
    return talk.seconds_to_result("1 + 1")


def _await_steps(talk: Kernel, more: int) -> None:
    """Until so many more steps are done."""
    wanted = talk.ask("inside.progress(bench)")[1] + more
    deadline = time.monotonic() + PATIENCE_SECONDS
    while talk.ask("inside.progress(bench)")[1] < wanted:
        if time.monotonic() > deadline:
            state = talk.ask("bench.runner.state + ' ' + bench.runner.error")
            raise KernelError(f"not {more} steps in {PATIENCE_SECONDS:.0f} seconds; the run is {state}")
        time.sleep(GAP_SECONDS)


def _ring(talk: Kernel, times: int) -> list[float]:
    """Seconds until the callback of a pressed button has run."""
    talk.run("bell.moments.clear()")
    pressed = []
    for _ in range(times):
        time.sleep(GAP_SECONDS)
        pressed.append(talk.press(talk.ask("bell.id")))
    return waits(pressed, talk.ask("bell.moments"))


def _stop(talk: Kernel, ids: dict[str, str]) -> dict[str, float]:
    """Presses Stop: until the run is halted, and of that what no step can be blamed for; until the page says so; until
    no thread of ours is left."""
    pressed = talk.press(ids["stop"])
    shown = talk.await_value(ids["status-line"], pressed, "cllm-state-stopped")
    moments = talk.ask("watch.moments()")
    halted = moments["halts"][-1]
    while talk.ask("inside.threads()")["ours"]:
        if time.monotonic() > pressed + PATIENCE_SECONDS:
            raise KernelError(f"threads are left {PATIENCE_SECONDS:.0f} seconds after Stop")
        time.sleep(GAP_SECONDS)
    return {
        "halted": halted - pressed,
        "beyond_the_step": beyond_the_step(pressed, halted, moments["step_ends"]),
        "shown": shown - pressed,
        "threads_gone": time.monotonic() - pressed,
    }


def _in_a_cell(talk: Kernel) -> dict[str, Any]:
    """An epoch of the bench's trainer in a cell, and buttons pressed meanwhile."""
    bell = talk.ask("bell.id")
    talk.run("bell.moments.clear()")
    began = time.monotonic()
    request = talk.send("trainer = bench.trainer\ntrainer.run(epochs=1, progress=False)\nNone")
    pressed = []
    for _ in range(5):
        time.sleep(GAP_SECONDS)
        pressed.append(talk.press(bell))
    talk.finish(request)
    took = time.monotonic() - began
    return {"cell": took, "presses": waits(pressed, talk.ask("bell.moments"))}


def drawing(plan: Plan) -> dict[str, Any]:
    """Steps a second of the default machine: with the bench drawing, with its runner alone, and of the machine alone,
    in turns; and how many drawings a second reached the page."""
    found: dict[str, Any] = {"drawn": [], "undrawn": [], "alone": [], "drawings": []}
    with kernel() as talk:
        talk.run(TOOLS)
        talk.run(BENCH)
        talk.run("alone = inside.Alone(bench.runner.setup)")
        loss = talk.ask("inside.control(bench, 'loss')")
        ways = {
            "drawn": ("bench.start()", "bench.stop(); bench.wait()", "inside.progress(bench)"),
            "undrawn": ("bench.runner.start()", "bench.runner.close()", "inside.progress(bench)"),
            "alone": ("alone.start()", "alone.halt()", "alone.progress()"),
        }
        for _ in range(plan.rounds):
            for way, (start, halt, progress) in ways.items():
                talk.run(start)
                time.sleep(SETTLING_SECONDS)
                before = talk.ask(progress)
                time.sleep(plan.seconds)
                after = talk.ask(progress)
                talk.run(halt)
                found[way].append(rate(before, after))
                if way == "drawn":
                    seen = [moment for moment, _ in talk.values(loss, before[0]) if moment <= after[0]]
                    found["drawings"].append(len(seen) / (after[0] - before[0]))
    found["share_of_undrawn"] = median_ratio(found["drawn"], found["undrawn"])
    found["share_of_alone"] = median_ratio(found["drawn"], found["alone"])
    return found


def memory(plan: Plan, parts: int = 10) -> dict[str, Any]:
    """What the kernel's memory grows by over steps that are each drawn and sent, and how many bytes reached the page.

    ``in_memory``: after a tenth of the updates that are made first and not counted, and after each part of the others.
    """
    with kernel() as talk:
        talk.run(TOOLS)
        talk.run(BENCH)
        loss = talk.ask("inside.control(bench, 'loss')")
        each = plan.drawn_updates // parts
        in_memory = [talk.ask(f"inside.draw_every_step(bench, {each})")]
        read, began = talk.bytes_read, time.monotonic()
        for _ in range(parts):
            in_memory.append(talk.ask(f"inside.draw_every_step(bench, {each})"))
        talk.await_news(lambda: len(talk.values(loss, began)) >= each * parts)
        took = time.monotonic() - began
        return {
            "updates": each * parts,
            "arrived": len(talk.values(loss, began)),
            "in_memory": in_memory,
            "growth": in_memory[-1] - in_memory[0],
            "sent": talk.bytes_read - read,
            "seconds": took,
        }
