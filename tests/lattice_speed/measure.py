"""What is measured, how often, and the results as they are stored."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parts.threads import available_threads
from cllm_lab.provenance import provenance
from cllm_lab.training.evidence import DOCUMENTS_MODEL
from tests.bench_live.results import noted
from tests.lattice_speed import locality, reduction, similarity
from tests.lattice_speed.locality import Case
from tests.lattice_speed.quiet import largest_load
from tests.lattice_speed.similarity import Machine, Pairs


@dataclass(frozen=True)
class Plan:
    """How often each is done. ``turn_seconds``: what a turn of a contender is filled to; ``sizes``: of the pairs,
    how many of `PAIRS`; ``blocks``: the d of the blocks that LLL reduces.
    """

    rounds: int
    large_rounds: int
    repetitions: int
    turn_seconds: float
    sizes: int
    blocks: tuple[int, ...]
    training_steps: int


FULL = Plan(
    # Multiples of the number of orders, so that each of them begins as often.
    rounds=28,
    large_rounds=21,
    repetitions=12,
    turn_seconds=0.02,
    sizes=6,
    blocks=(16, 32, 64),
    training_steps=400,
)
QUICK = Plan(
    rounds=7, large_rounds=3, repetitions=3, turn_seconds=0.01, sizes=2, blocks=(16, 32), training_steps=100
)
# Of the default machine, of the documents', of wider heads, up to the documents' undivided vectors; longer sequences.
PAIRS = (
    Pairs(4, 4, 32, 16),
    Pairs(4, 8, 32, 64),
    Pairs(4, 8, 32, 128),
    Pairs(4, 8, 32, 256),
    Pairs(4, 8, 32, 512),
    Pairs(4, 8, 128, 64),
)
LONG = 512
LARGE_VOCABULARY = 10_000


def measured(plan: Plan) -> dict[str, Any]:
    """Everything, one after the other, with what it was made with. Progress goes to standard error.

    On one thread. Other processes share its caches and its memory, so that ``load``, the largest that any part saw,
    tells what the figures are worth; ``measured_in``: seconds of the wall clock.
    """
    available_threads()  # Loads the libraries whose threads are then limited.
    began = time.perf_counter()
    with threadpool_limits(1):
        about, found = _about(plan), _measured(plan)
    return {**about, "load": largest_load(found), "measured_in": time.perf_counter() - began, **found}


def _about(plan: Plan) -> dict[str, Any]:
    made = provenance()
    return {
        "name": "lattice_speed",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": made["machine"],
        "versions": made["versions"],
        "threads": available_threads(),
        "plan": asdict(plan),
    }


def _measured(plan: Plan) -> dict[str, Any]:
    pairs, steps = [], []
    for size in PAIRS[: plan.sizes]:
        timed = partial(similarity.of_pairs, size, plan.rounds, plan.turn_seconds)
        pairs.append(_reported(f"pairs, d = {size.d}, T = {size.length}", timed))
    for machine in _machines():
        shared = partial(similarity.of_step, machine, plan.repetitions)
        steps.append(_reported(f"the scores' share: {machine.name}", shared))
    return {"similarity": pairs, "steps": steps, "locality": _locality(plan), **_reduction(plan)}


def _machines() -> tuple[Machine, ...]:
    vocabulary = load_corpus("large").vocab_size
    default = ModelConfig(vocab_size=vocabulary)
    return (
        Machine("default", default, 4, 32),
        Machine("documents' size", DOCUMENTS_MODEL, 4, 32),
        Machine("default, long windows", replace(default, context_length=LONG), 1, LONG),
    )


def _locality(plan: Plan) -> list[dict[str, Any]]:
    tokens, vocabulary = locality.shipped_tokens()
    small = {"d_model": 64, "n_layers": 2, "n_heads": 4}
    # Of one layer, so that the embedding is as large a part of the step as it can be.
    large = {"d_model": DOCUMENTS_MODEL.d_model, "n_layers": 1, "n_heads": DOCUMENTS_MODEL.n_heads}
    cases = [
        (Case("shipped text", tokens, vocabulary, **small), plan.rounds),
        (Case("Zipf", locality.zipf_tokens(vocabulary, 20_000, 0), vocabulary, **small), plan.rounds),
        (
            Case("Zipf", locality.zipf_tokens(LARGE_VOCABULARY, 5_000, 0), LARGE_VOCABULARY, **large),
            plan.large_rounds,
        ),
    ]
    found = []
    for case, rounds in cases:
        name = f"{case.name}, V = {case.vocab_size}, d = {case.d_model}"
        about = {
            "case": name,
            "vocab_size": case.vocab_size,
            "d_model": case.d_model,
            "n_layers": case.n_layers,
        }
        looked_up = partial(locality.lookup, case, plan.rounds, plan.turn_seconds)
        found.append({**about, "what": "lookup", **_reported(f"lookup: {name}", looked_up)})
        for optimizer in locality.OPTIMIZERS:
            stepped = partial(locality.step, case, optimizer, rounds, plan.turn_seconds)
            found.append({**about, "what": optimizer, **_reported(f"step with {optimizer}: {name}", stepped)})
    return found


def _reduction(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"reduction": [], "low_rank": []}
    blocks: dict[str, dict[str, NDArray[Any]]] = {}
    for weights, machine in reduction.machines(plan.training_steps).items():
        blocks[weights] = reduction.blocks(machine, plan.blocks)
        for chosen, rank in reduction.RANKS.items():
            ranked = partial(reduction.of_rank, machine, rank, plan.rounds, plan.turn_seconds)
            about = {"weights": weights, "chosen": chosen}
            found["low_rank"].append({**about, **_reported(f"SVD, {weights}, {chosen}", ranked)})
    blocks[reduction.LATTICE] = reduction.lattice_blocks(plan.blocks)
    for weights, matrices in blocks.items():
        for block, matrix in matrices.items():
            about = {"weights": weights, "block": block}
            reduced = partial(reduction.of_block, matrix, plan.rounds, plan.turn_seconds)
            found["reduction"].append({**about, **_reported(f"LLL, {weights} {block}", reduced)})
    return found


def _reported(what: str, run: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)
    return noted(run)
