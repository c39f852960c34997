"""The same table from this process, from processes of this machine, and from a Dask cluster."""

import subprocess
import sys

import pytest

from cllm_lab.model.config import ConfigError
from cllm_lab.trials import backends
from cllm_lab.trials.ablation import ablate
from cllm_lab.trials.backends import BackendError, workers
from tests.trials.machines import LANGUAGE, NO_ATTENTION, QUICK, fixed_costs, silent


def compare(**where):
    return ablate(LANGUAGE, [NO_ATTENTION], **QUICK, report=silent, costs=fixed_costs, **where)


@pytest.fixture(scope="module")
def expected():
    return compare(backend="sequential")


def test_loky_gives_the_same_table(expected):
    found = compare(backend="loky", n_jobs=2)
    assert found.data == expected.data
    assert found.table.equals(expected.table)


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    made = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
    )
    with made:
        yield made


def test_a_dask_cluster_of_two_processes_gives_the_same_table(cluster, expected, tmp_path):
    found = compare(backend="dask", scheduler=cluster.scheduler_address, folder=tmp_path)
    assert found.data == expected.data
    assert found.table.equals(expected.table)
    with workers("dask", cluster.scheduler_address) as hands:
        assert hands.count == 2
        places = sorted(hands.each(str, range(5)))
    assert places == [(place, str(place)) for place in range(5)]


def test_a_worker_with_other_code_refuses(cluster, monkeypatch):
    monkeypatch.setattr(backends, "code", lambda: "0" * 64)
    for where in (("loky", None), ("dask", cluster.scheduler_address)):
        with workers(*where) as hands, pytest.raises(BackendError, match="runs other code of cllm_lab"):
            list(hands.each(str, [1]))


def test_workers_of_several_threads_are_refused():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0", host="127.0.0.1"
    ) as made:
        with pytest.raises(BackendError, match=r"one thread.*2\}.*--nthreads 1"):
            with workers("dask", made.scheduler_address):
                pass


def test_what_a_task_raises_is_raised_here(cluster):
    for where in (("sequential", None), ("loky", None), ("dask", cluster.scheduler_address)):
        with workers(*where, n_jobs=2 if where[0] == "loky" else -1) as hands:
            with pytest.raises(ValueError, match="invalid literal"):
                list(hands.each(int, ["1", "no number"]))


def test_an_address_is_needed_and_belongs_to_dask():
    with pytest.raises(ConfigError, match="backend='dask' needs the address of a running scheduler"):
        compare(backend="dask")
    with pytest.raises(ConfigError, match="scheduler='tcp://here:1' belongs to backend='dask'"):
        compare(backend="loky", scheduler="tcp://here:1")
    with pytest.raises(ConfigError, match="n_jobs must be"):
        compare(n_jobs=0)


def test_dask_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r'needs the package distributed: pip install "cllm_lab\[dask\]"'):
        compare(backend="dask", scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://there"])
def test_a_scheduler_that_does_not_answer(address):
    pytest.importorskip("distributed")
    with pytest.raises(BackendError, match="no Dask scheduler answers at"):
        with workers("dask", address, seconds=0.5):
            pass


def test_a_scheduler_without_workers():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1") as empty:
        with pytest.raises(BackendError, match="has no worker after"):
            with workers("dask", empty.scheduler_address, seconds=0.5):
                pass


def test_nothing_of_dask_is_loaded_without_being_asked_for():
    program = (
        "import sys, cllm_lab.trials.ablation, cllm_lab.trials.__main__;"
        "print(*sorted({'distributed', 'dask', 'joblib', 'pandas', 'scipy.stats'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
