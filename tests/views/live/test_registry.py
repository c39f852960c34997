"""A cell that is run again closes the benches it had."""

import gc

import IPython
import pytest

import cllm_lab as lab
from cllm_lab.views.live import registry
from cllm_lab.views.live.bench import Bench
from tests.views.live.runs import own_threads, small_setup


class Kernel:
    """As much of an ipykernel as tells which cell runs."""

    def __init__(self, metadata: dict[str, str]) -> None:
        self.metadata, self.executions = metadata, 0

    @property
    def kernel(self) -> "Kernel":
        return self

    def run(self, cell: str | None) -> None:
        """Begins an execution of a cell."""
        self.metadata = {} if cell is None else {"cellId": cell}
        self.executions += 1

    def get_parent(self, channel: str) -> dict[str, dict[str, str]]:
        assert channel == "shell"
        return {"metadata": self.metadata, "header": {"msg_id": f"request-{self.executions}"}}


class Closing:
    """What a cell can hold, with a note of its end."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    made = Kernel({})
    monkeypatch.setattr(IPython, "get_ipython", lambda: made)
    monkeypatch.setattr(registry, "_cells", {})
    return made


def taken() -> Closing:
    bench = Closing()
    registry.take_place(bench)
    return bench


def test_a_cell_that_is_run_again_closes_what_it_had(kernel):
    kernel.run("one")
    first = taken()
    kernel.run("two")
    other = taken()
    assert (first.closed, other.closed) == (0, 0)
    kernel.run("one")
    second = taken()
    assert (first.closed, other.closed, second.closed) == (1, 0, 0)
    kernel.run("one")
    taken()
    assert (first.closed, other.closed, second.closed) == (1, 0, 1)


def test_two_benches_of_one_execution_live_side_by_side_and_end_together(kernel):
    kernel.run("one")
    pair = [taken(), taken()]
    assert [bench.closed for bench in pair] == [0, 0]
    kernel.run("one")
    taken()
    assert [bench.closed for bench in pair] == [1, 1]


@pytest.mark.parametrize("in_a_kernel", [True, False], ids=["no cell id", "no kernel"])
def test_where_nothing_tells_the_cells_apart_nothing_is_closed(kernel, monkeypatch, in_a_kernel):
    if not in_a_kernel:
        monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    benches = []
    for _ in range(2):
        kernel.run(None)
        benches.append(taken())
    assert [bench.closed for bench in benches] == [0, 0]
    assert registry.running_cell() == ("", f"request-{kernel.executions}" if in_a_kernel else "")


def test_the_registry_keeps_nothing_alive(kernel):
    kernel.run("one")
    bench = taken()
    [benches] = [benches for _, benches in registry._cells.values()]
    assert len(benches) == 1
    del bench
    gc.collect()
    assert len(benches) == 0


def test_the_bench_of_a_cell_that_is_run_again_stops_training(kernel):
    kernel.run("one")
    before = lab.live(small_setup().trainer())
    before.start()
    kernel.run("one")
    after = lab.live(small_setup().trainer())
    assert isinstance(after, Bench) and not before.runner.busy
    assert before.runner.state == "stopped" and own_threads() == []
    after.close()
