"""What the ledger reads from the stored results on the lattice, of speed and of learning, and how it judges claims."""

import copy
import json
from itertools import product

import pytest

from cllm_lab.ledger.claim import CONFIRMED, PARTLY, REFUTED
from cllm_lab.ledger.claims import CLAIMS
from cllm_lab.ledger.experiments import lattice
from cllm_lab.trials.result import Ablation

SIMILARITY, LOCALITY, REDUCTION, COUNT, MEMORY, EPOCHS = (
    next(claim for claim in CLAIMS if claim.id == name)
    for name in (
        "001-similarity-speedup",
        "001-locality-improvement",
        "001-reduction-speedup",
        "000-prime-count",
        "000-cache-memory",
        "000-lattice-reduces-epochs",
    )
)


def middle(figure):
    return {"median": figure, "lower_quartile": 0.0, "upper_quartile": 99.0}


def pairs(d, heads, gcd, rule, gcd_dot, rule_dot):
    return {
        "d": d,
        "heads": heads,
        "length": 32,
        "speed_up": {
            lattice.GCD: {lattice.PRODUCT: middle(gcd), lattice.DOT: middle(gcd_dot)},
            lattice.RULE: {lattice.PRODUCT: middle(rule), lattice.DOT: middle(rule_dot)},
            lattice.GCD_ONCE: {lattice.PRODUCT: middle(gcd * heads)},
            lattice.RULE_ONCE: {lattice.PRODUCT: middle(rule * heads)},
        },
    }


def step(machine, share, most, with_projections):
    at_most = {"scores": {"10": 0.0, "inf": most}, "with_projections": {"10": 0.0, "inf": with_projections}}
    return {"machine": machine, "share": {"scores": share}, "speed_up_at_most": at_most}


def rows(what, case, angle, radius=1.0, frequency=1.0):
    figures = {"angle": angle, "square": 1.0, "curve": 1.0, "radius": radius, "random": 0.5}
    speed_up = {order: middle(figure) for order, figure in {**figures, "frequency": frequency}.items()}
    return {"what": what, "case": case, "speed_up": speed_up}


def block(weights, name, same, new, before=7, after=8):
    speed_up = {"same_answer": middle(same), "new_basis": middle(new)}
    return {
        "counted": {
            "dense": {"new_basis": 99.0},
            "without_zeros": {"same_answer": 99.0, "new_basis": after / before},
        },
        "weights": weights,
        "block": name,
        "speed_up": speed_up,
        "bits_before": before,
        "bits_after": after,
    }


STORED = {
    "similarity": [pairs(64, 8, 0.25, 3.0, 0.5, 40.0), pairs(512, 4, 0.75, 20.0, 4.0, 400.0)],
    "steps": [step("small", 0.02, 1.02, 1.1), step("large", 0.2, 1.25, 1.5)],
    "locality": [
        rows("lookup", "a text", 1.01, frequency=1.1),
        rows("sgd", "a text", 0.9, radius=0.97),
        rows("adam", "a text", 1.02, frequency=1.04),
    ],
    "reduction": [
        block("random", "rows", 0.5, 1.0),
        block("trained", "rows", 0.25, 0.875, after=9),
        block(lattice.LATTICE_ROWS, "rows", 0.5, 1.0, before=6, after=3),
    ],
    "low_rank": [
        {"weights": "trained", "chosen": "90% of the energy", "speed_up": middle(1.25), "loss": [1.0, 3.5]},
        {"weights": "random", "chosen": "1/2 of the work", "speed_up": middle(1.75), "loss": [6.0, 6.5]},
    ],
}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    (tmp_path / lattice.FILE).write_text(json.dumps(STORED), encoding="utf-8")
    monkeypatch.setattr(lattice, "data_path", lambda name: tmp_path / name)
    return lattice.lattice_speed()


def test_the_medians_are_read_each_to_its_name(measured) -> None:
    assert measured == {
        "pairs_d": [64, 512],
        "pairs_length": [32, 32],
        "pairs_heads": [8, 4],
        "documents_head": 64,
        "gcd_over_product": [0.25, 0.75],
        "rule_over_product": [3.0, 20.0],
        "gcd_once_over_product": [2.0, 3.0],
        "rule_once_over_product": [24.0, 80.0],
        "gcd_over_dot": [0.5, 4.0],
        "rule_over_dot": [40.0, 400.0],
        "machines": ["small", "large"],
        "scores_share": [0.02, 0.2],
        "step_at_most": [1.02, 1.25],
        "step_at_most_without_queries_and_keys": [1.1, 1.5],
        "lattice_orders": ["angle", "square", "curve"],
        "lookup_cases": ["lookup, a text"],
        "lookup_by_angle": [1.01],
        "lookup_by_square": [1.0],
        "lookup_by_curve": [1.0],
        "lookup_by_radius": [1.0],
        "lookup_by_random": [0.5],
        "lookup_by_frequency": [1.1],
        "step_cases": ["sgd, a text", "adam, a text"],
        "step_by_angle": [0.9, 1.02],
        "step_by_square": [1.0, 1.0],
        "step_by_curve": [1.0, 1.0],
        "step_by_radius": [0.97, 1.0],
        "step_by_random": [0.5, 0.5],
        "step_by_frequency": [1.0, 1.04],
        "blocks": ["random rows", "trained rows", "lattice rows"],
        "of_weights": [True, True, False],
        "lll_same_answer": [0.5, 0.25, 0.5],
        "lll_new_basis": [1.0, 0.875, 1.0],
        "lll_without_zeros": [8 / 7, 9 / 7, 0.5],
        "bits_before": [7, 7, 6],
        "bits_after": [8, 9, 3],
        "svd": ["trained weights, 90% of the energy", "random weights, 1/2 of the work"],
        "svd_speed_up": [1.25, 1.75],
        "svd_loss_before": [1.0, 6.0],
        "svd_loss_after": [3.5, 6.5],
    }


VERDICTS = {(True, True): CONFIRMED, (True, False): PARTLY, (False, True): PARTLY, (False, False): REFUTED}
# Claim, two figures that it stands on, one below what the claim promises, the least and the most that it promises, and
# one above.
PROMISES = [
    (SIMILARITY, ("gcd_over_product", "rule_over_product"), 9.9, (10.0, 100.0), 101.0),
    (SIMILARITY, ("gcd_once_over_product", "rule_once_over_product"), 9.9, (10.0, 100.0), 101.0),
    (LOCALITY, ("lookup_by_curve", "step_by_square"), 1.19, (1.2, 1.5), 1.6),
    (REDUCTION, ("lll_same_answer", "lll_new_basis"), 1.9, (2.0, 4.0), 4.1),
]
each_promise = pytest.mark.parametrize(
    ("claim", "names", "below", "promised", "above"), PROMISES, ids=lambda value: getattr(value, "id", "")
)


@pytest.fixture
def slow(measured):
    """Every figure that a promise could stand on is that of no gain."""
    for name in measured:
        if "_over_product" in name or "_by_" in name or name in ("lll_same_answer", "lll_new_basis"):
            measured[name] = [1.0] * len(measured[name])
    return measured


@each_promise
@pytest.mark.parametrize(("holds", "bound"), list(product(VERDICTS, (0, 1, None))))
def test_a_part_holds_where_its_best_figure_reaches_the_least_that_was_promised(
    slow, claim, names, below, promised, above, holds, bound
) -> None:
    figures = copy.deepcopy(slow)
    enough = above if bound is None else promised[bound]
    for name, reached in zip(names, holds, strict=True):
        figures[name][-1] = enough if reached else below
    verdict, evidence = claim.judged({"lattice-speed": figures})
    assert verdict == VERDICTS[holds]
    assert evidence != claim.judged({"lattice-speed": slow})[1]
    passed = f", the best above the {promised[1]:g} times promised"
    assert (passed in evidence) == (bound is None and any(holds))


def test_a_random_order_and_that_by_frequency_speak_for_no_lattice(measured) -> None:
    for order in ("random", "frequency", "radius"):
        measured |= {
            f"{kind}_by_{order}": [1.3] * len(measured[f"{kind}_by_{order}"]) for kind in ("lookup", "step")
        }
    assert LOCALITY.judged({"lattice-speed": measured})[0] == REFUTED


def test_the_evidence_says_what_was_measured_against_what(measured) -> None:
    def said(claim):
        return claim.judged({"lattice-speed": measured})[1]

    for words in (
        "matrix product of vectors of 64 to 512 dimensions, and for each head as it",
        "the gcd is 0.25 to 0.75 times",
        "1/max, 3.00 to 20.00 times, 3.0 at the 64",
        "once for all 8 heads, which then attend alike, 2.00 and 24.0 there, 2.00 to 3.00 and 24.00 to 80.00 every",
        "one after the other, 0.50 to 4.00 and 40.00 to 400.00",
        "2.0% to 20.0% of a pass, which is at most 1.02 to 1.25 times as fast without it, 1.10 to 1.50 times without",
    ):
        assert words in said(SIMILARITY)
    for words in (
        "by angle, square and curve",
        "the lookup by +1.0% and a step by +2.0%",
        "a random order a step by -50.0%, that by frequency by +4.0%",
        "up to 3.0% apart",
    ):
        assert words in said(LOCALITY)
    for words in (
        "the largest of 8 to 9 bits where it had 7, in the lattice's own embedding of 3 where it had 6",
        "0.25 to 0.50 times",
        "0.88 to 1.00 times",
        "already, 0.50 to 1.29 times in multiply-adds that are not by 0; of lower rank by SVD, without training",
        "trained weights, 90% of the energy, 1.25 times, loss 1.00 to 3.50; random weights, 1/2 of the work, 1.75",
    ):
        assert words in said(REDUCTION)


def test_the_list_of_the_original_is_counted_and_its_composites_are_named() -> None:
    found = lattice.lattice_primes()
    assert found["entries"] == found["primes"] - found["missed"] + found["composites"]
    assert found["bytes"] == found["entries"] * found["bytes_an_entry"]
    verdict, evidence = COUNT.judged({"lattice-primes": found})
    assert verdict == PARTLY
    for figure in ("23,094", "200,000", "7,376", "17,984", "2,266"):
        assert figure in evidence
    verdict, evidence = MEMORY.judged({"lattice-primes": found})
    assert verdict == CONFIRMED
    for figure in ("1.41 MB of 2^20", "1.48 of 10^6", "0.45 MB"):
        assert figure in evidence


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({"composites": 0}, CONFIRMED),
        ({"entries": 17_984}, REFUTED),
        ({"entries": 17_984, "composites": 0}, PARTLY),
    ],
)
def test_the_count_and_the_word_primes_are_judged_apart(figures, verdict) -> None:
    assert COUNT.judged({"lattice-primes": {**lattice.lattice_primes(), **figures}})[0] == verdict


def compared(corpus, arm, verdict, ratio, effect=-0.5, time="no difference shown", detectable=0.25):
    return {
        "corpus": corpus,
        "arm": arm,
        "effect": effect,
        "detectable": detectable,
        "verdict": verdict,
        "time_verdict": time,
        "steps_ratio": ratio,
    }


def against(arm, control, verdict):
    return {"corpus": "sea", "arm": arm, "control": control, "verdict": verdict}


TRAINED = {
    "settings": {
        "seeds": [0, 1, 2],
        "steps": 50,
        "arms": [
            {"name": "baseline", "control_of": []},
            {"name": "distance", "control_of": []},
            {"name": "shuffled", "control_of": ["distance"]},
            {"name": "random", "control_of": ["distance"]},
            {"name": "gcd", "control_of": []},
        ],
    },
    "rows": [
        compared("sea", "distance", "better", 0.5, time="better", detectable=0.125),
        compared("sea", "gcd", "identical", 1.0, 0.0, time="worse", detectable=0.0),
        compared("sea", "shuffled", "better", 0.25),
        compared("sea", "random", "worse", None, 0.5),
        compared("land", "distance", "no difference shown", 0.75),
        compared("land", "gcd", "diverged", None, None, detectable=None),
        compared("land", "shuffled", "no difference shown", 1.5),
        compared("land", "random", "worse", 1.25),
    ],
    "controls": [
        against("distance", "shuffled", "no difference shown"),
        against("distance", "random", "better"),
    ],
}


@pytest.fixture
def trained(monkeypatch):
    monkeypatch.setattr(lattice, "lattice_results", lambda: Ablation(TRAINED))
    return lattice.lattice_training()


def test_the_report_is_read_each_figure_to_its_arm_and_controls_are_no_arms(trained) -> None:
    assert trained == {
        "pairs": 3,
        "steps": 50,
        "arms": ["distance", "gcd", "distance", "gcd"],
        "corpora": ["sea", "sea", "land", "land"],
        "effects": [-0.5, 0.0, -0.5, None],
        "detectable": 0.1875,
        "verdicts": ["better", "identical", "no difference shown", "diverged"],
        "verdicts_at_equal_time": ["better", "worse", "no difference shown", "no difference shown"],
        "steps_ratios": [0.5, 1.0, 0.75, None],
        "controls": [2, 0, 0, 0],
        "controls_beaten": [1, 0, 0, 0],
        "control_rows": 4,
        "controls_better": 1,
    }


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        (
            {},
            PARTLY,
            "a lower loss, where it can be said with 0.50 to 0.50 of the steps",
        ),
        (
            {"steps_ratios": [0.0, 1.0, 0.75, None]},
            PARTLY,
            "1 of 4 reach the baseline's level earlier and a lower loss, 1",
        ),
        ({"controls_beaten": [2, 0, 0, 0]}, CONFIRMED, "1 beat all their controls: distance (sea); "),
        ({"controls_beaten": [2, 0, 0, 0]}, CONFIRMED, "arms among these that harm nowhere: distance;"),
        (
            {"controls_beaten": [2, 0, 0, 0], "verdicts": ["better", "worse", "worse", "identical"]},
            PARTLY,
            "arms among these that harm nowhere: none;",
        ),
        (
            {"controls_beaten": [2, 0, 0, 0], "verdicts": ["better", "worse", "diverged", "worse"]},
            PARTLY,
            "arms among these that harm nowhere: none;",
        ),
        ({"controls": [0] * 4, "controls_beaten": [0] * 4}, PARTLY, "0 beat all their controls;"),
        ({"verdicts": ["worse", "identical", "no difference shown", "worse"]}, REFUTED, "0 of 4 reach"),
        ({"steps_ratios": [None] * 4, "controls_beaten": [2, 0, 0, 0]}, REFUTED, "0 of 4 reach"),
        ({"steps_ratios": [1.0] * 4, "controls_beaten": [2, 0, 0, 0]}, REFUTED, "0 of 4 reach"),
        ({"verdicts_at_equal_time": ["worse"] * 4}, PARTLY, "0 of them at equal time too; 0 are worse"),
        ({"controls_better": 3}, PARTLY, "3 of 4 controls, without number theory, beat the baseline"),
    ],
)
def test_fewer_steps_are_the_lattice_s_where_every_control_is_beaten_and_nothing_is_harmed(
    trained, changes, verdict, words
) -> None:
    found, evidence = EPOCHS.judged({"lattice-training": {**trained, **changes}})
    assert found == verdict
    assert words in evidence


def test_the_evidence_says_how_large_the_trial_was_and_what_it_could_find(trained) -> None:
    evidence = EPOCHS.judged({"lattice-training": trained})[1]
    for words in (
        "2 arms on 2 corpora, 3 paired seeds, 50 steps, tuned alike",
        "1 of them at equal time too; 0 are worse",
        "An effect of 0.19 nats would be found",
    ):
        assert words in evidence
