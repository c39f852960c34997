"""Contenders in processes of their own, each of which works only when it is asked to."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, Protocol

from cllm_lab.model.parts.threads import ENVIRONMENT
from tests.bench.machines import Machine

FIRST_LOSSES = 3
# A compiled step of 10,000 tokens' vocabulary takes about a minute to compile; a step is never near this.
PATIENCE_SECONDS = 600.0
# Threads of a library spin for a while after their work; nobody is timed meanwhile.
SETTLE_SECONDS = 0.05
LEAVING_SECONDS = 5.0
# What threadpoolctl says of a library besides its own properties.
NOT_OF_THE_LIBRARY = ("filepath", "prefix", "num_threads", "user_api")
# What stands before a file's name in an absolute path: between quotes with spaces, elsewhere without.
FOLDERS = (
    re.compile(r"""(['"])(?:[A-Za-z]:)?[\\/][^'"]*[\\/](?=[^'"]*\1)"""),
    re.compile(r"(^|[\s(=\[])(?:[A-Za-z]:)?[\\/]\S*[\\/]"),
)
# A contender has those of these methods that it can be told to do apart.
PHASES = ("forward", "backward", "update")


class Contender(Protocol):
    """Whatever can make a step of a machine."""

    def step(self) -> float: ...


@dataclass(frozen=True)
class Entry:
    """Where a contender is made: ``module.maker(machine, threads, **arguments)``, under these variables.

    ``trains`` is False for what has no loss. ``blas`` is the library that its process must have loaded.
    """

    module: str
    maker: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    trains: bool = True
    blas: str | None = None


_TORCH, _JAX, _OURS, _OUR_PRODUCTS, _OPENBLAS, _MKL = (
    f"tests.bench.{name}"
    for name in ("torch_peer", "jax_peer", "ours", "our_products", "products", "mkl_products")
)
# As a notebook's kernel is started.
_OF_A_KERNEL: dict[str, Any] = {"environment": ENVIRONMENT}

OURS = "cllm_lab"
EAGER = "PyTorch eager"
JITTED = "JAX jitted"
PRODUCTS = "bare products"
OPENBLAS_PRODUCTS, MKL_PRODUCTS = f"{PRODUCTS} of OpenBLAS", f"{PRODUCTS} of MKL"
CONTENDERS: dict[str, Entry] = {
    OURS: Entry(_OURS, "OurStep", **_OF_A_KERNEL),
    EAGER: Entry(_TORCH, "TorchPeer", {"compiled": False}),
    "PyTorch compiled": Entry(_TORCH, "TorchPeer", {"compiled": True}),
    JITTED: Entry(_JAX, "JaxPeer"),
    # By our own kernels; the libraries' are there to see how far those can go.
    PRODUCTS: Entry(_OUR_PRODUCTS, "OurProducts", trains=False, **_OF_A_KERNEL),
    OPENBLAS_PRODUCTS: Entry(_OPENBLAS, "LibraryProducts", trains=False, blas="openblas", **_OF_A_KERNEL),
    MKL_PRODUCTS: Entry(_MKL, "MklProducts", trains=False, blas="mkl", **_OF_A_KERNEL),
}


class NotRun(Exception):
    """A contender could not be installed, started or brought to an end; the message is the reason."""


def all_threads() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_variables(threads: int) -> dict[str, str]:
    """The environment under which every contender's libraries start so many threads."""
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")
    eigen = f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'}"
    return {**dict.fromkeys(counts, str(threads)), "XLA_FLAGS": eigen, "JAX_PLATFORMS": "cpu"}


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Variables of the environment for as long as the block lasts; None stands for one that is not set."""
    before = {name: os.environ.get(name) for name in values}
    _set_variables(values)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class Worker:
    """A contender in a fresh process: made, three steps old, and waiting.

    ``facts`` holds ``losses`` (nats, of the first three steps; empty for what does not train), ``start_seconds``
    (from its imports to the end of its first step, compilation included) and ``blas``.
    Raises NotRun with the reason where it did not come that far.
    """

    def __init__(self, entry: Entry, machine: Machine, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(entry, machine, threads, theirs), daemon=True)
        with environment({**thread_variables(threads), **entry.environment}):
            self._process.start()
        theirs.close()
        self.facts: dict[str, Any] = self._receive()

    def steps(self, least: int, seconds: float) -> list[float]:
        """Seconds of each of at least so many steps that follow each other, for at least so long."""
        return self._ask("steps", least, seconds)

    def phases(self, least: int, seconds: float) -> dict[str, list[float]]:
        """The same of those parts of the step that the contender can make apart, by name, in their order."""
        return self._ask("phases", least, seconds)

    def peak_memory(self) -> int:
        """Bytes by which the largest resident set so far exceeds that after the contender's imports."""
        return self._ask("memory")

    def close(self) -> None:
        """Ends the process, by force where it does not go."""
        self._pipe.close()
        self._process.join(LEAVING_SECONDS)
        self._process.kill()
        self._process.join()

    def _ask(self, *request: Any) -> Any:
        time.sleep(SETTLE_SECONDS)
        try:
            self._pipe.send(request)
        except OSError:
            self._fail("its process ended")
        return self._receive()

    def _receive(self) -> Any:
        try:
            if not self._pipe.poll(PATIENCE_SECONDS):
                self._fail(f"no answer within {PATIENCE_SECONDS:.0f} s")
            kind, answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            self._fail(f"its process ended with exit code {self._process.exitcode}")
        if kind == "failed":
            self._fail(answer)
        return answer

    def _fail(self, reason: str) -> NoReturn:
        self.close()
        raise NotRun(reason)


def _serve(entry: Entry, machine: Machine, threads: int, pipe: Connection) -> None:
    """The life of a worker's process. What goes wrong is sent, since whoever asked is waiting."""
    try:
        if threads == 1 and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        started = time.perf_counter()
        make = getattr(import_module(entry.module), entry.maker)
        memory_of_imports = _peak_resident_set()
        contender = make(machine, threads, **entry.arguments)
        losses = [contender.step()]
        start_seconds = time.perf_counter() - started
        losses += [contender.step() for _ in range(FIRST_LOSSES - 1)]
        loaded = _blas_libraries()
        if entry.blas and entry.blas not in {library["internal_api"] for library in loaded}:
            raise NotRun(f"its process did not load {entry.blas}")
        facts = {"losses": losses if entry.trains else [], "start_seconds": start_seconds, "blas": loaded}
        pipe.send(("ready", facts))
        while True:
            request, *arguments = pipe.recv()
            if request == "steps":
                answer: Any = _repeat(lambda: (_timed(contender.step),), *arguments)[0]
            elif request == "phases":
                answer = _repeat_phases(contender, *arguments)
            else:
                answer = _peak_resident_set() - memory_of_imports
            pipe.send(("answer", answer))
    except EOFError:
        pass  # whoever asked has gone
    except Exception as error:
        pipe.send(("failed", reason(error)))


def _repeat_phases(contender: Contender, least: int, seconds: float) -> dict[str, list[float]]:
    calls = {phase: getattr(contender, phase) for phase in PHASES if hasattr(contender, phase)}
    timed = _repeat(lambda: tuple(_timed(call) for call in calls.values()), least, seconds)
    return dict(zip(calls, timed, strict=True))


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _repeat(call: Callable[[], tuple[float, ...]], least: int, seconds: float) -> list[list[float]]:
    """The seconds that each call gave, a list for each of its parts; the first call warms up and is left out."""
    call()
    taken: list[tuple[float, ...]] = []
    end = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < end:
        taken.append(call())
    return [list(part) for part in zip(*taken, strict=True)]


def _peak_resident_set() -> int:
    """Bytes of this process's largest resident set.

    Linux hands the figure of getrusage on to new processes, so that a child's begins at its parent's; the
    high-water mark of the process's own memory does not. macOS counts in bytes.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _blas_libraries() -> list[dict[str, Any]]:
    """The linear algebra that this process has loaded, without where it lies."""
    from threadpoolctl import threadpool_info

    return [
        {key: value for key, value in library.items() if key not in NOT_OF_THE_LIBRARY}
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]


def reason(error: BaseException) -> str:
    """The error in one line, with the names of files but not their folders."""
    said = str(error).strip().partition("\n")[0]
    for folders in FOLDERS:
        said = folders.sub(r"\1", said)
    if isinstance(error, NotRun):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
