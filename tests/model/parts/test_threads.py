"""How many threads a step's products use."""

import os
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
from cllm_lab.model.parts.threads import (
    IDLE_SECONDS,
    LARGE_ARRAY,
    SMALL_PRODUCT,
    available_threads,
    dismiss_helpers,
    in_pieces,
    largest_product,
    one_product_thread,
    product_threads,
    run_together,
)

SMALL = lab.ModelConfig(vocab_size=611)
LARGE = lab.ModelConfig(vocab_size=10_000, d_model=512)


def threads_of_blas() -> int:
    # SciPy brings a library of its own, for compiled products.
    return min(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(limits=2, user_api="blas"):
        yield


@pytest.mark.parametrize(("config", "inside"), [(SMALL, 1), (LARGE, 2)])
def test_small_products_use_one_thread_and_large_ones_all(config, inside) -> None:
    with product_threads(config, 128):
        assert threads_of_blas() == inside
    assert threads_of_blas() == 2


def test_the_count_is_put_back_after_an_error() -> None:
    with pytest.raises(KeyError), product_threads(SMALL, 128):
        raise KeyError
    assert threads_of_blas() == 2


def test_interleaved_steps_put_the_count_back_when_the_last_has_left() -> None:
    first, second = product_threads(SMALL, 128), product_threads(SMALL, 128)
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


def seen_by_qkv(config):
    """Threads of the products that a part sees, forward and backward."""
    seen = []
    model = lab.Transformer(replace(config, n_layers=1))
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


@pytest.mark.parametrize(("config", "inside"), [(SMALL, 1), (LARGE, 2)])
def test_both_directions_of_a_step_keep_to_it(config, inside) -> None:
    assert seen_by_qkv(config) == [inside, inside]


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


def test_a_job_that_fails_is_raised_when_all_have_ended() -> None:
    ended = threading.Event()

    def fails():
        raise KeyError("first")

    def lasts():
        time.sleep(0.05)
        ended.set()

    for jobs in ([fails, lasts], [lasts, fails]):
        ended.clear()
        with pytest.raises(KeyError, match="first"):
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


def test_a_long_array_is_cut_for_the_threads_and_a_short_one_is_not() -> None:
    assert in_pieces(lambda piece: piece, slice(5, 5 + LARGE_ARRAY - 1)) == [slice(5, 4 + LARGE_ARRAY)]
    middle = 5 + LARGE_ARRAY // 2
    assert in_pieces(lambda piece: piece, slice(5, 5 + LARGE_ARRAY)) == [
        slice(5, middle),
        slice(middle, 5 + LARGE_ARRAY),
    ]
