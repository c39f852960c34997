"""What a trainer feeds its machine, beside the text that it should be fed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cllm_lab.corpus.arguments import TokenArray
from cllm_lab.corpus.batches import Batch
from cllm_lab.corpus.entropies import bigram_entropy, unigram_entropy
from cllm_lab.training.trainer import Trainer

Places = NDArray[np.integer]

# Two windows fall into the same order by chance in every second epoch, and in this many epochs never.
EPOCHS_COMPARED = 20
FINDINGS = (
    "reordered",
    "other tokens",
    "targets misplaced",
    "targets left out",
    "targets repeated",
    "same order",
)


@dataclass(frozen=True, repr=False)
class StreamCheck:
    """One epoch's tokens and batches against the training split of the corpus.

    ``text_tokens`` and ``stream_tokens``: how many there are; ``replaced``: places of the stream that hold another
    token than the text, where both are equally long, else None; ``same_tokens``: whether the stream holds each
    token as often as the text; ``rising``: share of neighbours in the stream whose id does not fall, and
    ``text_rising`` that in the text; ``absent``: rows of the vocabulary that the text uses and the stream does not.

    ``shift``: how far ahead of its input every target stands in the stream, None where that differs;
    ``targets``: how many an epoch trains on, of ``text_targets`` that there are; ``left_out``: how many that this
    shift allows never come up, the ``left_out_at_end`` last ones without a gap; ``repeated``: how many come up again.
    ``same_order``: whether the next 20 epochs take their batches from the same places in the same order, None where
    an epoch is a single window; ``shuffle``: whether they should not.

    Entropies in nats, of the stream and of the text.
    """

    text_tokens: int
    stream_tokens: int
    replaced: int | None
    same_tokens: bool
    rising: float
    text_rising: float
    absent: int
    shift: int | None
    targets: int
    text_targets: int
    left_out: int
    left_out_at_end: int
    repeated: int
    same_order: bool | None
    shuffle: bool
    unigram: float
    bigram: float
    text_unigram: float
    text_bigram: float

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, of `FINDINGS`."""
        found = {
            "reordered": self.same_tokens and self.replaced != 0,
            "other tokens": not self.same_tokens,
            "targets misplaced": self.shift != 1,
            "targets left out": self.left_out > 0,
            "targets repeated": self.repeated > 0,
            "same order": self.shuffle and self.same_order is True,
        }
        return tuple(name for name in FINDINGS if found[name])

    @property
    def passed(self) -> bool:
        """Whether the machine is fed the text, whole, in its order, each target right behind its input."""
        return not self.findings

    @property
    def sorted(self) -> bool:
        """Whether the ids of the stream never fall while those of the text do."""
        return self.rising == 1.0 and self.text_rising < 1.0

    def __repr__(self) -> str:
        lines = [
            f"stream: {self._stream()}",
            f"  unigram entropy {self.unigram:.2f} nats (text {self.text_unigram:.2f}), "
            f"bigram entropy {self.bigram:.2f} (text {self.text_bigram:.2f})",
            f"targets: {self._targets()}",
            f"order of the batches: {self._order()}",
        ]
        return "\n".join(lines)

    def _stream(self) -> str:
        if self.replaced == 0:
            return f"the {self.text_tokens:,} tokens of the text in their order"
        if not self.same_tokens:
            return self._foreign()
        sorted_by_id = ", sorted by their ids" if self.sorted else ""
        return f"the {self.text_tokens:,} tokens of the text, not in their order{sorted_by_id}"

    def _foreign(self) -> str:
        if self.replaced is None:
            how_many = f"{self.stream_tokens:,} tokens where the text has {self.text_tokens:,}"
        else:
            share = self.replaced / self.text_tokens
            how_many = (
                f"{self.replaced:,} of {self.stream_tokens:,} tokens ({share:.1%}) are not those of the text"
            )
        return f"{how_many}; {self.absent} of the words that the text uses never occur"

    def _targets(self) -> str:
        place = (
            "not at one distance from their inputs"
            if self.shift is None
            else f"{self.shift} ahead of their inputs"
        )
        text = f"{place}; {self.targets:,} in an epoch, of {self.text_targets:,}"
        if self.left_out:
            last = ", the last ones" if self.left_out == self.left_out_at_end else ""
            text += f"; {self.left_out:,} never come up{last}"
        return text + (f"; {self.repeated:,} come up more than once" if self.repeated else "")

    def _order(self) -> str:
        if self.same_order is None:
            return "there is only one window"
        if not self.same_order:
            return "not the same in every epoch"
        return "the same in every epoch" + (", although shuffle is set" if self.shuffle else "")


def stream_check(trainer: Trainer) -> StreamCheck:
    """The tokens and the batches of a trainer's present epoch against the training split of its corpus.

    The stream is compared with the text token by token. How batches are cut from it is found by cutting a stream
    whose tokens are their own places, 0, 1, 2, ...: there every target and input says where it comes from. Nothing
    is trained and nothing changed.

    Raises TypeError for what is no `Trainer`; errors of a part that refuses such a stream come through.
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must be a Trainer; got {type(trainer).__name__}")
    epoch, fraction = trainer.epochs_done, trainer.config.validation_fraction
    text = trainer.corpus.training_tokens(fraction, epoch)
    tokens = trainer.parts.stream(trainer.corpus, fraction, epoch)
    batches = _numbered_batches(trainer, len(tokens), epoch)
    inputs, targets = (
        np.concatenate([side.ravel() for side in sides]) for sides in zip(*batches, strict=True)
    )
    distances = np.unique(targets - inputs)
    shift = int(distances[0]) if len(distances) == 1 else None
    missing = np.setdiff1d(_reachable(shift, len(tokens)), targets)
    later = (_numbered_batches(trainer, len(tokens), epoch + 1 + k) for k in range(EPOCHS_COMPARED))
    return StreamCheck(
        text_tokens=len(text),
        stream_tokens=len(tokens),
        replaced=int(np.count_nonzero(tokens != text)) if len(tokens) == len(text) else None,
        same_tokens=Counter(tokens.tolist()) == Counter(text.tolist()),
        rising=_rising(tokens),
        text_rising=_rising(text),
        absent=len(np.setdiff1d(text, tokens)),
        shift=shift,
        targets=len(targets),
        text_targets=len(text) - 1,
        left_out=len(missing),
        left_out_at_end=_run_at_end(missing, shift, len(tokens)),
        repeated=len(targets) - len(np.unique(targets)),
        same_order=all(_same(batches, other) for other in later) if _n_windows(batches) > 1 else None,
        shuffle=trainer.config.shuffle,
        unigram=unigram_entropy(tokens[1:]),
        bigram=bigram_entropy(tokens),
        text_unigram=unigram_entropy(text[1:]),
        text_bigram=bigram_entropy(text),
    )


def _numbered_batches(trainer: Trainer, n_tokens: int, epoch: int) -> list[Batch]:
    config = trainer.config
    places = np.arange(n_tokens, dtype=np.int32)
    return trainer.parts.batches(
        places, config.batch_size, config.sequence_length, config.shuffle, config.seed, epoch
    )


def _rising(tokens: TokenArray) -> float:
    return float(np.mean(np.diff(tokens) >= 0))


def _reachable(shift: int | None, n_tokens: int) -> Places:
    """The places of all targets of n tokens that stand ``shift`` ahead of their inputs; of sound ones where None."""
    first = 1 if shift is None else max(shift, 0)
    return np.arange(first, n_tokens if first else n_tokens - 1)


def _run_at_end(missing: Places, shift: int | None, n_tokens: int) -> int:
    """How many of the sorted places are the last reachable ones, without a gap."""
    last = _reachable(shift, n_tokens)[-1]
    return int(np.count_nonzero(last - missing[::-1] == np.arange(len(missing))))


def _n_windows(batches: list[Batch]) -> int:
    return sum(len(batch.inputs) for batch in batches)


def _same(batches: list[Batch], others: list[Batch]) -> bool:
    return len(batches) == len(others) and all(
        np.array_equal(mine, theirs)
        for batch, other in zip(batches, others, strict=True)
        for mine, theirs in zip(batch, other, strict=True)
    )
