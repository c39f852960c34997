"""What the judges share: the symptom, the sizes of what counts as nothing, and three readings of an experiment."""

from __future__ import annotations

from cllm_lab.ledger.claim import NOT_HERE, PENDING, Judgement, Measurements

SYMPTOM = 9.2103
# Half of the last digit that the documents print: two figures nearer than this print alike.
PRINTED = 5e-5
# Nats: a loss that fell by less than this in three epochs has not learned; a sound one fell by 0.04 there.
UNFALLEN = 0.01
# Share of ln V: the excess that a sound start may have over it.
NEAR_UNIFORM = 0.01
# Relative: what finite differences in float64 leave between a right formula and its measured gradient.
SMALL_ERROR = 1e-6
# Seconds: where a wait begins to be felt.
FELT = 0.1


def pinned(losses: list[float]) -> bool:
    """Every loss prints as 9.2103."""
    return all(abs(loss - SYMPTOM) <= PRINTED for loss in losses)


def arm(m: Measurements, name: str) -> list[float]:
    """The epoch losses of one machine of zeros."""
    return m["epoch_losses"][m["arms"].index(name)]


def unseen(m: Measurements, what: str) -> Judgement:
    """For statements on the original's own program: they need its sources, which this library does not have."""
    verdict = NOT_HERE if m["c_sources"] == 0 else PENDING
    return verdict, f"{what} can be seen in its C sources alone; {m['c_sources']} of those are here"


def quoted_cache(m: Measurements) -> str:
    """What is quoted of the time that the original's cache of primes takes."""
    optimised, as_built = m["original_cache_seconds"]
    return (
        f"of the original's cache, {optimised} s are quoted with optimisation and {as_built} s as it is built"
    )
