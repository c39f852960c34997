"""Which threads work: decided here and nowhere else.

A step uses the processor's cores in one of two ways. The batch of a machine with small matrices is cut into shares, one
for each thread, and every product is made by the thread that needs it: threads that wait for each other within a
product of microseconds lose more than they gain, and where another process holds a core they wait for that process.
Products with large matrices are made one after the other, each by all threads of the linear algebra library.

How many threads there are is the library's own number, so OMP_NUM_THREADS and threadpoolctl's limits hold.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import lru_cache, partial
from itertools import pairwise
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parts.products import load_library

# What a process should start with that trains large machines. The threads of the linear algebra libraries wait for
# the next product by spinning, by default for 0.03 and 0.2 seconds; the optimizer, which comes after the last
# product, then has to share the second core. 2^20 cycles and a millisecond are enough between two products.
ENVIRONMENT = {"OPENBLAS_THREAD_TIMEOUT": "20", "KMP_BLOCKTIME": "1"}

# Multiply-adds of one product; about a millisecond on one core.
SMALL_PRODUCT = 50_000_000
# Numbers that a pass of an optimizer takes about a millisecond for.
LARGE_ARRAY = 500_000
# Seconds after which a helping thread that nobody needs ends.
IDLE_SECONDS = 0.5

T = TypeVar("T")

_lock = threading.Lock()
_inside = 0
_counts: list[int] = []
_idle: list[_Helper] = []


def available_threads() -> int:
    """How many threads a step may use: what the linear algebra libraries were given."""
    libraries = _libraries()
    with _lock:
        counts = _counts if _inside else [library.get_num_threads() for library in libraries]
        return max(counts, default=1)


@contextmanager
def product_threads(config: ModelConfig, n_tokens: int) -> Iterator[None]:
    """A context in which a step of ``n_tokens`` uses one thread if all its products are small, else all there are.

    The count is the process's own. Where several Python threads train at once, the first that enters lowers it and
    the last that leaves puts it back.
    """
    if largest_product(config, n_tokens) > SMALL_PRODUCT:
        yield
        return
    with one_product_thread():
        yield


@contextmanager
def one_product_thread() -> Iterator[None]:
    """A context in which every product is made by the thread that asks for it."""
    _enter()
    try:
        yield
    finally:
        _leave()


def largest_matrix(config: ModelConfig) -> int:
    """Entries of the largest weight matrix: C max(V, F, 3 C)."""
    return config.d_model * max(config.vocab_size, config.width_ff, 3 * config.d_model)


def largest_product(config: ModelConfig, n_tokens: int) -> int:
    """Multiply-adds of the largest matrix product of a step: B T C max(V, F, 3 C)."""
    return n_tokens * largest_matrix(config)


def in_pieces(work: Callable[[slice], T], stretch: slice) -> list[T]:
    """``work`` on a stretch of a flat array: at once, or cut for the threads that there are where it is long.

    The results in the order of the pieces.
    """
    size = stretch.stop - stretch.start
    if size < LARGE_ARRAY:
        return [work(stretch)]
    count = available_threads()
    bounds = [stretch.start + size * i // count for i in range(count + 1)]
    return run_together([partial(work, slice(first, last)) for first, last in pairwise(bounds)])


def run_together(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Runs all jobs at the same time, the first on the calling thread; their results in order.

    Helping threads are kept for the next call and end by themselves when it does not come. If jobs raise, the others
    are waited for and the first exception is raised.
    """
    helpers = [_borrow() for _ in jobs[1:]]
    for helper, job in zip(helpers, jobs[1:], strict=True):
        # With the caller's context: NumPy keeps there what it does about an overflow.
        helper.jobs.put(partial(copy_context().run, job))
    results = [_attempt(jobs[0])]
    for helper in helpers:
        results.append(helper.results.get())
        with _lock:
            _idle.append(helper)
    for _, error in results:
        if error is not None:
            raise error
    return [value for value, _ in results]


def dismiss_helpers() -> None:
    """Ends the helping threads that have nothing to do, now and not after `IDLE_SECONDS`; waits for their end."""
    with _lock:
        idle = list(_idle)
        _idle.clear()
    for helper in idle:
        helper.jobs.put(None)
    for helper in idle:
        helper.join()


def _attempt(job: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    # Whatever a helper's job raises belongs to the caller, who raises it again.
    try:
        return job(), None
    except BaseException as error:
        return None, error


class _Helper(threading.Thread):
    """A thread that runs what it is given, one job after the other, and ends when it has long had none."""

    def __init__(self) -> None:
        super().__init__(name="cllm_lab helper", daemon=True)
        self.jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self.results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run(self) -> None:
        for library in _libraries():
            if library.internal_api == "mkl":  # whose count is each thread's own
                _set_count(library, 1)
        while True:
            try:
                job = self.jobs.get(timeout=IDLE_SECONDS)
            except Empty:
                with _lock:
                    if self not in _idle:  # borrowed: the job is on its way
                        continue
                    _idle.remove(self)
                return
            if job is None:  # dismissed
                return
            self.results.put(_attempt(job))
            del job


def _borrow() -> _Helper:
    with _lock:
        if _idle:
            return _idle.pop()
    helper = _Helper()
    helper.start()
    return helper


# The threads of a process do not exist in its forked child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


def _enter() -> None:
    global _inside, _counts
    with _lock:
        if _inside == 0:
            _counts = [library.get_num_threads() for library in _libraries()]
            for library in _libraries():
                _set_count(library, 1)
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            for library, count in zip(_libraries(), _counts, strict=True):
                _set_count(library, count)


def _set_count(library: Any, count: int) -> None:
    # The public method obeys only one thread of the process, whichever called it first; here `_inside` decides.
    getattr(library, "_real_set_num_threads", library.set_num_threads)(count)


@lru_cache(maxsize=1)
def _libraries() -> tuple[Any, ...]:
    """The linear algebra libraries of the process."""
    # What compiled and large products use must be there before it can be found.
    load_library()
    with suppress(ImportError):
        import scipy.linalg.cython_blas  # noqa: F401
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)
