"""Which threads work: decided here and nowhere else.

Work is shared out in pieces of which each is made by one thread from end to end: the sequences of a batch, the rows of
the weights, stretches of the parameters, or, where the parts make a large product, its columns. The linear algebra
library makes its small products on the thread that asks for them: threads that wait for each other within a product of
microseconds lose more than they gain, and where another process holds a core they wait for that process. Only large
products in float64, and those of the reference parts, are made by as many as it likes.

How many threads there are is the library's own number, so OMP_NUM_THREADS and threadpoolctl's limits hold.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import lru_cache, partial
from itertools import pairwise
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from cllm_lab.model.config import ModelConfig

# What a process should start with in which a linear algebra library makes large products. Its threads wait for the
# next one by spinning, by default for 0.03 seconds (OpenBLAS) and 0.2 (MKL); the optimizer, which comes after the last,
# then has to share its cores with them. 2^20 cycles and a millisecond are enough between two products.
ENVIRONMENT = {"OPENBLAS_THREAD_TIMEOUT": "20", "KMP_BLOCKTIME": "1"}

# Multiply-adds of one product; about a millisecond on one core.
SMALL_PRODUCT = 50_000_000
# Numbers that an optimizer takes about half a millisecond for. 19 million make 73 pieces of that many: up to eight
# threads then have at most a tenth more work than if they shared it evenly.
PIECE = 1 << 18
# Seconds after which a helping thread that nobody needs ends.
IDLE_SECONDS = 0.5
SECONDS_BETWEEN_LOOKS = 0.001

T = TypeVar("T")

_lock = threading.Lock()
_inside = 0
_counts: list[int] = []
_idle: list[_Helper] = []


def available_threads() -> int:
    """How many threads a step may use: what the linear algebra libraries were given.

    The number of processors where NumPy's library is one that cannot be asked, as Apple's Accelerate.
    """
    libraries = _libraries()
    with _lock:
        counts = _counts if _inside else [library.get_num_threads() for library in libraries]
        return max(counts, default=os.cpu_count() or 1)


@contextmanager
def library_threads(config: ModelConfig, n_tokens: int, dtype: np.dtype) -> Iterator[None]:
    """A context in which the linear algebra library uses all its threads if it makes large products, else one.

    In float32 it makes none: `products` does. The count is the process's own. Where several Python threads train at
    once, the first that enters lowers it and the last that leaves puts it back.
    """
    if dtype == np.float64 and largest_product(config, n_tokens) > SMALL_PRODUCT:
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


def largest_product(config: ModelConfig, n_tokens: int) -> int:
    """Multiply-adds of the largest product of a step with a weight matrix: B T C max(V, F, 3 C)."""
    return n_tokens * config.d_model * max(config.vocab_size, config.width_ff, 3 * config.d_model)


def in_pieces(work: Callable[[slice], T], stretch: slice) -> list[T]:
    """The results of ``work`` on the pieces of a stretch of a flat array, in their order.

    A piece is `PIECE` numbers long, the last as long as what is left. The threads that there are each take neighbouring
    pieces, about as many as the others: what comes out is the same, to the bit, for any number of threads.
    """
    if stretch.stop - stretch.start <= PIECE:
        return [work(stretch)]
    starts = range(stretch.start, stretch.stop, PIECE)
    pieces = [slice(start, min(start + PIECE, stretch.stop)) for start in starts]
    count = min(available_threads(), len(pieces))
    bounds = [len(pieces) * i // count for i in range(count + 1)]

    def run(first: int, last: int) -> list[T]:
        return [work(piece) for piece in pieces[first:last]]

    runs = run_together([partial(run, first, last) for first, last in pairwise(bounds)])
    return [result for results in runs for result in results]


def run_together(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Runs all jobs at the same time, the first on the calling thread; their results in order.

    Helping threads are kept for the next call and end by themselves when it does not come. If jobs raise, the others
    are waited for and the first exception is raised. A Ctrl-C is raised once no job runs any more, since they may write
    into the caller's arrays; jobs that had not begun never do. Only one more Ctrl-C may be raised before that.
    """
    tasks = [_Task(job) for job in jobs[1:]]
    try:
        for task in tasks:
            _hand_over(task)
        outcomes = [_attempt(jobs[0]), *[task.wait() for task in tasks]]
    except BaseException:
        for task in tasks:
            task.withdraw()
        raise
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return [outcome.value for outcome in outcomes]


def dismiss_helpers() -> None:
    """Ends the helping threads that have nothing to do, now and not after `IDLE_SECONDS`; waits for their end."""
    with _lock:
        idle = list(_idle)
        _idle.clear()
    for helper in idle:
        helper.tasks.put(None)
    for helper in idle:
        helper.join()


class _Outcome(NamedTuple):
    value: Any
    error: BaseException | None


def _attempt(job: Callable[[], Any]) -> _Outcome:
    # Whatever a helper's job raises belongs to the caller, who raises it again.
    try:
        return _Outcome(job(), None)
    except BaseException as error:
        return _Outcome(None, error)


class _Task:
    """A job on its way to a helper. Whoever takes its lock first may begin or withdraw it; nobody gives that back."""

    def __init__(self, job: Callable[[], Any]) -> None:
        # With the caller's context: NumPy keeps there what it does about an overflow.
        self._job = partial(copy_context().run, job)
        self._taken = threading.Lock()
        self._outcome: _Outcome | None = None
        self._ended: SimpleQueue[_Outcome] = SimpleQueue()

    def run(self) -> None:
        """By the helper: the job, if it was not withdrawn."""
        if self._taken.acquire(blocking=False):
            self._outcome = _attempt(self._job)

    def report(self) -> None:
        """By the helper: the job has ended."""
        if self._outcome is not None:
            self._ended.put(self._outcome)

    def wait(self) -> _Outcome:
        """By the caller, once: what came of the job."""
        return self._ended.get()

    def withdraw(self) -> None:
        """By a caller that was interrupted: when this returns, the job has ended or never begins."""
        # By looking again and again, since nobody can tell whether `wait` has taken the report.
        while self._outcome is None and not self._taken.acquire(timeout=SECONDS_BETWEEN_LOOKS):
            pass


class _Helper(threading.Thread):
    """A thread that runs what it is given, one job after the other, and ends when it has long had none."""

    def __init__(self) -> None:
        super().__init__(name="cllm_lab helper", daemon=True)
        self.tasks: SimpleQueue[_Task | None] = SimpleQueue()

    def run(self) -> None:
        for library in _libraries():
            if library.internal_api == "mkl":  # whose count is each thread's own
                _set_count(library, 1)
        while True:
            try:
                task = self.tasks.get(timeout=IDLE_SECONDS)
            except Empty:
                with _lock:
                    if not self.tasks.empty():  # given just now
                        continue
                    if self in _idle:
                        _idle.remove(self)
                return
            if task is None:  # dismissed
                return
            task.run()
            # Before the caller knows that the job has ended, so that its next one finds this thread.
            with _lock:
                _idle.append(self)
            task.report()
            del task


def _hand_over(task: _Task) -> None:
    """Gives a task to a helper that has nothing to do, or to a new one."""
    # In one stretch under the lock: a helper with no task that is not in `_idle` has been forgotten, and ends.
    with _lock:
        if _idle:
            _idle.pop().tasks.put(task)
            return
    helper = _Helper()
    helper.tasks.put(task)
    helper.start()


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
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)
