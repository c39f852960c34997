"""The check of a stream names what is wrong with it, and nothing else, for faults in the stream and in the batches."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.stream_check import FINDINGS, stream_check
from cllm_lab.corpus.batches import Batch, epoch_batches
from tests.training.machines import LANGUAGE, TEXT, Fault, bits, make_trainer

TOKENS, PAIRS = 61, 60  # of TEXT; windows of 8 in batches of 2


def check(faults=(), corpus=TEXT, **settings):
    return stream_check(make_trainer(corpus=corpus, faults=faults, **settings))


def with_batches(change):
    """A check with batches that are changed after they are cut."""

    def cut(tokens, batch_size, sequence_length, shuffle, seed, epoch):
        return change(epoch_batches(tokens, batch_size, sequence_length, shuffle, seed, epoch))

    return check([Fault("planted", {"batches": cut})])


def with_stream(tokens):
    return check([Fault("planted", {"stream": lambda *_: np.asarray(tokens, np.int32)})])


@pytest.mark.parametrize(
    "settings",
    (
        {},
        {"shuffle": False},
        {"validation_fraction": 0.2},
        {"corpus": LANGUAGE},
        {"corpus": LANGUAGE, "validation_fraction": 0.2},
        {"corpus": lab.ConstantLanguage(n_tokens=50)},
        {"batch_size": 8},
        {"sequence_length": 1},
        {"sequence_length": 7},
    ),
    ids=str,
)
def test_a_sound_trainer_passes(settings) -> None:
    found = check(**settings)
    assert found.findings == () and found.passed and not found.sorted
    assert found.shift == 1 and found.left_out == found.repeated == found.replaced == found.absent == 0
    assert found.targets == found.text_targets == found.text_tokens - 1 == found.stream_tokens - 1
    assert (found.unigram, found.bigram) == (found.text_unigram, found.text_bigram)


@pytest.mark.parametrize("seed", range(30))
def test_two_windows_that_fall_into_one_order_by_chance_are_no_finding(seed: int) -> None:
    text = lab.Corpus.from_text(TEXT.text[: len(TEXT.text) // 4])
    found = check(corpus=text, seed=seed, sequence_length=(text.n_tokens - 1) // 2)
    assert found.passed and found.same_order is False


def test_it_looks_at_the_present_epoch_and_changes_nothing() -> None:
    trainer = make_trainer(corpus=LANGUAGE)
    first = stream_check(trainer)
    trainer.run(steps=len(LANGUAGE.tokens))
    before = bits(trainer)
    later = stream_check(trainer)
    assert bits(trainer) == before
    assert later.passed and later.text_bigram != first.text_bigram


@pytest.mark.parametrize(
    ("name", "finding"),
    (
        ("token-sorting", "reordered"),
        ("case-mismatch", "other tokens"),
        ("dropped-remainder", "targets left out"),
        ("unshuffled-batches", "same order"),
        ("unshifted-targets", "targets misplaced"),
        ("targets-shifted-by-two", "targets misplaced"),
        ("shuffled-targets", "targets misplaced"),
    ),
)
def test_each_fault_of_the_data_has_one_finding(name: str, finding: str) -> None:
    fault = lab.faults.catalogue()[name]
    found = stream_check(fault.broken())
    assert found.findings == (finding,) and finding in FINDINGS and not found.passed
    assert stream_check(fault.healthy()).passed


def test_a_sorted_stream_is_called_sorted() -> None:
    found = with_stream(np.sort(TEXT.tokens))
    assert found.sorted and found.rising == 1.0 > found.text_rising
    assert found.same_tokens and found.unigram != found.bigram < found.text_bigram
    assert "not in their order, sorted by their ids" in str(found)


def test_a_reversed_stream_is_not() -> None:
    found = with_stream(TEXT.tokens[::-1])
    assert found.findings == ("reordered",) and not found.sorted
    assert "not in their order\n" in str(found)
    assert found.rising == np.mean(np.diff(TEXT.tokens) <= 0)


def test_other_tokens_are_counted() -> None:
    tokens = TEXT.tokens.copy()
    never = tokens == tokens[3]
    # A word that the text has anyway: nothing new comes in, one word is lost.
    tokens[never] = tokens[~never][0]
    found = with_stream(tokens)
    assert found.findings == ("other tokens",)
    assert (found.replaced, found.absent) == (np.count_nonzero(never), 1)
    assert f"{found.replaced} of 61 tokens ({found.replaced / 61:.1%}) are not those of the text" in str(
        found
    )
    assert "1 of the words that the text uses never occur" in str(found)


def test_a_shorter_stream_has_other_tokens() -> None:
    found = with_stream(TEXT.tokens[:41])
    assert found.findings == ("other tokens",) and found.replaced is None
    assert (found.stream_tokens, found.targets, found.text_targets, found.left_out) == (41, 40, PAIRS, 0)
    assert "41 tokens where the text has 61" in str(found)


def test_what_is_left_out_is_counted_from_the_end() -> None:
    last = with_batches(lambda batches: sorted(batches, key=lambda batch: batch.targets.max())[:-1])
    assert last.findings == ("targets left out",)
    assert 0 < last.left_out_at_end <= last.left_out == PAIRS - last.targets
    other = with_batches(lambda batches: [batch for batch in batches if 1 not in batch.targets])
    assert other.left_out_at_end < other.left_out
    assert "never come up\n" in str(other)


def test_the_last_88_targets_of_the_shipped_text() -> None:
    found = stream_check(lab.faults.catalogue()["dropped-remainder"].broken())
    assert (found.targets, found.left_out, found.left_out_at_end) == (1152, 88, 88)
    assert "88 never come up, the last ones" in str(found)


def test_targets_that_come_up_twice() -> None:
    found = with_batches(lambda batches: [*batches, batches[0]])
    assert found.findings == ("targets repeated",) and found.repeated > 0
    assert f"{found.repeated} come up more than once" in str(found)


@pytest.mark.parametrize("shift", (-1, 0, 2, 3))
def test_every_shift_is_measured(shift: int) -> None:
    def cut(tokens, *settings):
        kept = len(tokens) - max(shift, 1)
        first = max(0, -shift)
        places = np.arange(first, kept)
        return [Batch(tokens[places][None], tokens[places + shift][None])]

    found = check([Fault("planted", {"batches": cut})])
    assert found.shift == shift and "targets misplaced" in found.findings
    assert f"targets: {shift} ahead of their inputs" in str(found)
    assert found.same_order is None and "only one window" in str(found)


def test_an_order_that_never_changes_is_a_finding_where_shuffle_is_set() -> None:
    fault = lab.faults.catalogue()["unshuffled-batches"]
    asked, unasked = (check([fault], shuffle=shuffle) for shuffle in (True, False))
    assert asked.findings == ("same order",) and unasked.passed
    assert asked.same_order and unasked.same_order
    assert "although shuffle is set" in str(asked) and "although" not in str(unasked)


def test_what_is_no_trainer_is_refused() -> None:
    with pytest.raises(TypeError, match="trainer must be a Trainer; got Corpus"):
        stream_check(TEXT)


def test_it_is_on_the_facade() -> None:
    assert lab.stream_check is stream_check
