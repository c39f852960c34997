"""The measurements of the lattice's speed: what is timed computes what it says, and how times become figures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cllm_lab.clinic.part_times import PartTime
from cllm_lab.lattice import gcd_over_max, nth_token_primes
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.provenance import PACKAGES
from cllm_lab.resources import data_path
from tests.lattice_speed import __main__ as program
from tests.lattice_speed import kernels, locality, measure, reduction, similarity
from tests.lattice_speed.locality import Case
from tests.lattice_speed.picture import said, speed_picture
from tests.lattice_speed.rounds import amdahl, interleaved, speed_up, spread
from tests.lattice_speed.similarity import PRODUCTS, Pairs

STORED = json.loads(data_path(program.STORED).read_text(encoding="utf-8"))
ONCE = 1e-9


class Clockwork:
    """A clock that contenders move on by the seconds that they take."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def contender(self, name: str, *seconds: float):
        takes = iter(seconds)
        last = seconds[-1]

        def call() -> None:
            self.calls.append(name)
            self.now += next(takes, last)

        return call

    def __call__(self) -> float:
        return self.now


class TestRounds:
    def test_a_turn_is_filled_and_a_figure_is_one_calls(self) -> None:
        clock = Clockwork()
        # Five seconds for the first call, which warms up, then one.
        found = interleaved({"a": clock.contender("a", 5.0, 1.0)}, 2, 3.0, clock)
        assert found == {"a": [1.0, 1.0]}
        assert len(clock.calls) == 2 + 2 * 3

    def test_every_round_has_every_contender_and_another_begins(self) -> None:
        clock = Clockwork()
        interleaved({name: clock.contender(name, 1.0) for name in "abc"}, 4, ONCE, clock)
        assert "".join(clock.calls[6:]) == "abc" + "bca" + "cab" + "abc"

    @pytest.mark.parametrize(("names", "rounds"), [("", 1), ("a", 0)])
    def test_nothing_to_time_is_refused(self, names, rounds) -> None:
        with pytest.raises(ValueError, match="a round and a contender"):
            interleaved({name: lambda: None for name in names}, rounds, ONCE)

    def test_a_slow_round_leaves_its_ratio_alone(self) -> None:
        times = {"fast": [1.0, 100.0, 2.0], "slow": [2.0, 200.0, 4.0]}
        assert speed_up(times, "fast", "slow") == {
            "median": 2.0,
            "lower_quartile": 2.0,
            "upper_quartile": 2.0,
        }
        assert speed_up(times, "slow", "fast")["median"] == 0.5
        with pytest.raises(ValueError, match="zip"):
            speed_up({"a": [1.0], "b": [1.0, 2.0]}, "a", "b")

    def test_quartiles(self) -> None:
        assert spread([5.0, 1.0, 2.0, 3.0, 4.0]) == {
            "median": 3.0,
            "lower_quartile": 2.0,
            "upper_quartile": 4.0,
        }

    def test_what_a_faster_share_does_for_the_whole(self) -> None:
        assert amdahl(0.5, 1.0) == 1.0
        assert amdahl(0.5, 2.0) == pytest.approx(4.0 / 3.0)
        assert amdahl(0.75, math.inf) == 4.0
        for share, factor in ((1.0, 2.0), (-0.1, 2.0), (0.5, 0.0), (math.nan, 2.0)):
            with pytest.raises(ValueError, match="share must lie in"):
                amdahl(share, factor)


class TestSimilarity:
    def test_the_loops_compute_the_products_and_the_similarity(self) -> None:
        rng = np.random.default_rng(1)
        q, k = rng.standard_normal((2, 3, 5, 7), np.float32)
        primes = nth_token_primes(rng.integers(6, size=(3, 5))).astype(np.int32)
        out = np.full((3, 5, 5), np.nan, np.float32)
        for dots in (kernels.dots_in_order, kernels.dots):
            dots(q, k, out)
            assert np.allclose(out, q @ k.swapaxes(-1, -2), atol=1e-5)
        expected = gcd_over_max(primes[:, :, None], primes[:, None, :])
        for loop in (kernels.gcd_over_max, kernels.gcd_over_max_of_primes):
            out[:] = np.nan
            loop(primes, out)
            assert np.allclose(out, expected, rtol=1e-6)
        numbers = np.array([[12, 18, 1]], np.int32)
        kernels.gcd_over_max(numbers, out[:1, :3, :3])
        assert np.allclose(out[0, :3, :3], gcd_over_max(numbers[0][:, None], numbers[0]))

    def test_every_similarity_is_held_against_every_product(self) -> None:
        found = similarity.of_pairs(Pairs(2, 4, 8), 2, ONCE)
        assert {*PRODUCTS} < found["seconds_a_pair"].keys()
        assert len(found["speed_up"]) == 6
        assert all(each.keys() == {*PRODUCTS} for each in found["speed_up"].values())
        assert found["seconds_a_pair"].keys() == {*PRODUCTS, *found["speed_up"]}

    def test_shares_count_both_directions_and_two_thirds_of_the_projections(self) -> None:
        parts = [
            ("scores", "forward", 1.0),
            ("scores", "backward", 3.0),
            ("qkv", "backward", 6.0),
            ("loss", "forward", 10.0),
        ]
        rows = tuple(PartTime(slot, direction, 1, seconds, 0) for slot, direction, seconds in parts)
        assert similarity.shares(rows) == {"scores": 0.2, "with_projections": 0.4}


class TestLocality:
    def test_frequencies_fall_with_the_rank_and_the_ranks_are_dealt_out(self) -> None:
        tokens = locality.zipf_tokens(50, 20_000, 0)
        counts = np.bincount(tokens, minlength=50)
        by_rank = np.sort(counts)[::-1]
        assert by_rank[0] / by_rank[9] == pytest.approx(10.0, rel=0.2)
        assert counts.argmax() != 0
        assert np.array_equal(tokens, locality.zipf_tokens(50, 20_000, 0))

    def test_every_order_is_there_once_and_radius_is_that_of_the_ids(self) -> None:
        orders = locality.orders(np.array([3, 3, 1]), 4)
        assert list(orders) == ["id", "radius", "angle", "square", "curve", "random", "frequency"]
        assert np.array_equal(orders["radius"], orders["id"])
        assert orders["frequency"].tolist() == [2, 1, 3, 0]

    def test_pages_are_counted_once_a_batch(self) -> None:
        batches = [np.array([0, 15, 16, 16], np.int32), np.array([1, 2, 3, 4], np.int32)]
        assert locality.pages_a_batch(batches, 256) == 1.5

    def test_frequent_rows_that_stand_together_need_the_fewest_pages(self) -> None:
        case = Case("", locality.zipf_tokens(2000, 4000, 0), 2000, 64, 1, 1)
        pages = locality.lookup(case, 1, ONCE)["pages"]
        assert pages["id"] == pages["radius"]
        assert all(pages["frequency"] < 0.9 * each for name, each in pages.items() if name != "frequency")

    @pytest.mark.parametrize("optimizer", locality.OPTIMIZERS)
    def test_a_step_is_timed_under_every_order(self, optimizer) -> None:
        case = Case("", np.arange(300) % 40, 40, 8, 1, 2)
        found = locality.step(case, optimizer, 1, ONCE)
        assert found["seconds"].keys() == locality.orders(case.tokens, 40).keys()
        assert found["speed_up"].keys() == found["seconds"].keys() - {"id"}


@pytest.fixture(scope="module")
def machine() -> Transformer:
    return Transformer(ModelConfig(vocab_size=611, d_model=16, n_layers=1))


class TestReduction:
    def test_the_product_through_the_reduced_block_is_the_product(self, machine) -> None:
        found = reduction.of_block(machine.params["layers.0.w_out"], 1, ONCE)
        assert found["error"] < 1e-5
        assert found["counted"]["dense"] == {"same_answer": 0.5, "new_basis": 1.0}
        assert found["speed_up"].keys() == {"same_answer", "new_basis"}

    def test_blocks_are_square_and_leave_the_specials_out(self, machine) -> None:
        blocks = reduction.blocks(machine, (4, 8))
        assert [block.shape for block in blocks.values()] == [(4, 4), (4, 4), (8, 8), (8, 8)]
        assert np.array_equal(blocks["embedding, d = 4"], machine.params["token_embedding"][5:9, :4])

    def test_all_the_energy_is_the_machine_itself_and_less_is_not(self, machine) -> None:
        whole, half = (reduction.of_rank(machine, energy, 1, ONCE) for energy in (1.0, 0.5))
        assert whole["ranks"] == whole["full_ranks"]
        assert whole["loss"][1] == pytest.approx(whole["loss"][0], abs=1e-4)
        assert whole["counted"] < 1.0 < half["counted"]
        assert abs(half["loss"][1] - half["loss"][0]) > 1e-3
        assert set(whole["ranks"]) == {
            "token_embedding",
            *(f"layers.0.{name}" for name in ("w_qkv", "w_out", "w_ff1", "w_ff2")),
        }

    def test_the_products_are_those_of_the_matrices(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((reduction.ROWS, 3), np.float32)
        chain = [rng.standard_normal((3, 2)), rng.standard_normal((2, 4))]
        call = reduction._products({"w": x}, {"w": chain})
        call()
        (_, _, inner), (_, _, y) = call.__closure__[0].cell_contents
        assert np.allclose(y, x @ chain[0] @ chain[1], atol=1e-5)
        assert inner.shape == (reduction.ROWS, 2)


class TestProgram:
    def test_what_is_stored_is_of_the_full_plan_and_says_how_it_was_made(self) -> None:
        assert STORED["plan"] == json.loads(json.dumps(vars(measure.FULL)))
        assert STORED["versions"].keys() == set(PACKAGES)
        assert STORED["threads"] == 1
        assert STORED["date"] >= "2026"
        assert [size["d"] for size in STORED["similarity"]] == [size.d for size in measure.PAIRS]
        assert len(STORED["locality"]) == 3 * (1 + len(locality.OPTIMIZERS))
        assert {row["d"] for row in STORED["reduction"]} == {*measure.FULL.blocks}
        assert all(row["load"].keys() == {"before", "after"} for row in STORED["steps"])

    def test_the_picture_says_what_it_shows(self) -> None:
        picture = speed_picture(STORED)
        assert picture.words == "\n".join(said(STORED))
        assert len(picture.axes) == 3
        for size in STORED["similarity"]:
            assert f"d = {size['d']}, T = {size['length']}" in picture.words
        assert data_path(program.STORED).with_suffix(".png").read_bytes()[:4] == b"\x89PNG"

    def test_a_quick_run_stores_nothing_and_a_folder_that_is_not_there_is_refused(
        self, tmp_path, capsys
    ) -> None:
        quick, full = program._asked(["--quick"]), program._asked([])
        assert (quick.save, quick.picture) == (None, None)
        assert (full.save.name, full.picture.name) == ("lattice_speed.json", "lattice_speed.png")
        assert full.save.parent == full.picture.parent == data_path("README.md").parent
        with pytest.raises(SystemExit):
            program._asked(["--save", str(tmp_path / "nowhere" / "a.json")])
        assert "there is no folder" in capsys.readouterr().err
