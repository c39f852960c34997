"""From text to token ids and back."""

import difflib
import reprlib
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.corpus.arguments import TokenArray, token_array

# Upper case keeps them apart from every word (words are lower-cased), their length from every character.
SPECIAL_TOKENS = ("PAD", "UNK", "BOS", "EOS", "MASK")

_NAMED_UNKNOWNS = 5


class UnknownTokenError(ValueError):
    """A text holds tokens that the vocabulary does not."""


class Tokenizer(ABC):
    """A vocabulary and the way a text is cut into its pieces.

    The vocabulary is the specials, as ids 0, 1, ..., then the pieces of `text` in order of first
    appearance. No text encodes to a special id, save UNK on request.
    """

    name: ClassVar[str]
    specials: ClassVar[tuple[str, ...]] = SPECIAL_TOKENS
    separator: ClassVar[str]

    def __init__(self, text: str) -> None:
        self._vocabulary = (*self.specials, *dict.fromkeys(self.split(text)))
        first_piece = len(self.specials)
        self._ids = {piece: i for i, piece in enumerate(self._vocabulary[first_piece:], start=first_piece)}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every token as text; the place of a token is its id."""
        return self._vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary, specials included."""
        return len(self._vocabulary)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that stand for no piece of text."""
        return tuple(range(len(self.specials)))

    def split(self, text: str) -> list[str]:
        """The pieces of `text`, known or not. Raises TypeError when `text` is not a string."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}")
        return self._pieces(text)

    def encode(self, text: str, unknown: str = "error") -> TokenArray:
        """The ids of the pieces of `text`, int32 of shape (n_pieces,).

        unknown: what to do with a piece outside the vocabulary: "error", or "unk" for the id of UNK.
        Raises UnknownTokenError naming up to five such pieces and what is near them, TypeError when
        `text` is not a string, and ValueError for another value of `unknown`, or for "unk" where the
        vocabulary has no UNK.
        """
        if unknown not in ("error", "unk"):
            raise ValueError(f'unknown must be "error" or "unk", got {unknown!r}')
        if unknown == "unk" and "UNK" not in self.specials:
            raise ValueError('unknown="unk" needs a vocabulary with UNK; this one has no special tokens')
        pieces = self.split(text)
        strangers = list(dict.fromkeys(piece for piece in pieces if piece not in self._ids))
        if strangers and unknown == "error":
            raise UnknownTokenError(self._unknown_message(strangers))
        known = self._ids
        if strangers:
            known = known | dict.fromkeys(strangers, self.specials.index("UNK"))
        return np.fromiter(map(known.__getitem__, pieces), dtype=np.int32, count=len(pieces))

    def decode(self, ids: ArrayLike) -> str:
        """The text of token ids of shape (n,). A special id gives its name, such as PAD.

        Raises TypeError unless the ids are integers, ValueError for another shape or for an id
        outside the vocabulary.
        """
        array = token_array("ids", ids)
        outside = array[(array < 0) | (array >= self.vocab_size)]
        if len(outside):
            raise ValueError(
                f"ids must lie in [0, {self.vocab_size}), the vocabulary's range; got {outside[0]}"
            )
        return self.separator.join(self._vocabulary[i] for i in array.tolist())

    @abstractmethod
    def _pieces(self, text: str) -> list[str]: ...

    @abstractmethod
    def _near(self, piece: str) -> list[str]:
        """Known pieces that somebody who wrote `piece` may have meant."""

    def _unknown_message(self, strangers: list[str]) -> str:
        described = []
        for piece in strangers[:_NAMED_UNKNOWNS]:
            near = ", ".join(map(reprlib.repr, self._near(piece)))
            described.append(
                f"{reprlib.repr(piece)} ({f'nearest known: {near}' if near else 'nothing near it'})"
            )
        more = len(strangers) - len(described)
        listed = ", ".join(described) + (f" and {more} more" if more else "")
        remedy = ' or pass unknown="unk"' if "UNK" in self.specials else ""
        return f"text holds tokens outside the vocabulary: {listed}; use known tokens{remedy}"


class WordTokenizer(Tokenizer):
    """Lower-cased words, cut at whitespace. Punctuation stays with its word."""

    name = "word"
    separator = " "

    def _pieces(self, text: str) -> list[str]:
        return text.lower().split()

    def _near(self, piece: str) -> list[str]:
        return difflib.get_close_matches(piece, self._ids)


class CharTokenizer(Tokenizer):
    """Single characters (Unicode code points) with their case, whitespace and line ends included."""

    name = "char"
    separator = ""

    def _pieces(self, text: str) -> list[str]:
        return list(text)

    def _near(self, piece: str) -> list[str]:
        return difflib.get_close_matches(piece.swapcase(), self._ids)


class SymbolTokenizer(WordTokenizer):
    """Words without special tokens: the vocabulary of a synthetic language."""

    name = "symbol"
    specials = ()
