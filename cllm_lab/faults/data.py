"""Faults of the data: the stream of tokens, and the batches that are cut from it."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from cllm_lab.corpus.arguments import TokenArray
from cllm_lab.corpus.batches import Batch, epoch_batches
from cllm_lab.corpus.source import CorpusError, TokenSource
from cllm_lab.corpus.tokenizer import WordTokenizer
from cllm_lab.faults.fault import Fault, Scenario
from cllm_lab.streams import stream
from cllm_lab.training.parts import training_stream

# The stream.


def spiral_distance(ids: TokenArray) -> np.ndarray:
    """|s(n) - s(0)| for n = id, with s(n) = (sqrt(n) cos(g n), sqrt(n) sin(g n), ln(n + 1)): (n + ln(n + 1)^2)^1/2.

    The angle g n cancels, and what is left grows with n.
    """
    n = ids.astype(np.float64)
    return np.sqrt(n + np.log1p(n) ** 2)


def sorted_stream(corpus: TokenSource, validation_fraction: float, epoch: int) -> TokenArray:
    """The healthy stream sorted by `spiral_distance`, equal ids in their order: sorted by id."""
    tokens = training_stream(corpus, validation_fraction, epoch)
    return tokens[np.argsort(spiral_distance(tokens), kind="stable")]


def case_sensitive_stream(corpus: TokenSource, validation_fraction: float, epoch: int) -> TokenArray:
    """The text cut into words without lower-casing; a word outside the vocabulary becomes crc32(word) mod V.

    Raises CorpusError for a corpus whose tokens are not lower-cased words.
    """
    if type(corpus.tokenizer) is not WordTokenizer:
        raise CorpusError(
            f"the fault 'case-mismatch' needs a corpus in lower-cased words, tokenizer 'word'; this one has "
            f"tokenizer {corpus.tokenizer_name!r}"
        )
    rows = {word: row for row, word in enumerate(corpus.vocabulary) if row not in corpus.special_ids}
    n_training = len(training_stream(corpus, validation_fraction, epoch))
    words = corpus.text.split()[:n_training]
    ids = [rows[word] if word in rows else crc32(word.encode()) % corpus.vocab_size for word in words]
    return np.array(ids, np.int32)


# Batches.


def whole_batches(
    tokens: TokenArray, batch_size: int, sequence_length: int, shuffle: bool, seed: int, epoch: int
) -> list[Batch]:
    """The batches of the first k B T pairs, k = floor((n - 1) / (B T)): what is left over is dropped.

    Raises ValueError where not one whole batch is left.
    """
    per_batch = batch_size * sequence_length
    n_kept = (len(tokens) - 1) // per_batch * per_batch
    if n_kept == 0:
        raise ValueError(
            f"{len(tokens)} tokens hold no whole batch of {batch_size} windows of {sequence_length}; "
            f"at least {per_batch + 1} are needed"
        )
    return epoch_batches(tokens[: n_kept + 1], batch_size, sequence_length, shuffle, seed, epoch)


def batches_in_text_order(
    tokens: TokenArray, batch_size: int, sequence_length: int, shuffle: bool, seed: int, epoch: int
) -> list[Batch]:
    """The healthy batches in the order of the text, whatever ``shuffle`` says."""
    return epoch_batches(tokens, batch_size, sequence_length, False, seed, epoch)


def unshifted_batches(
    tokens: TokenArray, batch_size: int, sequence_length: int, shuffle: bool, seed: int, epoch: int
) -> list[Batch]:
    """target[t] = token[t]: each position is asked for the token that it reads."""
    batches = epoch_batches(tokens, batch_size, sequence_length, shuffle, seed, epoch)
    return [Batch(batch.inputs, batch.inputs.copy()) for batch in batches]


def batches_shifted_by_two(
    tokens: TokenArray, batch_size: int, sequence_length: int, shuffle: bool, seed: int, epoch: int
) -> list[Batch]:
    """target[t] = token[t + 2]: the n - 2 pairs in the place of the n - 1. Raises ValueError for n < 3."""
    if len(tokens) < 3:
        raise ValueError(f"targets two tokens ahead need at least 3 tokens; got {len(tokens)}")
    places = np.arange(len(tokens) - 1)
    batches = epoch_batches(places, batch_size, sequence_length, shuffle, seed, epoch)
    return [Batch(tokens[here], tokens[after + 1]) for here, after in batches]


def batches_with_shuffled_targets(
    tokens: TokenArray, batch_size: int, sequence_length: int, shuffle: bool, seed: int, epoch: int
) -> list[Batch]:
    """The healthy batches, the targets of each permuted among its places by stream(seed, "order", epoch, 1)."""
    generator = stream(seed, "order", epoch, 1)
    batches = epoch_batches(tokens, batch_size, sequence_length, shuffle, seed, epoch)
    return [
        Batch(inputs, generator.permutation(targets.ravel()).reshape(targets.shape))
        for inputs, targets in batches
    ]


FAULTS = (
    Fault(
        id="token-sorting",
        title="A token stream sorted by a distance",
        swaps={"stream": sorted_stream},
        source="001 'Next Steps', spiral locality; found in the original",
        symptom="The loss falls as it does in a sound machine, and the text makes no sense.",
        signature="Every window is monotone: no target is below its input. The distance grows with the id, so that "
        "sorting by it is sorting by id. Unigram entropy is the same, bigram entropy a fraction of the text's. "
        "The loss on the text in its own order stays near ln V while the reported loss falls.",
        remedy="Leave the text in its order; locality of memory is no business of the stream.",
        takes_effect="new run",
    ),
    Fault(
        id="case-mismatch",
        title="A lower-cased vocabulary, a text that is not",
        swaps={"stream": case_sensitive_stream},
        source="found in the original: its vocabulary was lower-cased, its loader was not",
        symptom="The loss falls; words with a capital are never learnt.",
        signature="Every word that is not in lower case has become the id of another word by its hash: 229 of the "
        "1,241 tokens of the shipped text, where the original had 222 of its own. The stream differs from the "
        "corpus at those places and no others; some rows of the vocabulary no longer occur.",
        remedy="Cut text and vocabulary with one tokenizer, and refuse unknown words.",
        takes_effect="new run",
    ),
    Fault(
        id="dropped-remainder",
        title="What fills no whole batch is dropped",
        swaps={"batches": whole_batches},
        source="000 section 5, '9-10 batches'; found in the original",
        symptom="None: the loss falls.",
        signature="An epoch has fewer targets than the text has pairs: 1,152 of 1,240 here, in 9 batches in the "
        "place of 11. The last 88 targets are never trained on.",
        remedy="Keep the short last window and the smaller last batch, and weigh by tokens.",
        takes_effect="new run",
    ),
    Fault(
        id="unshuffled-batches",
        title="Batches that are never shuffled",
        swaps={"batches": batches_in_text_order},
        source="found in the original, beside a comment that says shuffled",
        symptom="None: the loss falls.",
        signature="Every epoch brings the same batches in the order of the text, although shuffle is set. On a small "
        "text the loss differs little from that of the sound machine.",
        remedy="Draw a new order of the windows in each epoch.",
        takes_effect="new run",
    ),
    Fault(
        id="unshifted-targets",
        title="Targets that are not shifted",
        swaps={"batches": unshifted_batches},
        source="general",
        symptom="The loss falls lower than the language allows, and the text repeats one word.",
        signature="Targets equal inputs. The reported loss falls below the bigram level of the text; the loss on "
        "shifted targets rises above ln V.",
        remedy="target[t] = token[t + 1].",
        # At this rate eight epochs are enough to pass the bigram level.
        scenario=Scenario(train={"learning_rate": 1e-2}),
        takes_effect="new run",
    ),
    Fault(
        id="targets-shifted-by-two",
        title="Targets shifted by two",
        swaps={"batches": batches_shifted_by_two},
        source="general",
        symptom="The loss falls as it does in a sound machine; the text skips every second word.",
        signature="target[t] is token[t + 2], and an epoch has one target fewer. The reported loss falls, the loss on "
        "targets shifted by one does not fall with it.",
        remedy="target[t] = token[t + 1].",
        takes_effect="new run",
    ),
    Fault(
        id="shuffled-targets",
        title="Targets shuffled among their places",
        swaps={"batches": batches_with_shuffled_targets},
        source="general",
        symptom="The loss falls at first and then stops.",
        signature="The loss stops near the unigram entropy: how often a token occurs can be learnt, what follows "
        "what cannot. The multiset of a batch's targets is right, their places are not.",
        remedy="Keep inputs and targets together when they are reordered.",
        takes_effect="new run",
    ),
)
