"""Which threads work, what they make of it, and what becomes of them."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import cllm_lab as lab
from cllm_lab.model.parts import threads
from cllm_lab.model.parts.threads import (
    IDLE_SECONDS,
    PIECE,
    SMALL_PRODUCT,
    available_threads,
    dismiss_helpers,
    in_pieces,
    largest_product,
    library_threads,
    one_product_thread,
    run_together,
)

SMALL = lab.ModelConfig(vocab_size=611)
LARGE = lab.ModelConfig(vocab_size=10_000, d_model=512)


def threads_of_blas() -> int:
    # Another test may have loaded SciPy, which brings a library of its own.
    return min(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(limits=2, user_api="blas"):
        yield


# Threads of the library in a step of 128 tokens: its large products are those in float64.
STEPS = pytest.mark.parametrize(
    ("config", "dtype", "inside"),
    [(SMALL, "float32", 1), (LARGE, "float32", 1), (SMALL, "float64", 1), (LARGE, "float64", 2)],
)


@STEPS
def test_the_library_makes_small_products_with_one_thread_and_large_ones_with_all(
    config, dtype, inside
) -> None:
    with library_threads(config, 128, np.dtype(dtype)):
        assert threads_of_blas() == inside
    assert threads_of_blas() == 2


def test_the_count_is_put_back_after_an_error() -> None:
    with pytest.raises(KeyError), library_threads(SMALL, 128, np.dtype("float32")):
        raise KeyError
    assert threads_of_blas() == 2


def test_interleaved_steps_put_the_count_back_when_the_last_has_left() -> None:
    first, second = (library_threads(SMALL, 128, np.dtype("float32")) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert threads_of_blas() == 1
    second.__exit__(None, None, None)
    assert threads_of_blas() == 2


def test_the_largest_product_is_that_of_the_widest_matrix() -> None:
    base = lab.ModelConfig(vocab_size=7, d_model=8, n_heads=2, d_ff=9)
    assert largest_product(base, 5) == 5 * 8 * 24
    assert largest_product(replace(base, d_ff=100), 5) == 5 * 8 * 100
    assert largest_product(replace(base, vocab_size=1000), 5) == 5 * 8 * 1000
    assert largest_product(SMALL, 128) < SMALL_PRODUCT < largest_product(LARGE, 128)


def seen_by_qkv(config, dtype):
    """The library's threads that a part sees, forward and backward."""
    seen = []
    model = lab.Transformer(replace(config, n_layers=1), dtype=dtype)
    qkv = model.parts.qkv

    def forward(x, site):
        seen.append(threads_of_blas())
        return qkv.forward(x, site)

    def backward(dy, site):
        seen.append(threads_of_blas())
        return qkv.backward(dy, site)

    watched = model.swapped(qkv=lab.parts.Part("watched", forward, backward))
    tokens = np.zeros((4, 32), np.int32)
    watched.gradients(tokens, tokens)
    return seen


@STEPS
def test_both_directions_of_a_step_keep_to_it(config, dtype, inside) -> None:
    assert seen_by_qkv(config, dtype) == [inside, inside]


def test_where_no_library_can_be_asked_there_are_as_many_threads_as_processors(monkeypatch) -> None:
    monkeypatch.setattr("cllm_lab.model.parts.threads._libraries", lambda: ())
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_threads() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_threads() == 1


def test_the_available_threads_are_those_that_were_given_also_within_a_step() -> None:
    assert available_threads() == 2
    with one_product_thread():
        assert threads_of_blas() == 1
        assert available_threads() == 2
    with threadpool_limits(limits=1, user_api="blas"):
        assert available_threads() == 1


# Jobs at the same time.


def test_jobs_run_at_the_same_time_and_their_results_come_in_order() -> None:
    barrier = threading.Barrier(3, timeout=10)
    first = threading.get_ident()

    def job(number):
        barrier.wait()
        return number, threading.get_ident()

    results = run_together([partial(job, number) for number in range(3)])
    assert [number for number, _ in results] == [0, 1, 2]
    threads = [thread for _, thread in results]
    assert threads[0] == first
    assert len(set(threads)) == 3


@pytest.mark.parametrize("kind", [KeyError, SystemExit])
def test_a_job_that_fails_is_raised_when_all_have_ended(kind) -> None:
    ended = threading.Event()

    def fails():
        raise kind("first")

    def lasts():
        time.sleep(0.05)
        ended.set()

    for jobs in ([fails, lasts], [lasts, fails]):
        ended.clear()
        with pytest.raises(kind, match="first"):
            run_together(jobs)
        assert ended.is_set()
    assert run_together([lambda: 1, lambda: 2]) == [1, 2]


def test_jobs_have_the_context_of_their_caller() -> None:
    with np.errstate(over="raise", divide="ignore"):
        states = run_together([np.geterr, np.geterr])
    assert states[0] == states[1]
    assert states[1]["over"] == "raise"


def helpers():
    return [thread for thread in threading.enumerate() if thread.name == "cllm_lab helper"]


def test_helping_threads_are_used_again_and_end_when_nobody_needs_them() -> None:
    idents = {run_together([int, threading.get_ident])[1] for _ in range(20)}
    assert len(idents) == 1
    deadline = time.monotonic() + 20 * IDLE_SECONDS
    while helpers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert helpers() == []
    assert run_together([int, int]) == [0, 0]


def test_helpers_that_rest_can_be_dismissed_at_once_and_others_come_when_they_are_needed() -> None:
    assert run_together([int, int, int]) == [0, 0, 0]
    assert len(helpers()) >= 2
    dismiss_helpers()
    assert helpers() == []
    dismiss_helpers()
    assert run_together([int, lambda: 7]) == [0, 7]
    dismiss_helpers()
    assert helpers() == []


def test_a_dismissed_helper_does_not_wait_for_its_time_to_end(monkeypatch) -> None:
    dismiss_helpers()
    monkeypatch.setattr(threads, "IDLE_SECONDS", 20.0)
    run_together([int, int])
    dismissing = threading.Thread(target=dismiss_helpers, daemon=True)
    dismissing.start()
    dismissing.join(timeout=10)
    assert not dismissing.is_alive()


def test_a_helper_that_works_is_not_dismissed() -> None:
    working, released = threading.Event(), threading.Event()

    def work() -> int:
        working.set()
        released.wait(30)
        return 7

    dismiss_helpers()
    results: list[int] = []
    caller = threading.Thread(target=lambda: results.extend(run_together([int, work])))
    caller.start()
    assert working.wait(30)
    dismiss_helpers()
    assert len(helpers()) == 1
    released.set()
    caller.join(timeout=30)
    assert results == [0, 7]
    dismiss_helpers()
    assert helpers() == []


def test_a_helper_that_is_about_to_end_still_does_a_job_that_it_was_given(monkeypatch) -> None:
    class SlowList(list):
        def pop(self, *arguments):
            time.sleep(2 * IDLE_SECONDS)  # the helper's time is over when it gets its job
            return super().pop(*arguments)

    dismiss_helpers()
    monkeypatch.setattr(threads, "_idle", SlowList())
    results: list[list[int]] = []
    caller = threading.Thread(
        target=lambda: results.extend(run_together([int, lambda: 7]) for _ in range(2)), daemon=True
    )
    caller.start()
    caller.join(timeout=30)
    assert results == [[0, 7], [0, 7]]
    dismiss_helpers()


def test_several_python_threads_can_run_jobs_at_once() -> None:
    results: dict[int, list] = {}

    def caller(number):
        results[number] = [run_together([lambda: number, lambda: -number]) for _ in range(200)]

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(timeout=30)
    assert results == {number: [[number, -number]] * 200 for number in range(4)}


# Ctrl-C.


def nobody_stays():
    """Whether every helper ends that has nothing to do."""
    deadline = time.monotonic() + 20 * IDLE_SECONDS
    while helpers() and time.monotonic() < deadline:
        time.sleep(0.01)
    return helpers() == []


def interrupt_main_thread():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


class Recorded:
    """A job that takes a little time and says when it began and ended."""

    def __init__(self) -> None:
        self.began = self.ended = 0

    def __call__(self) -> None:
        self.began += 1
        time.sleep(0.002)
        self.ended += 1


def interrupted_at(number, jobs):
    """Runs jobs and comes with a Ctrl-C as soon as `threads` has made so many calls; whether it was raised.

    The interpreter looks for signals where a function begins and where a call of a built-in one has returned.
    """
    left = number

    def count(frame, event, argument):
        nonlocal left
        if event in ("call", "c_return") and frame.f_code.co_filename == threads.__file__:
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    sys.setprofile(count)
    try:
        run_together(jobs)
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_a_ctrl_c_at_any_point_leaves_no_job_running_and_no_helper_behind() -> None:
    for number in itertools.count(1):
        jobs = [Recorded() for _ in range(3)]
        interrupted = interrupted_at(number, jobs)
        then = [(job.began, job.ended) for job in jobs]
        assert all(began == ended for began, ended in then), number
        assert run_together([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]
        assert [(job.began, job.ended) for job in jobs] == then, number
        if not interrupted:
            assert then == [(1, 1)] * 3
            break
    assert number > 10
    assert nobody_stays()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the platform cannot signal one thread")
def test_a_ctrl_c_while_a_helper_works_is_raised_when_it_has_ended() -> None:
    ended = []

    def work():
        interrupt_main_thread()
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_together([int, work])
    assert ended == [True]
    assert run_together([int, lambda: 7]) == [0, 7]
    assert nobody_stays()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the platform cannot signal one thread")
def test_one_more_ctrl_c_is_raised_at_once(monkeypatch) -> None:
    begun, waiting, released, ended = (threading.Event() for _ in range(4))
    withdraw = threads._Task.withdraw

    def first_press(task):
        raise KeyboardInterrupt

    def watched(task):
        waiting.set()
        withdraw(task)

    def work():
        begun.set()
        waiting.wait(30)
        interrupt_main_thread()
        released.wait(10)
        ended.set()

    monkeypatch.setattr(threads._Task, "wait", first_press)
    monkeypatch.setattr(threads._Task, "withdraw", watched)
    with pytest.raises(KeyboardInterrupt):
        run_together([partial(begun.wait, 30), work])
    assert not ended.is_set()
    monkeypatch.undo()
    assert run_together([int, lambda: 7]) == [0, 7]
    released.set()
    assert nobody_stays()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_makes_threads_of_its_own() -> None:
    script = (
        "import os, warnings; warnings.simplefilter('ignore');"
        "from cllm_lab.model.parts.threads import run_together;"
        "run_together([int, int]);"
        "child = os.fork();"
        "os._exit(run_together([int, lambda: 7])[1]) if child == 0 else"
        " print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert finished.stdout.strip() == "7", finished.stderr


# Stretches of an array.


def test_a_short_array_is_one_piece_on_the_calling_thread() -> None:
    def work(piece):
        return piece, threading.get_ident()

    for size in (0, 1, PIECE):
        assert in_pieces(work, slice(5, 5 + size)) == [(slice(5, 5 + size), threading.get_ident())]


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5, 8])
def test_pieces_do_not_depend_on_the_threads_which_share_them_evenly(n_threads) -> None:
    meeting, mine = threading.Barrier(min(n_threads, 6), timeout=30), threading.local()

    def work(piece):
        if not hasattr(mine, "met"):
            mine.met = meeting.wait()
        return piece, threading.get_ident()

    with threadpool_limits(limits=n_threads, user_api="blas"):
        results = in_pieces(work, slice(5, 5 + 5 * PIECE + 1))
    assert [piece for piece, _ in results] == [
        *(slice(5 + n * PIECE, 5 + (n + 1) * PIECE) for n in range(5)),
        slice(5 + 5 * PIECE, 5 + 5 * PIECE + 1),
    ]
    runs = [len(list(run)) for _, run in itertools.groupby(thread for _, thread in results)]
    assert len({thread for _, thread in results}) == len(runs) == min(n_threads, 6)
    assert max(runs) - min(runs) <= 1


def test_one_number_more_than_a_piece_makes_two() -> None:
    assert in_pieces(lambda piece: piece, slice(0, PIECE + 1)) == [slice(0, PIECE), slice(PIECE, PIECE + 1)]


def test_a_piece_that_fails_is_raised() -> None:
    def work(piece):
        if piece.start == 2 * PIECE:
            raise KeyError("third")

    with pytest.raises(KeyError, match="third"):
        in_pieces(work, slice(0, 4 * PIECE))
