"""What a person waits for before there is a bench: `python -m tests.bench_live.opening bench` prints the seconds.

Nothing heavy is imported here before the clock runs: each kind of opening is measured in fresh processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable

PATIENCE_SECONDS = 120.0
IDLE_THREADS = 3
REPETITIONS = 20


def bench() -> dict[str, float]:
    """The import of the library, and a bench, as a notebook's first cell makes it."""
    began = time.perf_counter()
    import cllm_lab as lab

    imported = time.perf_counter()
    lab.live()
    return {"import": imported - began, "live": time.perf_counter() - imported}


def values() -> dict[str, float]:
    """The table of lattice values to 200,000: put there and not yet asked for, built from the historical list, and
    built from the primes."""
    from cllm_lab.lattice.value_cache import ValueCache

    began = time.perf_counter()
    ValueCache()
    made = time.perf_counter()
    entries = len(ValueCache(primes="historical").values())
    historical = time.perf_counter()
    ValueCache().values()
    return {
        "lazy": made - began,
        "historical": historical - made,
        "exact": time.perf_counter() - historical,
        "historical_entries": entries,
    }


def idle_threads() -> dict[str, float]:
    """Making three threads that then wait; and what other work takes beside them, over what it takes alone."""
    makings, alone, beside = [], [], []
    for _ in range(REPETITIONS):
        alone.append(_seconds(_some_work))
        ending = threading.Event()
        waiting = [threading.Thread(target=ending.wait, daemon=True) for _ in range(IDLE_THREADS)]
        began = time.perf_counter()
        for thread in waiting:
            thread.start()
        makings.append(time.perf_counter() - began)
        beside.append(_seconds(_some_work))
        ending.set()
        for thread in waiting:
            thread.join()
    # The fastest: whatever else the machine does only adds to a time.
    return {"making": sorted(makings)[len(makings) // 2], "work_ratio": min(beside) / min(alone)}


def _some_work() -> None:
    sum(range(1_000_000))


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


KINDS = {"bench": bench, "values": values, "idle_threads": idle_threads}


def in_fresh_processes(kind: str, times: int) -> dict[str, list[float]]:
    """Each figure of so many processes; ``process`` is the whole time from asking for one until its figures came.

    Raises subprocess.SubprocessError where one fails.
    """
    found: dict[str, list[float]] = {}
    for _ in range(times):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench_live.opening", kind],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        for name, figure in {**json.loads(done.stdout), "process": time.perf_counter() - began}.items():
            found.setdefault(name, []).append(figure)
    return found


if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]]()))
