"""The shipped text: its counts, what data/README.md says of it, and that its word order can be learned."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

from cllm_lab.corpus.tokenizer import SPECIAL_TOKENS
from cllm_lab.resources import data_path

TEXT = data_path("large_corpus.txt").read_text(encoding="ascii")
README = data_path("README.md").read_text(encoding="utf-8")
LINES = TEXT.splitlines()
TOKENS = TEXT.split()
FORMS = [token.lower() for token in TOKENS]
LINE_OF_TOKEN = np.repeat(np.arange(len(LINES)), [len(line.split()) for line in LINES])

BIGRAM_WEIGHT = 0.3
N_FOLDS = 5
SHUFFLE_SEEDS = range(5)


class HeldOut(NamedTuple):
    """Held-out cross-entropies in nats per token."""

    unigram: float
    bigram: float

    @property
    def gain(self) -> float:
        return self.unigram - self.bigram


def held_out_losses(forms: Sequence[str], is_held_out: np.ndarray) -> HeldOut:
    """Both models counted on the pairs that are not held out and scored on those that are.

    is_held_out: bool (len(forms) - 1,), an entry per pair (forms[i - 1], forms[i]).
    """
    n_forms = len(set(forms))
    pairs = list(zip(pairwise(forms), is_held_out, strict=True))
    training = [pair for pair, held_out in pairs if not held_out]
    testing = [pair for pair, held_out in pairs if held_out]
    pair_counts = Counter(training)
    context_counts = Counter(context for context, _ in training)
    target_counts = Counter(target for _, target in training)

    def unigram(target: str) -> float:
        return (target_counts[target] + 1) / (len(training) + n_forms)

    def bigram(context: str, target: str) -> float:
        if context not in context_counts:
            return unigram(target)
        seen = pair_counts[context, target] / context_counts[context]
        return BIGRAM_WEIGHT * seen + (1 - BIGRAM_WEIGHT) * unigram(target)

    return HeldOut(
        float(np.mean([-math.log(unigram(target)) for _, target in testing])),
        float(np.mean([-math.log(bigram(context, target)) for context, target in testing])),
    )


def last_tenth(forms: Sequence[str]) -> HeldOut:
    n_pairs = len(forms) - 1
    return held_out_losses(forms, np.arange(n_pairs) >= n_pairs * 9 // 10)


def folds(forms: Sequence[str]) -> list[HeldOut]:
    line_of_target = LINE_OF_TOKEN[1:]
    return [held_out_losses(forms, line_of_target % N_FOLDS == fold) for fold in range(N_FOLDS)]


def mean_of_folds(forms: Sequence[str]) -> HeldOut:
    return HeldOut(*(float(mean) for mean in np.mean(folds(forms), axis=0)))


def readme_row(label: str) -> list[str]:
    """The cells that follow `label` in the one table row of data/README.md that starts with it."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in README.splitlines()
        if line[:1] == "|"
    ]
    (found,) = [cells[1:] for cells in rows if cells[0] == label]
    return found


COUNTS = {
    "lines": (len(LINES), 218),
    "tokens": (len(TOKENS), 1241),
    "forms, lower-cased": (len(set(FORMS)), 606),
    "vocabulary": (len(set(FORMS)) + len(SPECIAL_TOKENS), 611),
    "types, case-sensitive": (len(set(TOKENS)), 662),
}


@pytest.mark.parametrize("label", COUNTS)
def test_the_file_has_the_promised_counts_and_the_readme_states_them(label: str) -> None:
    counted, promised = COUNTS[label]
    assert counted == promised
    assert readme_row(label)[-1] == f"{counted:,}"


def test_the_file_is_plain_lines_of_readable_length() -> None:
    assert TEXT.endswith("\n")
    assert "\n".join(" ".join(line.split()) for line in LINES) + "\n" == TEXT
    assert {len(line.split()) for line in LINES} <= set(range(3, 10))
    assert set(re.findall(r"[^A-Za-z\s]", TEXT)) <= set(",.'")


def test_few_lines_are_repeated() -> None:
    assert len(LINES) - len(set(LINES)) <= 3


def test_the_readme_names_the_licence() -> None:
    assert "CC0 1.0" in README
    assert "CC0-1.0" in README


@pytest.mark.parametrize(
    ("label", "measure"), [("last tenth", last_tenth), ("five folds, mean", mean_of_folds)]
)
def test_the_readme_states_the_held_out_figures(
    label: str, measure: Callable[[Sequence[str]], HeldOut]
) -> None:
    losses = measure(FORMS)
    assert readme_row(label) == [f"{nats:.4f}" for nats in (losses.unigram, losses.bigram, losses.gain)]


def test_the_readme_states_the_method_that_was_measured() -> None:
    n_pairs = len(FORMS) - 1
    n_training = n_pairs * 9 // 10
    assert f"They make {n_pairs:,} pairs" in README
    assert f"(c(w) + 1) / (N + {len(set(FORMS))})" in README
    assert f"= {BIGRAM_WEIGHT} c(u, w) / c(u, ·) + {1 - BIGRAM_WEIGHT} p(w)" in README
    assert f"= {n_training:,} pairs train, the last {n_pairs - n_training} are held out" in README
    assert f"mod {N_FOLDS} = k" in README
    assert f"seeds {SHUFFLE_SEEDS[0]} to {SHUFFLE_SEEDS[-1]}" in README


def test_the_last_word_helps_to_predict_the_next() -> None:
    assert last_tenth(FORMS).gain > 0.5
    assert mean_of_folds(FORMS).gain > 0.25
    assert min(losses.gain for losses in folds(FORMS)) > 0.1


@pytest.mark.parametrize("seed", SHUFFLE_SEEDS)
def test_without_the_word_order_it_does_not_help(seed: int) -> None:
    shuffled = [FORMS[i] for i in np.random.default_rng(seed).permutation(len(FORMS))]
    (stated,) = re.findall(r"worse than the unigram by more than (\S+) nats", README)
    assert last_tenth(shuffled).gain < -float(stated)
    assert mean_of_folds(shuffled).gain < -float(stated)


def test_the_losses_of_a_stream_small_enough_to_count_by_hand() -> None:
    # Training pairs: a b, b a, a b. Held out: b a (seen once of once) and a c (a never leads to c).
    losses = held_out_losses(["a", "b", "a", "b", "a", "c"], np.array([False, False, False, True, True]))
    p_a, p_c = 2 / 6, 1 / 6
    assert losses.unigram == pytest.approx(-(math.log(p_a) + math.log(p_c)) / 2)
    assert losses.bigram == pytest.approx(-(math.log(0.3 + 0.7 * p_a) + math.log(0.7 * p_c)) / 2)


def test_a_context_never_seen_falls_back_on_the_unigram() -> None:
    losses = held_out_losses(["a", "b", "c", "a"], np.array([False, False, True]))
    assert losses.bigram == losses.unigram == pytest.approx(-math.log(1 / 5))
