"""The cache: right values, built once and only when asked for, within bounds, read back or refused."""

import json
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cllm_lab.lattice import value_cache as module
from cllm_lab.lattice.historical import historical_primes
from cllm_lab.lattice.primes import LARGEST_SIEVE, SEGMENT, primes_below
from cllm_lab.lattice.spirals import lattice_coordinates
from cllm_lab.lattice.value_cache import (
    VALUE,
    BuildCancelledError,
    CacheFileError,
    CacheLimitError,
    ValueCache,
    lattice_values,
)

LIMIT = 3 * SEGMENT
ROOM = 2**24


@pytest.fixture
def builds(monkeypatch):
    """Counts the builds that begin."""
    begun = []
    blocks = module.prime_blocks

    def counted(n):
        begun.append(n)
        return blocks(n)

    monkeypatch.setattr(module, "prime_blocks", counted)
    return begun


def no_thread_is_left():
    return not [thread for thread in threading.enumerate() if thread.name == "lattice values"]


# The values.


@given(st.lists(st.tuples(st.integers(2, 10**9), st.integers(1, 10**7)), max_size=10))
@settings(max_examples=50)
def test_values(entries):
    primes, indices = np.array(entries, np.int64).reshape(-1, 2).T
    values = lattice_values(primes, indices)
    assert values.dtype == VALUE and values.shape == (len(entries),)
    for value, (p, n) in zip(values, entries, strict=True):
        assert (value["prime"], value["index"]) == (p, n)
        assert (value["residue_12"], value["residue_30"]) == (p % 12, p % 30)
        assert value["radius"] == pytest.approx(math.sqrt(n - 1), rel=1e-15)
        assert value["z"] == pytest.approx(math.log(p + 1), rel=1e-15)
        polar = complex(value["x"], value["y"])
        assert polar == pytest.approx(value["radius"] * np.exp(1j * value["angle"]), rel=1e-12, abs=1e-12)
    places = np.stack([values["x"], values["y"], values["z"]], axis=-1)
    np.testing.assert_array_equal(places, lattice_coordinates(indices - 1, primes))


def test_the_largest_values():
    (value,) = lattice_values([2**53], [2**53 + 1])
    assert (value["prime"], value["index"], value["radius"]) == (2**53, 2**53 + 1, math.sqrt(2**53))


def test_an_entry_has_64_bytes():
    assert VALUE.itemsize == 64


@pytest.mark.parametrize(
    ("primes", "indices", "error", "message"),
    [
        ([2.0], [1], TypeError, "primes must hold integers"),
        ([2], [1.0], TypeError, "indices must hold integers"),
        ([0], [1], ValueError, "primes must be at least 1, got 0"),
        ([2], [0], ValueError, "indices must be at least 1, got 0"),
        ([2**53 + 1], [1], ValueError, f"primes must be at most {2**53}, got {2**53 + 1}"),
        ([2], [2**53 + 2], ValueError, f"indices must be at most {2**53 + 1}, got {2**53 + 2}"),
        ([2, 3], [1], ValueError, "primes and indices must have one shape"),
        ([[2]], [[1]], ValueError, "primes and indices must have one shape"),
    ],
)
def test_wrong_values_are_refused(primes, indices, error, message):
    with pytest.raises(error, match=message):
        lattice_values(primes, indices)


@pytest.mark.parametrize("limit", [2, 3, 100, 7919, SEGMENT - 1, SEGMENT, SEGMENT + 1000])
def test_exact_primes_to_the_limit(limit):
    values = ValueCache(limit).values()
    primes = primes_below(limit + 1)
    np.testing.assert_array_equal(values, lattice_values(primes, np.arange(1, len(primes) + 1)))


def test_the_historical_primes():
    values = ValueCache(200_000, "historical").values()
    assert len(values) == 23_094 and values.nbytes == 23_094 * 64
    np.testing.assert_array_equal(values, lattice_values(historical_primes(200_000), np.arange(1, 23_095)))


def test_lookup():
    cache = ValueCache(1_000)
    found = cache.lookup([[997, 2], [3, 997]])
    assert found["prime"].tolist() == [[997, 2], [3, 997]]
    assert found["index"].tolist() == [[168, 1], [2, 168]]
    found["x"] = 0.0
    assert cache.lookup(997)["x"] != 0.0
    assert cache.lookup(np.empty((0, 2), np.int64)).shape == (0, 2)


@pytest.mark.parametrize("number", [9, 1, 0, -7, 998, 1009, 2**62])
def test_a_number_that_is_not_in_the_list(number):
    with pytest.raises(ValueError, match=f"numbers must be exact primes up to 1000; {number} is not one"):
        ValueCache(1_000).lookup([2, number, 3])


def test_a_lookup_of_what_is_no_integer():
    with pytest.raises(TypeError, match="numbers must hold integers"):
        ValueCache(1_000).lookup([2.0])


# Lazy.


def test_nothing_happens_before_the_first_use(builds, tmp_path):
    cache = ValueCache(1_000, path=tmp_path / "values")
    assert not cache.ready and builds == [] and list(tmp_path.iterdir()) == []
    first = cache.values()
    assert cache.ready and len(builds) == 1
    assert cache.values() is first and cache.lookup(2)["index"] == 1 and len(builds) == 1


def test_what_is_shared_cannot_be_changed():
    values = ValueCache(100).values()
    with pytest.raises(ValueError, match="read-only"):
        values["x"] = 0.0


PROGRAM = """
import sys, threading
from cllm_lab.lattice import value_cache, primes
called = []
primes._blocks = lambda n: called.append(n) or iter(())
value_cache.ValueCache()
assert not called and threading.active_count() == 1
print(*sorted({name.partition('.')[0] for name in sys.modules} & {'scipy', 'numba', 'safetensors'}))
"""


def test_importing_builds_and_loads_nothing():
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


# Threads.


def test_threads_that_ask_at_once_build_once(builds):
    cache, together = ValueCache(LIMIT, max_bytes=ROOM), threading.Barrier(8)

    def ask():
        together.wait()
        return cache.values()

    with ThreadPoolExecutor(8) as pool:
        found = [asked.result() for asked in [pool.submit(ask) for _ in range(8)]]
    assert len(builds) == 1
    assert all(values is found[0] for values in found)


def test_who_asks_during_a_build_waits_for_it(builds):
    cache = ValueCache(LIMIT, max_bytes=ROOM)
    building, go_on = threading.Event(), threading.Event()

    def progress(done, total):
        building.set()
        assert go_on.wait(10)

    build = cache.build_in_background(progress)
    assert building.wait(10) and not build.done and not cache.ready
    with pytest.raises(TimeoutError, match=r"after 0\.01 seconds"):
        build.wait(0.01)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(cache.values)
        assert not asked.done()
        go_on.set()
        assert asked.result(10) is build.wait(10)
    assert len(builds) == 1 and build.done and no_thread_is_left()


def test_progress_counts_to_the_limit():
    told = []
    ValueCache(LIMIT, max_bytes=ROOM).values(lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [SEGMENT - 1, 2 * SEGMENT - 1, 3 * SEGMENT - 1, LIMIT]
    assert {total for _, total in told} == {LIMIT}
    told.clear()
    ValueCache(100, "historical").values(lambda done, total: told.append((done, total)))
    assert told == [(100, 100)]


@pytest.mark.parametrize("background", [False, True])
def test_an_error_of_progress_reaches_the_caller_and_spoils_nothing(background):
    cache = ValueCache(LIMIT, max_bytes=ROOM)

    def progress(done, total):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cache.build_in_background(progress).wait() if background else cache.values(progress)
    assert not cache.ready and no_thread_is_left()
    assert len(cache.values()) == len(primes_below(LIMIT + 1))


def test_progress_may_not_ask_for_what_is_being_built():
    cache = ValueCache(100)
    with pytest.raises(RuntimeError, match="progress may not ask"):
        cache.values(lambda done, total: cache.values())
    assert len(cache.values()) == 25


def test_a_cancelled_build_leaves_nothing(tmp_path):
    path = tmp_path / "values"
    cache = ValueCache(LIMIT, path=path, max_bytes=ROOM)
    building, go_on = threading.Event(), threading.Event()
    told = []

    def progress(done, total):
        told.append(done)
        building.set()
        assert go_on.wait(10)

    build = cache.build_in_background(progress)
    assert building.wait(10)
    threading.Timer(0.05, go_on.set).start()
    build.cancel()
    assert build.done and no_thread_is_left() and len(told) == 1
    assert not cache.ready and list(tmp_path.iterdir()) == []
    with pytest.raises(BuildCancelledError, match="was cancelled"):
        build.wait()
    assert len(cache.values()) == len(primes_below(LIMIT + 1))


@pytest.mark.parametrize("limit", [100, LIMIT])
def test_progress_can_cancel_even_at_the_end(limit):
    cache, builds = ValueCache(limit, max_bytes=ROOM), []
    begun = threading.Event()

    def progress(done, total):
        assert begun.wait(10)
        builds[0].cancel()

    builds.append(cache.build_in_background(progress))
    begun.set()
    with pytest.raises(BuildCancelledError):
        builds[0].wait(10)
    assert no_thread_is_left() and not cache.ready


def test_a_build_that_waits_for_another_can_be_cancelled():
    cache = ValueCache(LIMIT, max_bytes=ROOM)
    building, go_on = threading.Event(), threading.Event()

    def progress(done, total):
        building.set()
        assert go_on.wait(10)

    first = cache.build_in_background(progress)
    assert building.wait(10)
    second = cache.build_in_background()
    second.cancel()
    assert second.done and not first.done
    go_on.set()
    assert len(first.wait(10)) and no_thread_is_left()


def test_cancelling_what_has_ended_changes_nothing():
    cache = ValueCache(100)
    build = cache.build_in_background()
    values = build.wait(10)
    build.cancel()
    assert build.wait() is values and cache.ready


# Bounds.


def test_a_table_that_is_too_large_is_refused():
    needed = 168 * 64
    assert len(ValueCache(1_000, max_bytes=needed).values()) == 168
    cache = ValueCache(1_000, max_bytes=needed - 1)
    with pytest.raises(
        CacheLimitError, match=f"max_bytes must be more than {needed - 1} .* take {needed} bytes"
    ):
        cache.values()
    assert not cache.ready


def test_it_is_refused_before_it_is_made(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "lattice_values", lambda primes, indices: seen.append(len(primes)))
    with pytest.raises(CacheLimitError):
        ValueCache(10**9, max_bytes=2**20).values()
    assert seen == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"limit": 10.0}, TypeError, "limit must be an integer"),
        ({"limit": 1}, ValueError, "limit must be at least 2"),
        ({"limit": LARGEST_SIEVE}, ValueError, f"limit must be at most {LARGEST_SIEVE - 1} for exact primes"),
        (
            {"limit": 10**9 + 1, "primes": "historical"},
            ValueError,
            "limit must be at most .* for historical primes",
        ),
        ({"primes": "twin"}, ValueError, "primes must be 'exact' or 'historical', got 'twin'"),
        ({"max_bytes": 63}, ValueError, "max_bytes must be at least 64"),
        ({"max_bytes": 1e6}, TypeError, "max_bytes must be an integer"),
    ],
)
def test_wrong_settings_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ValueCache(**arguments)


# On disk.


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "values.safetensors"
    ValueCache(1_000, path=path).values()
    return path


@pytest.mark.parametrize("primes", ["exact", "historical"])
def test_the_second_process_reads_what_the_first_has_built(builds, tmp_path, primes, monkeypatch):
    file = tmp_path / "values"
    built = ValueCache(5_000, primes, file).values()
    assert list(tmp_path.iterdir()) == [file]
    monkeypatch.setattr(module, "lattice_values", None)
    read = ValueCache(5_000, primes, file).values()
    np.testing.assert_array_equal(read, built)
    assert read.dtype == VALUE and not read.flags.writeable


def test_the_path_may_be_text(path):
    assert len(ValueCache(1_000, path=str(path)).values()) == 168


def refused(path, message, **settings):
    before = path.read_bytes()
    cache = ValueCache(**{"limit": 1_000, "path": path, **settings})
    for _ in range(2):
        with pytest.raises(CacheFileError, match=message) as caught:
            cache.values()
        assert str(path) in str(caught.value) and "rebuild()" in str(caught.value)
    assert path.read_bytes() == before and not cache.ready
    rebuilt = cache.rebuild()
    np.testing.assert_array_equal(rebuilt, ValueCache(cache.limit, cache.primes).values())
    assert cache.values() is rebuilt
    np.testing.assert_array_equal(ValueCache(cache.limit, cache.primes, path).values(), rebuilt)


@pytest.mark.parametrize("contents", [b"", b"hello", b"\0" * 100, b"PK\x03\x04" * 50])
def test_a_file_of_another_kind_is_refused(path, contents):
    path.write_bytes(contents)
    refused(path, "is damaged or no cache")


def test_a_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "is damaged or no cache")


@pytest.mark.parametrize("place", [-1, -64, -64 * 100, -64 * 168])
def test_one_changed_bit_is_found(path, place):
    contents = bytearray(path.read_bytes())
    contents[place] ^= 1
    path.write_bytes(contents)
    refused(path, "do not have the checksum")


def test_other_tensors_are_refused(path):
    save_file({"prime": np.arange(3)}, path)
    refused(path, "is no cache")
    save_file({"prime": np.arange(3)}, path, {"cllm_lab": json.dumps({"format": "another"})})
    refused(path, "is no cache")
    notes = {"settings": {"format": "cllm_lab-checkpoint"}, "sha256": ""}
    save_file({"prime": np.arange(3)}, path, {"cllm_lab": json.dumps(notes)})
    refused(path, "is no cache .*its format is 'cllm_lab-checkpoint'")


def test_a_file_of_other_settings_is_refused(path):
    refused(path, "was made with .*'limit': 1000.*this cache is .*'limit': 999", limit=999)


def test_a_file_of_other_primes_is_refused(path):
    refused(path, "'primes': 'exact'.*'primes': 'historical'", primes="historical")


def altered(path, columns, settings=None):
    """The file written anew with other columns, or settings, and the checksum it had."""
    with safe_open(path, framework="numpy") as file:
        notes = json.loads(file.metadata()["cllm_lab"])
    notes["settings"] |= settings or {}
    save_file(columns, path, {"cllm_lab": json.dumps(notes)})


def test_a_later_version_is_refused(path):
    altered(path, load_file(path), {"version": module.VERSION + 1})
    refused(path, "'version': 2")


def test_settings_are_part_of_the_checksum(path):
    altered(path, load_file(path), {"limit": 999})
    refused(path, "do not have the checksum", limit=999)


@pytest.mark.parametrize("change", ["missing", "more", "short", "type", "shape"])
def test_wrong_columns_are_refused(path, change):
    columns = load_file(path)
    if change == "missing":
        del columns["x"]
    elif change == "more":
        columns["w"] = columns["x"]
    elif change == "short":
        columns["x"] = columns["x"][:-1].copy()
    elif change == "type":
        columns["x"] = columns["x"].astype(np.float32)
    else:
        columns["x"] = columns["x"][:, None].copy()
    altered(path, columns)
    refused(path, "is damaged: its columns are" if change in ("missing", "more") else "is damaged: x is")


def test_a_file_beyond_the_bound_is_not_read(path):
    size = ValueCache(1_000, path=path).values().nbytes
    with pytest.raises(CacheLimitError, match=f"max_bytes must be at least {size} for the 168 entries"):
        ValueCache(1_000, path=path, max_bytes=size - 1).values()
    assert ValueCache(1_000, path=path, max_bytes=size).values().nbytes == size


def test_a_build_that_fails_leaves_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(CacheLimitError):
        ValueCache(1_000, path=path, max_bytes=64).rebuild()

    def progress(done, total):
        raise KeyError("mine")

    with pytest.raises(KeyError):
        ValueCache(1_000, path=path).rebuild(progress)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        ValueCache(100, path=tmp_path / "none" / "values").values()


def test_rebuild_without_a_file(builds):
    cache = ValueCache(100)
    first = cache.values()
    again = cache.rebuild()
    assert again is not first and cache.values() is again and len(builds) == 2
    np.testing.assert_array_equal(again, first)
