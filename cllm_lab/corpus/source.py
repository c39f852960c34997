"""What every corpus offers, whether its tokens come from a text or from a synthetic language."""

import hashlib
import math
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import ArrayLike

from cllm_lab.corpus.arguments import TokenArray, real_number, whole_number
from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.corpus.tokenizer import Tokenizer

_SHORTEST_SPLIT = 2


class CorpusError(ValueError):
    """A corpus cannot be loaded, split or used as asked."""


class TokenSource(ABC):
    """A stream of tokens with its vocabulary, its splits and its plateaus.

    tokens: int32 (n_tokens,), read-only. text: what they stand for. endless: whether each epoch brings
    new tokens. name: of a shipped text, else None. path: of a text file, else None.
    """

    endless: ClassVar[bool] = False

    name: str | None = None
    path: Path | None = None
    text: str
    tokens: TokenArray
    tokenizer: Tokenizer

    @property
    def n_tokens(self) -> int:
        """Number of tokens in `tokens`; the pairs of token and target are one fewer."""
        return len(self.tokens)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every token as text; the place of a token is its id."""
        return self.tokenizer.vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary, specials included."""
        return self.tokenizer.vocab_size

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that stand for no piece of text."""
        return self.tokenizer.special_ids

    @property
    def tokenizer_name(self) -> str:
        """ "word" or "char" for a text, "symbol" for a synthetic language."""
        return self.tokenizer.name

    @cached_property
    def sha256(self) -> str:
        """Hash of the text in UTF-8, as 64 hexadecimal digits."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    def encode(self, text: str, unknown: str = "error") -> TokenArray:
        """Token ids of `text`; see `Tokenizer.encode`."""
        return self.tokenizer.encode(text, unknown)

    def decode(self, ids: ArrayLike) -> str:
        """Text of token ids; see `Tokenizer.decode`."""
        return self.tokenizer.decode(ids)

    def plateaus(self, vocab_size: int | None = None, sequence_length: int | None = None) -> Plateaus:
        """The levels at which a loss may stop, in nats; see `Plateaus`.

        vocab_size: the V of ln V, for a model with more rows than the corpus has tokens; by default the
        corpus's own. sequence_length: window length of the positional level, which is None without it.

        Raises CorpusError when `vocab_size` is smaller than the corpus's, ValueError or TypeError for
        numbers that are no size.
        """
        if vocab_size is None:
            vocab_size = self.vocab_size
        else:
            require_vocabulary(self, vocab_size)
        positional = None
        if sequence_length is not None:
            positional = self._positional_entropy(whole_number("sequence_length", sequence_length, 1))
        return Plateaus(math.log(vocab_size), self._unigram_entropy(), self._bigram_entropy(), positional)

    def training_tokens(self, validation_fraction: float = 0.0, epoch: int = 0) -> TokenArray:
        """The tokens to train on, int32, read-only: all but the last `validation_fraction` of the stream.

        The same in every epoch. Raises CorpusError when the fraction is outside [0, 1) or leaves a split
        with fewer than 2 tokens, TypeError or ValueError for an epoch that is no non-negative integer.
        """
        whole_number("epoch", epoch, 0)
        return self.tokens[: self.n_tokens - self._held_out(validation_fraction)]

    def validation_tokens(self, validation_fraction: float) -> TokenArray:
        """The held-out tokens, int32, read-only: the last `validation_fraction` of the stream, rounded.

        Raises CorpusError when the fraction is outside [0, 1), is 0, or leaves a split with fewer than
        2 tokens.
        """
        return self.tokens[self.n_tokens - self._require_held_out(validation_fraction) :]

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What identifies this corpus in a checkpoint, in JSON's types; see `corpus_from_description`."""

    @abstractmethod
    def _unigram_entropy(self) -> float: ...

    @abstractmethod
    def _bigram_entropy(self) -> float: ...

    @abstractmethod
    def _positional_entropy(self, sequence_length: int) -> float: ...

    def _held_out(self, validation_fraction: float) -> int:
        """Number of validation tokens, 0 for a fraction of 0."""
        n_validation = validation_length(self.n_tokens, validation_fraction)
        n_training = self.n_tokens - n_validation
        if n_training < _SHORTEST_SPLIT:
            raise CorpusError(
                f"validation_fraction={validation_fraction} leaves {n_training} of {self.n_tokens} tokens "
                f"for training; at least {_SHORTEST_SPLIT} are needed"
            )
        return n_validation

    def _require_held_out(self, validation_fraction: float) -> int:
        n_validation = self._held_out(validation_fraction)
        if n_validation == 0:
            raise CorpusError("validation_fraction=0 holds nothing out; give a fraction between 0 and 1")
        return n_validation


def validation_length(n_tokens: int, validation_fraction: float) -> int:
    """round(validation_fraction * n_tokens): 0 for a fraction of 0, otherwise at least 2.

    Raises TypeError unless the fraction is a number, CorpusError when it is outside [0, 1) or holds out
    fewer than 2 tokens.
    """
    fraction = real_number("validation_fraction", validation_fraction)
    if not 0 <= fraction < 1:
        raise CorpusError(f"validation_fraction must lie in [0, 1), got {validation_fraction}")
    n_validation = round(fraction * n_tokens)
    if fraction > 0 and n_validation < _SHORTEST_SPLIT:
        raise CorpusError(
            f"validation_fraction={validation_fraction} holds out {n_validation} of {n_tokens} tokens; "
            f"at least {_SHORTEST_SPLIT} are needed: use 0, or {_SHORTEST_SPLIT / n_tokens:.3g} or more"
        )
    return n_validation


def require_vocabulary(corpus: TokenSource, vocab_size: int) -> None:
    """Raises CorpusError when a model of `vocab_size` rows cannot hold every token id of `corpus`.

    Raises TypeError or ValueError when `vocab_size` is no positive integer.
    """
    rows = whole_number("vocab_size", vocab_size, 1)
    if rows < corpus.vocab_size:
        raise CorpusError(
            f"vocab_size={rows} is too small: the corpus has {corpus.vocab_size} tokens, specials included; "
            f"use {corpus.vocab_size} or more"
        )
