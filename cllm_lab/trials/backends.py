"""Who works: this process, processes of this machine, or the workers of a Dask cluster that a person names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from cllm_lab.model.config import ConfigError, require_choice
from cllm_lab.trials.store import code

BACKENDS = ("loky", "sequential", "dask")
# Seconds in which a scheduler must answer and show a worker.
SCHEDULER_SECONDS = 20.0


class BackendError(RuntimeError):
    """The workers asked for are not to be had; the text says what is missing."""


@dataclass(frozen=True)
class Workers:
    """``each(function, tasks)`` gives (place of the task, its result) as they come; ``count`` work at a time."""

    each: Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[tuple[int, Any]]]
    count: int


def require_backend(backend: str, scheduler: str | None, n_jobs: int = -1) -> None:
    """ConfigError for names and combinations that cannot be; BackendError where the package is not installed."""
    require_choice("backend", backend, BACKENDS)
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or (n_jobs < 1 and n_jobs != -1):
        raise ConfigError(f"n_jobs must be a number of processes, or -1 for one a core; got {n_jobs!r}")
    if n_jobs != -1 and backend != "loky":
        raise ConfigError(f"n_jobs={n_jobs} belongs to backend='loky'; got {backend!r}")
    if backend != "dask":
        if scheduler is not None:
            raise ConfigError(f"scheduler={scheduler!r} belongs to backend='dask'; got {backend!r}")
        return
    if not scheduler:
        raise ConfigError(
            "backend='dask' needs the address of a running scheduler, such as scheduler='tcp://192.168.1.5:8786'; "
            "`dask scheduler` starts one"
        )
    if find_spec("distributed") is None:
        raise BackendError('backend="dask" needs the package distributed: pip install "cllm_lab[dask]"')


@contextmanager
def workers(
    backend: str = "loky",
    scheduler: str | None = None,
    n_jobs: int = -1,
    seconds: float = SCHEDULER_SECONDS,
) -> Iterator[Workers]:
    """A context with the `Workers` of a backend.

    "loky": ``n_jobs`` processes, -1 for one a core. "sequential": this process. "dask": all workers of the scheduler
    at an address, each of which must have one thread; nothing is sent anywhere unless one is given. A worker that runs
    other code of cllm_lab than this process refuses its task.
    ``function`` is a module's own. What a task raises is raised here.
    Raises ConfigError, BackendError as `require_backend`; BackendError where no scheduler, or none with a worker,
    answers within ``seconds``.
    """
    require_backend(backend, scheduler, n_jobs)
    from joblib import Parallel, delayed, effective_n_jobs, parallel_config

    def each(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        here = code()
        calls = (delayed(_numbered)(function, place, task, here) for place, task in enumerate(tasks))
        yield from Parallel(return_as="generator_unordered", batch_size=1)(calls)

    if backend == "dask":
        assert scheduler is not None
        with _client(scheduler, seconds) as client, parallel_config("dask", client=client):
            yield Workers(each, effective_n_jobs(n_jobs))
    elif backend == "sequential":
        with parallel_config("sequential"):
            yield Workers(each, effective_n_jobs(n_jobs))
    else:
        with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
            yield Workers(each, effective_n_jobs(n_jobs))


@contextmanager
def _client(address: str, seconds: float) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(address, timeout=seconds, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"no Dask scheduler answers at {address!r} within {seconds:g} seconds: {error}"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=seconds)
        except TimeoutError as error:
            raise BackendError(
                f"the scheduler at {address!r} has no worker after {seconds:g} seconds; start one with "
                f"`dask worker {address} --nthreads 1`"
            ) from error
        many = {worker: threads for worker, threads in client.nthreads().items() if threads > 1}
        if many:
            raise BackendError(
                f"each worker must have one thread, since the number of threads is a whole process's; got {many}. "
                f"Start them with `dask worker {address} --nthreads 1`, with --nworkers for several"
            )
        yield client


def _numbered(function: Callable[[Any], Any], place: int, task: Any, wanted: str) -> tuple[int, Any]:
    if code() != wanted:
        raise BackendError("a worker runs other code of cllm_lab than this process; install the same on both")
    return place, function(task)
