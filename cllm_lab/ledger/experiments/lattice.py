"""The original's list of primes, counted; what the lattice does for speed and for learning, from stored results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from cllm_lab.lattice import compare_historical_primes, historical_primes, lattice_values
from cllm_lab.resources import data_path
from cllm_lab.trials.lattice_report import lattice_results

FILE = "lattice_speed.json"
# To where the original made its list.
LIMIT = 200_000
# Sizes of the documents' machine: a head's vectors.
DOCUMENTS_HEAD = 64
GCD, RULE = "gcd, compiled", "primes known, compiled"
GCD_ONCE, RULE_ONCE = "gcd, once for all heads", "primes known, once for all heads"
DOT, PRODUCT = "dot products, terms in order", "matrix product"
# Rows of the lattice's own embedding: blocks that are no machine's weights.
LATTICE_ROWS = "lattice"
# Orders of the rows that the lattice gives and that are not, as that by radius is, the order of the ids.
LATTICE_ORDERS = ("angle", "square", "curve")


def lattice_primes() -> dict[str, Any]:
    """The list to 200,000 made by the original's rules, beside the primes, and the bytes of its table of values."""
    found = compare_historical_primes(LIMIT)
    entries = historical_primes(LIMIT)
    values = lattice_values(entries, np.arange(1, entries.size + 1))
    return {
        "limit": found.limit,
        "entries": found.entries,
        "composites": found.composites,
        "first_composite": found.first_composite,
        "primes": found.primes,
        "missed": found.missed,
        "bytes_an_entry": values.itemsize,
        "bytes": values.nbytes,
    }


def lattice_speed() -> dict[str, Any]:
    """Speed-ups, medians over rounds of what is replaced over what replaces it, as `python -m tests.lattice_speed`
    measured them: of similarities by primes, of orders of the vocabulary's rows, and of products after LLL or SVD.
    """
    stored = json.loads(data_path(FILE).read_text(encoding="utf-8"))
    return {
        **_similarity(stored["similarity"], stored["steps"]),
        **_locality(stored["locality"]),
        **_reduction(stored["reduction"], stored["low_rank"]),
    }


def lattice_training() -> dict[str, Any]:
    """What each arm of the shipped lattice report did, a place in each list for an arm on a corpus.

    ``effects``: nats, arm minus baseline, None where it diverged; ``verdicts``, ``verdicts_at_equal_time``: corrected
    for many comparisons; ``steps_ratios``: median of the steps to the baseline's level, arm over baseline, None where
    it was not reached; ``controls``, ``controls_beaten``: how many there are, and than how many the arm is better.
    ``controls_better``: how many controls are better than the baseline themselves. ``detectable``: the median over arms
    and corpora of the smallest effect that would have been found.
    """
    found = lattice_results().data
    settings = found["settings"]
    is_control = {arm["name"] for arm in settings["arms"] if arm["control_of"]}
    rows = [row for row in found["rows"] if row["arm"] not in is_control]
    against: dict[tuple[str, str], list[str]] = {(row["corpus"], row["arm"]): [] for row in rows}
    for pair in found["controls"]:
        against[pair["corpus"], pair["arm"]].append(pair["verdict"])
    verdicts = [against[row["corpus"], row["arm"]] for row in rows]
    controls = [row["verdict"] for row in found["rows"] if row["arm"] in is_control]
    return {
        "pairs": len(settings["seeds"]),
        "steps": settings["steps"],
        "arms": [row["arm"] for row in rows],
        "corpora": [row["corpus"] for row in rows],
        "effects": [row["effect"] for row in rows],
        "detectable": median(row["detectable"] for row in rows if row["detectable"]),
        "verdicts": [row["verdict"] for row in rows],
        "verdicts_at_equal_time": [row["time_verdict"] for row in rows],
        "steps_ratios": [row["steps_ratio"] for row in rows],
        "controls": [len(several) for several in verdicts],
        "controls_beaten": [several.count("better") for several in verdicts],
        "control_rows": len(controls),
        "controls_better": controls.count("better"),
    }


def _similarity(pairs: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def over(similarity: str, product: str) -> list[float]:
        return [size["speed_up"][similarity][product]["median"] for size in pairs]

    return {
        "pairs_d": [size["d"] for size in pairs],
        "pairs_length": [size["length"] for size in pairs],
        "pairs_heads": [size["heads"] for size in pairs],
        "documents_head": DOCUMENTS_HEAD,
        "gcd_over_product": over(GCD, PRODUCT),
        "rule_over_product": over(RULE, PRODUCT),
        "gcd_once_over_product": over(GCD_ONCE, PRODUCT),
        "rule_once_over_product": over(RULE_ONCE, PRODUCT),
        "gcd_over_dot": over(GCD, DOT),
        "rule_over_dot": over(RULE, DOT),
        "machines": [step["machine"] for step in steps],
        "scores_share": [step["share"]["scores"] for step in steps],
        "step_at_most": [step["speed_up_at_most"]["scores"]["inf"] for step in steps],
        "step_at_most_without_queries_and_keys": [
            step["speed_up_at_most"]["with_projections"]["inf"] for step in steps
        ],
    }


def _locality(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"lattice_orders": list(LATTICE_ORDERS)}
    for kind, chosen in (
        ("lookup", [row for row in rows if row["what"] == "lookup"]),
        ("step", [row for row in rows if row["what"] != "lookup"]),
    ):
        found[f"{kind}_cases"] = [f"{row['what']}, {row['case']}" for row in chosen]
        for order in (*LATTICE_ORDERS, "radius", "random", "frequency"):
            found[f"{kind}_by_{order}"] = [row["speed_up"][order]["median"] for row in chosen]
    return found


def _reduction(rows: Sequence[Mapping[str, Any]], ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "blocks": [f"{row['weights']} {row['block']}" for row in rows],
        "lll_same_answer": [row["speed_up"]["same_answer"]["median"] for row in rows],
        "lll_new_basis": [row["speed_up"]["new_basis"]["median"] for row in rows],
        "lll_without_zeros": [row["counted"]["without_zeros"]["new_basis"] for row in rows],
        "of_weights": [row["weights"] != LATTICE_ROWS for row in rows],
        "bits_before": [row["bits_before"] for row in rows],
        "bits_after": [row["bits_after"] for row in rows],
        "svd": [f"{row['weights']} weights, {row['chosen']}" for row in ranks],
        "svd_speed_up": [row["speed_up"]["median"] for row in ranks],
        "svd_loss_before": [row["loss"][0] for row in ranks],
        "svd_loss_after": [row["loss"][1] for row in ranks],
    }
