"""The measurements of the lattice's speed: what is timed computes what it says, and how times become figures."""

from __future__ import annotations

import copy
import json
import math
import os
import re

import numpy as np
import pytest

from cllm_lab.clinic.part_times import PartTime
from cllm_lab.lattice import gcd_over_max, lattice_embedding, nth_token_primes, rank_for_energy
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.provenance import PACKAGES
from cllm_lab.resources import data_path
from tests.lattice_speed import __main__ as program
from tests.lattice_speed import kernels, locality, measure, reduction, similarity
from tests.lattice_speed.locality import Case
from tests.lattice_speed.picture import DRAWN, said, speed_picture
from tests.lattice_speed.quiet import BusyMachineError, largest_load, require_quiet
from tests.lattice_speed.rounds import amdahl, interleaved, speed_up, spread
from tests.lattice_speed.similarity import LOOPS, LOOPS_ONCE, PRODUCTS, Pairs

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
        found = similarity.of_pairs(Pairs(2, 3, 4, 8), 2, ONCE)
        assert {*PRODUCTS} < found["seconds_a_pair"].keys()
        assert len(found["speed_up"]) == 8
        assert {*LOOPS, *LOOPS_ONCE} < found["speed_up"].keys()
        assert all(each.keys() == {*PRODUCTS} for each in found["speed_up"].values())
        assert found["seconds_a_pair"].keys() == {*PRODUCTS, *found["speed_up"]}

    def test_once_for_all_heads_is_what_every_head_has(self) -> None:
        assert [*LOOPS.values()] == [*LOOPS_ONCE.values()]
        calls = similarity.contenders(Pairs(2, 3, 4, 8))
        for for_each, for_all in zip(LOOPS, LOOPS_ONCE, strict=True):
            (_, each), (_, once) = calls[for_each].args, calls[for_all].args
            each[:], once[:] = np.nan, np.nan
            calls[for_each]()
            calls[for_all]()
            assert once.shape == (2, 4, 4)
            heads = each.reshape(2, 3, 4, 4)
            assert np.array_equal(heads, np.broadcast_to(once[:, None], heads.shape))
            assert not np.array_equal(once[0], once[1])

    def test_seconds_a_pair_are_of_the_pairs_in_all_heads_of_all_sequences(self, monkeypatch) -> None:
        def timed(calls, rounds, turn_seconds):
            return {name: [48.0 * rounds] for name in calls}

        monkeypatch.setattr(similarity, "interleaved", timed)
        found = similarity.of_pairs(Pairs(2, 3, 4, 8), 1, ONCE)
        assert {each["median"] for each in found["seconds_a_pair"].values()} == {0.5}

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
        whole, half = (
            reduction.of_rank(machine, lambda matrix, e=energy: rank_for_energy(matrix, e), 1, ONCE)
            for energy in (1.0, 0.5)
        )
        assert whole["ranks"] == whole["full_ranks"]
        assert whole["loss"][1] == pytest.approx(whole["loss"][0], abs=1e-4)
        assert whole["counted"] < 1.0 < half["counted"]
        assert abs(half["loss"][1] - half["loss"][0]) > 1e-3
        assert set(whole["ranks"]) == {
            "token_embedding",
            *(f"layers.0.{name}" for name in ("w_qkv", "w_out", "w_ff1", "w_ff2")),
        }

    def test_blocks_of_the_lattice_are_rows_of_its_embedding_and_shrink(self) -> None:
        blocks = reduction.lattice_blocks((4, 16))
        ids = np.arange(200)
        assert [block.shape for block in blocks.values()] == [(4, 4), (16, 16)]
        assert np.array_equal(
            blocks["embedding, d = 4"], lattice_embedding(ids, nth_token_primes(ids), 4)[5:9]
        )
        found = reduction.of_block(blocks["embedding, d = 16"], 1, ONCE)
        assert found["bits_after"] < found["bits_before"] == reduction.BITS - 1

    @pytest.mark.parametrize(
        ("shape", "factor", "rank"), [((64, 192), 2.0, 24), ((64, 192), 4.0, 12), ((1, 1), 4.0, 1)]
    )
    def test_the_rank_for_a_saving(self, shape, factor, rank) -> None:
        assert reduction.rank_for_saving(np.zeros(shape), factor) == rank

    def test_ranks_are_chosen_by_energy_and_by_saving(self, machine) -> None:
        assert list(reduction.RANKS) == [
            "99% of the energy",
            "90% of the energy",
            "1/2 of the work",
            "1/4 of the work",
        ]
        matrix = np.diag([10.0, 3.0, 1.0, 0.1])
        assert [rank(matrix) for rank in reduction.RANKS.values()] == [2, 1, 1, 1]
        for name, saved in (("1/2 of the work", 2.0), ("1/4 of the work", 4.0)):
            found = reduction.of_rank(machine, reduction.RANKS[name], 1, ONCE)
            assert found["counted"] == pytest.approx(saved, rel=0.2)

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
        kept = [Pairs(*(size[name] for name in Pairs.__dataclass_fields__)) for size in STORED["similarity"]]
        assert kept == list(measure.PAIRS)
        assert {row["weights"] for row in STORED["reduction"]} == {"random", "trained", reduction.LATTICE}
        assert [row["chosen"] for row in STORED["low_rank"]] == [*reduction.RANKS] * 2
        assert len(STORED["locality"]) == 3 * (1 + len(locality.OPTIMIZERS))
        assert {row["d"] for row in STORED["reduction"]} == {*measure.FULL.blocks}
        assert all(row["load"].keys() == {"before", "after"} for row in STORED["steps"])
        assert STORED["load"] == largest_load(STORED) <= STORED["machine"]["cores"]

    def test_it_took_no_longer_than_make_says(self) -> None:
        makefile = (data_path("README.md").parents[1] / "Makefile").read_text(encoding="utf-8")
        minutes = re.search(r"^lattice-speed:.*\((\d+) minutes", makefile, re.MULTILINE)
        assert STORED["measured_in"] <= 60.0 * int(minutes[1])

    def test_the_picture_says_what_it_shows(self) -> None:
        picture = speed_picture(STORED)
        assert picture.words == "\n".join(said(STORED))
        for size in STORED["similarity"]:
            assert f"d = {size['d']}, T = {size['length']}, {size['heads']} heads" in picture.words
        for step in STORED["steps"]:
            for share in ("scores", "with_projections"):
                assert f"{step['speed_up_at_most'][share]['inf']:.3f} times" in picture.words
        load, cores = STORED["load"], STORED["machine"]["cores"]
        assert f"at a load of up to {load:.1f} on {cores} cores" in picture.words

    def test_nothing_measured_is_left_undrawn_without_a_word(self) -> None:
        pairs, *by_order, products = speed_picture(STORED).axes
        assert [axes.get_title(loc="left") for axes in by_order] == [*DRAWN.values()]
        drawn = sum(len(line.get_xdata()) for line in pairs.get_lines())
        assert drawn == len(STORED["similarity"]) * len((*PRODUCTS, *LOOPS, *LOOPS_ONCE))
        assert [label.get_text() for label in products.get_yticklabels()][2:] == [
            f"SVD, {name}" for name in reduction.RANKS
        ]
        added = [f"{row['loss'][1] - row['loss'][0]:+.2f} nats" for row in STORED["low_rank"]]
        assert [text.get_text() for text in products.texts] == added[len(reduction.RANKS) :]
        for axes in (pairs, by_order[0], products):
            labels = [text.get_text() for text in axes.get_legend().get_texts()]
            assert any(label.startswith("promised") for label in labels)

    def test_the_picture_is_there(self) -> None:
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


class TestQuiet:
    def test_more_load_than_cores_is_refused_and_as_much_is_not(self) -> None:
        require_quiet(2.0, 2)
        with pytest.raises(BusyMachineError, match=r"load of this machine is 2\.1 on 2 cores"):
            require_quiet(2.1, 2)

    def test_the_largest_load_is_that_of_any_part(self) -> None:
        parts = [{"load": {"before": 0.5, "after": 1.0}}, {"load": {"before": 3.0, "after": 0.25}}]
        assert largest_load({"a": parts[:1], "b": parts, "threads": 1, "plan": {}}) == 3.0

    def test_a_busy_machine_is_measured_no_further(self, monkeypatch) -> None:
        monkeypatch.setattr(os, "getloadavg", lambda: (1e9, 0.0, 0.0))
        monkeypatch.setattr(program, "measured", lambda plan: pytest.fail("it was measured"))
        with pytest.raises(SystemExit, match="nothing is stored: the load"):
            program.main([])

    @pytest.mark.parametrize(("busy", "options"), [(True, []), (False, []), (True, ["--quick"])])
    def test_what_got_busy_while_it_was_measured_is_said_and_not_stored(
        self, monkeypatch, tmp_path, capsys, busy, options
    ) -> None:
        results = copy.deepcopy(STORED)
        results["load"] = 1e9 if busy else 0.0
        asked = []

        def measured(plan):
            asked.append(plan)
            return results

        monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
        monkeypatch.setattr(program, "measured", measured)
        path = tmp_path / "speed.json"
        arguments = [*options, "--save", str(path)]
        if busy and not options:
            with pytest.raises(SystemExit, match="nothing is stored: the load"):
                program.main(arguments)
            assert not list(tmp_path.iterdir())
        else:
            program.main(arguments)
            assert json.loads(path.read_text(encoding="utf-8")) == results
            assert path.with_suffix(".png").exists() == (not options)
        assert asked == [measure.QUICK if options else measure.FULL]
        assert capsys.readouterr().out.strip() == "\n".join(said(results))

    def test_what_is_measured_says_its_load_and_its_time(self, monkeypatch) -> None:
        monkeypatch.setattr(
            measure, "_measured", lambda plan: {"steps": [{"load": {"before": 1.5, "after": 0.5}}]}
        )
        found = measure.measured(measure.QUICK)
        assert found["load"] == 1.5
        assert 0.0 <= found["measured_in"] < 60.0
