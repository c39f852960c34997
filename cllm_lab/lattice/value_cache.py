"""The cache of lattice values of primes: nothing at import, built at first use, once, within bounds, kept on disk.

An entry is 64 bytes, as many as the original's had. For the n-th entry p of the list of primes:

    prime p, index n (from 1);  radius sqrt(n - 1), angle 2 pi (n - 1) / phi^2 in [-pi, pi), and with them
    x = radius cos(angle), y = radius sin(angle), z = ln(p + 1): `lattice_coordinates` of the token n - 1;
    residue_12 = p mod 12, the element of the symmetry of order 12, whose phase is 2 pi (p mod 12) / 12;
    residue_30 = p mod 30, by which the original chose its primes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.corpus.arguments import whole_number
from cllm_lab.files import replacing
from cllm_lab.lattice.arguments import IntArray, integer_array, within
from cllm_lab.lattice.historical import LARGEST_LIMIT, historical_blocks
from cllm_lab.lattice.primes import LARGEST_SIEVE, prime_blocks
from cllm_lab.lattice.spirals import LARGEST_NUMBER, spiral_angle

VALUE = np.dtype(
    [
        ("prime", "<i8"),
        ("index", "<i8"),
        ("x", "<f8"),
        ("y", "<f8"),
        ("z", "<f8"),
        ("radius", "<f8"),
        ("angle", "<f8"),
        ("residue_12", "<i4"),
        ("residue_30", "<i4"),
    ]
)

ValueArray = NDArray[np.void]
Progress = Callable[[int, int], object]
PrimeSource = Literal["exact", "historical"]

FORMAT = "cllm_lab-lattice-values"
VERSION = 1
DEFAULT_LIMIT = 200_000
DEFAULT_MAX_BYTES = 64 * 2**20
_KEY = "cllm_lab"


class CacheLimitError(ValueError):
    """The values would need more memory than ``max_bytes``."""


class CacheFileError(ValueError):
    """A file that is no cache, is damaged, comes from a later version or was made with other settings."""


class BuildCancelledError(RuntimeError):
    """A background build was cancelled before it had ended."""


def lattice_values(primes: ArrayLike, indices: ArrayLike) -> ValueArray:
    """The entries of primes with their places in a list, from 1: dtype `VALUE`, of their common shape (N,).

    Fields and formulas stand at the top of this module. Whether ``primes`` are prime is not asked.

    Raises TypeError unless both hold integers, ValueError for values below 1, primes above `LARGEST_NUMBER` or indices
    above `LARGEST_NUMBER` + 1, or shapes that differ.
    """
    p = integer_array("primes", primes, 1, LARGEST_NUMBER)
    n = integer_array("indices", indices, 1, LARGEST_NUMBER + 1)
    if p.ndim != 1 or p.shape != n.shape:
        raise ValueError(f"primes and indices must have one shape (number,), got {p.shape} and {n.shape}")
    values = np.empty(p.shape, VALUE)
    angle, radius = spiral_angle(n - 1), np.sqrt(n - 1)
    columns = {
        "prime": p,
        "index": n,
        "x": radius * np.cos(angle),
        "y": radius * np.sin(angle),
        "z": np.log1p(p),
        "radius": radius,
        "angle": angle,
        "residue_12": p % 12,
        "residue_30": p % 30,
    }
    for name, column in columns.items():
        values[name] = column
    return values


class ValueCache:
    """`lattice_values` of all primes up to a limit, made when they are first asked for, by whichever thread asks first.

    limit: the largest number, included; 2 or more. primes: "exact", or "historical" for `historical_primes`, 23,094 of
    them to 200,000. path: a file to read the values from; where there is none yet, the first build writes it.
    max_bytes: the most that the table may take, 64 bytes an entry; two to three times that while it is built.

    Raises TypeError for a limit or max_bytes that is no integer, ValueError for one out of range or unknown primes.
    Nothing is computed, read or written before the first use.
    """

    def __init__(
        self,
        limit: int = DEFAULT_LIMIT,
        primes: PrimeSource = "exact",
        path: str | os.PathLike[str] | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        if primes not in ("exact", "historical"):
            raise ValueError(f"primes must be 'exact' or 'historical', got {primes!r}")
        greatest = LARGEST_SIEVE - 1 if primes == "exact" else LARGEST_LIMIT
        self.limit = within("limit", limit, 2, greatest, f" for {primes} primes")
        self.primes: PrimeSource = primes
        self.path = None if path is None else Path(path)
        self.max_bytes = whole_number("max_bytes", max_bytes, VALUE.itemsize)
        self._values: ValueArray | None = None
        self._lock = threading.Lock()
        self._builder: int | None = None

    @property
    def ready(self) -> bool:
        """Whether the values are in memory."""
        return self._values is not None

    def values(self, progress: Progress | None = None) -> ValueArray:
        """All values, (entries,) of dtype `VALUE`, ascending; read-only and shared. Reads or builds them at first use.

        A thread that asks while another builds waits for that one. ``progress`` is called in the building thread with
        the number reached and the limit; it may not ask for the values, which is a RuntimeError.

        Raises CacheLimitError where they take more than max_bytes; CacheFileError for a file that cannot be used,
        which is left as it is (see `rebuild`); OSError as the file system does.
        """
        return self._obtain(progress)

    def rebuild(self, progress: Progress | None = None) -> ValueArray:
        """`values`, built anew whatever is in memory or at ``path``; the file is replaced. Raises as `values` does,
        save for the file's contents, which are not read.
        """
        return self._obtain(progress, anew=True)

    def lookup(self, numbers: ArrayLike) -> ValueArray:
        """The entries of some numbers, of their shape; a copy. Raises as `values`; TypeError unless they are integers;
        ValueError, naming the first, where one is not in the list.
        """
        wanted = integer_array("numbers", numbers, np.iinfo(np.int64).min)
        values = self._obtain(None)
        places = np.searchsorted(values["prime"], wanted)
        found = np.zeros(wanted.shape, np.bool_)
        inside = places < len(values)
        found[inside] = values["prime"][places[inside]] == wanted[inside]
        if not found.all():
            missing = int(wanted[~found].flat[0])
            raise ValueError(f"numbers must be {self.primes} primes up to {self.limit}; {missing} is not one")
        return values[places]

    def build_in_background(self, progress: Progress | None = None) -> BackgroundBuild:
        """Starts `values` in a thread of its own and returns at once. ``progress`` is called in that thread."""
        return BackgroundBuild(self, progress)

    def _obtain(
        self, progress: Progress | None, anew: bool = False, stop: threading.Event | None = None
    ) -> ValueArray:
        if self._values is not None and not anew:
            return self._values
        if self._builder == threading.get_ident():
            raise RuntimeError("progress may not ask for the values that are being built")
        while not self._lock.acquire(timeout=-1 if stop is None else 0.05):
            _go_on(stop)
        try:
            if self._values is None or anew:
                self._builder = threading.get_ident()
                self._values = self._read_or_build(progress, anew, stop)
            return self._values
        finally:
            self._builder = None
            self._lock.release()

    def _read_or_build(
        self, progress: Progress | None, anew: bool, stop: threading.Event | None
    ) -> ValueArray:
        if self.path is not None and not anew and self.path.exists():
            values = _read(self.path, self._settings(), self.max_bytes)
        else:
            values = self._build(progress, stop)
            if self.path is not None:
                _write(self.path, self._settings(), values)
        values.setflags(write=False)
        return values

    def _build(self, progress: Progress | None, stop: threading.Event | None) -> ValueArray:
        blocks = [np.empty(0, VALUE)]
        count = 0
        for end, primes in self._prime_blocks():
            _go_on(stop)
            last = count + primes.size
            if last * VALUE.itemsize > self.max_bytes:
                raise CacheLimitError(
                    f"max_bytes must be more than {self.max_bytes} for limit = {self.limit}: the {last} primes below "
                    f"{end} take {last * VALUE.itemsize} bytes. Pass a larger max_bytes or a smaller limit"
                )
            blocks.append(lattice_values(primes, np.arange(count + 1, last + 1)))
            count = last
            if progress is not None:
                progress(end - 1, self.limit)
        _go_on(stop)
        return np.concatenate(blocks)

    def _prime_blocks(self) -> Iterator[tuple[int, IntArray]]:
        return prime_blocks(self.limit + 1) if self.primes == "exact" else historical_blocks(self.limit)

    def _settings(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, "limit": self.limit, "primes": self.primes}


class BackgroundBuild:
    """A build under way in a thread, which ends with the build or soon after `cancel`."""

    def __init__(self, cache: ValueCache, progress: Progress | None) -> None:
        self._stop = threading.Event()
        self._outcome: ValueArray | BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(cache, progress), name="lattice values", daemon=True
        )
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it has ended: with values, with an error or cancelled."""
        return not self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> ValueArray:
        """The values, once they are there. ``timeout`` in seconds.

        Raises TimeoutError when it is over, and the build goes on; BuildCancelledError when the build was cancelled;
        whatever error ended the build, that of ``progress`` included.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"the values are not there after {timeout} seconds")
        assert self._outcome is not None
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def cancel(self) -> None:
        """Ends the build, and returns when its thread has ended; called by ``progress``, at once. No values and no
        file come of it, unless they were complete already.
        """
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self, cache: ValueCache, progress: Progress | None) -> None:
        try:
            self._outcome = cache._obtain(progress, stop=self._stop)
        except BaseException as error:  # it is raised again by whoever waits
            self._outcome = error


def _go_on(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise BuildCancelledError("the build of the lattice values was cancelled")


def _checksum(settings: dict[str, Any], values: ValueArray) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(values.view(np.uint8).data)
    return digest.hexdigest()


def _write(path: Path, settings: dict[str, Any], values: ValueArray) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    columns = {name: np.ascontiguousarray(values[name]) for name in VALUE.names or ()}
    text = json.dumps({"settings": settings, "sha256": _checksum(settings, values)})
    with replacing(path) as unfinished:
        try:
            save_file(columns, unfinished, {_KEY: text})
        except SafetensorError as failed:
            raise OSError(f"cannot write {path}: {failed}") from failed


def _checked_notes(path: Path, text: str | None, settings: dict[str, Any], advice: str) -> str:
    """The checksum that a file states; CacheFileError where it is none of ours, or was made with other settings."""
    try:
        notes = json.loads(text or "null")
        found, checksum = notes["settings"], str(notes["sha256"])
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}")
    except (ValueError, KeyError, TypeError) as wrong:
        raise CacheFileError(f"{path} is no cache of lattice values ({wrong!r}). {advice}") from wrong
    if found != settings:
        raise CacheFileError(f"{path} was made with {found}; this cache is {settings}. {advice}")
    return checksum


def _read(path: Path, settings: dict[str, Any], max_bytes: int) -> ValueArray:
    from safetensors import SafetensorError, safe_open

    advice = "Delete it, name another path, or call rebuild() to replace it"
    try:
        with safe_open(path, framework="numpy") as file:
            checksum = _checked_notes(path, (file.metadata() or {}).get(_KEY), settings, advice)
            if sorted(file.keys()) != sorted(VALUE.names or ()):
                raise CacheFileError(f"{path} is damaged: its columns are {sorted(file.keys())}. {advice}")
            count = math.prod(file.get_slice("prime").get_shape())
            if count * VALUE.itemsize > max_bytes:
                raise CacheLimitError(
                    f"max_bytes must be at least {count * VALUE.itemsize} for the {count} entries of {path}; "
                    f"it is {max_bytes}"
                )
            values = np.empty(count, VALUE)
            for name in VALUE.names or ():
                column = file.get_tensor(name)
                if (column.dtype, column.shape) != (VALUE[name], (count,)):
                    raise CacheFileError(
                        f"{path} is damaged: {name} is {column.dtype} {column.shape}. {advice}"
                    )
                values[name] = column
    # NumPy knows not every type that a file can hold.
    except (SafetensorError, TypeError) as wrong:
        raise CacheFileError(
            f"{path} is damaged or no cache of lattice values ({wrong}). {advice}"
        ) from wrong
    if _checksum(settings, values) != checksum:
        raise CacheFileError(f"{path} is damaged: its contents do not have the checksum it states. {advice}")
    return values
