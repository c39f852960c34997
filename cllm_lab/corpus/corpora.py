"""Texts as corpora: shipped ones by name, files by path, and strings."""

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cllm_lab.corpus.arguments import TokenArray
from cllm_lab.corpus.entropies import bigram_entropy, positional_entropy, unigram_entropy
from cllm_lab.corpus.languages import LANGUAGES
from cllm_lab.corpus.source import CorpusError, TokenSource
from cllm_lab.corpus.tokenizer import CharTokenizer, Tokenizer, WordTokenizer
from cllm_lab.resources import data_path


def _large_text() -> str:
    """The text written for this project, 1,241 words."""
    return _read_text(data_path("large_corpus.txt"))


def _pydoc_text() -> str:
    """The topics of Python's own help(), some 480 kB of English. It differs between versions of Python."""
    from pydoc_data.topics import topics

    return "\n".join(topics.values())


_SHIPPED_TEXTS: dict[str, Callable[[], str]] = {"large": _large_text, "pydoc": _pydoc_text}
SHIPPED_CORPORA = tuple(_SHIPPED_TEXTS)

_TOKENIZERS: dict[str, type[Tokenizer]] = {
    tokenizer.name: tokenizer for tokenizer in (WordTokenizer, CharTokenizer)
}

_FEWEST_TOKENS = 2


class CorpusNotFoundError(CorpusError, FileNotFoundError):
    """Neither a shipped corpus nor a file has this name."""


@dataclass(frozen=True, eq=False)
class Corpus(TokenSource):
    """A text and its tokens. Made by `load_corpus` or `Corpus.from_text`.

    Raises CorpusError when the text holds fewer than 2 tokens or cannot be written as UTF-8.
    """

    text: str
    tokenizer: Tokenizer
    name: str | None = None
    path: Path | None = None
    tokens: TokenArray = field(init=False)
    _positional: dict[int, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self.text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise CorpusError(f"{self._origin} cannot be written as UTF-8: {error}") from error
        tokens = self.tokenizer.encode(self.text)
        if len(tokens) < _FEWEST_TOKENS:
            raise CorpusError(
                f"{self._origin} is too short: {len(tokens)} {self.tokenizer.name} token(s), and a model "
                f"needs at least {_FEWEST_TOKENS}, one to read and one to predict"
            )
        tokens.flags.writeable = False
        object.__setattr__(self, "tokens", tokens)

    def __repr__(self) -> str:
        return (
            f"Corpus({self._origin}, tokenizer={self.tokenizer_name!r}, n_tokens={self.n_tokens}, "
            f"vocab_size={self.vocab_size})"
        )

    @classmethod
    def from_text(cls, text: str, tokenizer: str = "word") -> "Corpus":
        """A corpus from a string. tokenizer: "word" or "char".

        Raises TypeError when `text` is not a string, and CorpusError for an unknown tokenizer, an empty
        text or one with fewer than 2 tokens. A checkpoint cannot rebuild such a corpus.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}")
        if not text:
            raise CorpusError("the text is empty")
        return cls(text, _tokenizer_class(tokenizer)(text))

    def description(self) -> dict[str, Any]:
        """kind ("shipped", "file" or "memory"), name or path, tokenizer and sha256."""
        origin: dict[str, Any]
        if self.name is not None:
            origin = {"kind": "shipped", "name": self.name}
        elif self.path is not None:
            origin = {"kind": "file", "path": str(self.path)}
        else:
            origin = {"kind": "memory"}
        return {**origin, "tokenizer": self.tokenizer_name, "sha256": self.sha256}

    @property
    def _origin(self) -> str:
        if self.name is not None:
            return f"the shipped corpus {self.name!r}"
        return "the text" if self.path is None else f"the file {str(self.path)!r}"

    @cached_property
    def _target_entropy(self) -> float:
        return unigram_entropy(self.tokens[1:])

    @cached_property
    def _pair_entropy(self) -> float:
        return bigram_entropy(self.tokens)

    def _unigram_entropy(self) -> float:
        return self._target_entropy

    def _bigram_entropy(self) -> float:
        return self._pair_entropy

    def _positional_entropy(self, sequence_length: int) -> float:
        if sequence_length not in self._positional:
            self._positional[sequence_length] = positional_entropy(self.tokens, sequence_length)
        return self._positional[sequence_length]


def load_corpus(name_or_path: str | os.PathLike[str], tokenizer: str = "word") -> Corpus:
    """A shipped corpus by name, or any UTF-8 text file by path.

    "large" was written for this project; "pydoc" is the text of Python's help topics, which every Python has.
    name_or_path: a name in `SHIPPED_CORPORA`, which goes before a file of that name ("./large" or a Path
    names the file), or a path. tokenizer: "word" (lower-cased, cut at whitespace) or "char".
    As Python's text files do, a file's line ends become "\\n"; a byte order mark is left out.

    Raises CorpusNotFoundError (also a FileNotFoundError) for a missing file, and CorpusError for a
    directory, an empty or binary file, one that is not UTF-8, one with fewer than 2 tokens, and an
    unknown tokenizer.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise TypeError(f"name_or_path must be a str or a path, got {type(name_or_path).__name__}")
    make_tokenizer = _tokenizer_class(tokenizer)
    if isinstance(name_or_path, str) and name_or_path in _SHIPPED_TEXTS:
        text = _SHIPPED_TEXTS[name_or_path]()
        return Corpus(text, make_tokenizer(text), name=name_or_path)
    path = Path(os.fsdecode(name_or_path)).absolute()
    if not path.exists():
        raise _not_found(os.fsdecode(name_or_path), path)
    text = _read_text(path)
    return Corpus(text, make_tokenizer(text), path=path)


def corpus_from_description(description: Mapping[str, Any]) -> TokenSource:
    """The corpus that `description()` described: by name, by path or by a language's parameters.

    Raises CorpusError when the description is incomplete, of an unknown kind, of a text that was in
    memory only, or when the corpus found has another sha256; and what loading it raises.
    """
    kind = _entry(description, "kind")
    if kind == "memory":
        raise CorpusError(
            "this corpus was made from a text in memory, which a description does not hold; "
            "pass the corpus itself"
        )
    corpus: TokenSource
    if kind == "shipped":
        name = _entry(description, "name")
        if name not in _SHIPPED_TEXTS:
            raise CorpusError(
                f"no shipped corpus is called {name!r}; there are: {', '.join(SHIPPED_CORPORA)}"
            )
        corpus = load_corpus(name, _entry(description, "tokenizer"))
    elif kind == "file":
        corpus = load_corpus(Path(_entry(description, "path")), _entry(description, "tokenizer"))
    elif kind in LANGUAGES:
        language = LANGUAGES[kind]
        corpus = language(**{name: _entry(description, name) for name in language.parameter_names()})
    else:
        kinds = ", ".join(("shipped", "file", *LANGUAGES))
        raise CorpusError(f"a corpus of kind {kind!r} cannot be rebuilt; the kinds are: {kinds}")
    expected = _entry(description, "sha256")
    if corpus.sha256 != expected:
        raise CorpusError(
            f"{corpus!r} is not the corpus described: its sha256 is {corpus.sha256}, expected {expected}; "
            "restore the original, or pass the corpus to use"
        )
    return corpus


def _entry(description: Mapping[str, Any], key: str) -> Any:
    if key not in description:
        raise CorpusError(f"the description of a corpus lacks {key!r}; it holds: {', '.join(description)}")
    return description[key]


def _tokenizer_class(name: str) -> type[Tokenizer]:
    if name not in _TOKENIZERS:
        raise CorpusError(f"tokenizer must be one of {', '.join(map(repr, _TOKENIZERS))}; got {name!r}")
    return _TOKENIZERS[name]


def _not_found(given: str, path: Path) -> CorpusNotFoundError:
    near = difflib.get_close_matches(given, SHIPPED_CORPORA, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return CorpusNotFoundError(
        f"no corpus {given!r}: there is no file {str(path)!r}, and the shipped corpora are: "
        f"{', '.join(SHIPPED_CORPORA)}{guess}"
    )


def _read_text(path: Path) -> str:
    shown = repr(str(path))
    if path.is_dir():
        raise CorpusError(f"{shown} is a directory; give the path of a text file")
    if not path.is_file():
        raise CorpusError(f"{shown} is not a regular file; give the path of a text file")
    content = path.read_bytes()
    if b"\0" in content:
        raise CorpusError(
            f"{shown} holds NUL bytes: it is binary, or UTF-16; give a text file saved as UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{shown} is not UTF-8: byte {content[error.start]:#04x} on line {line} ({error.reason}); "
            "save it as UTF-8, for example with iconv"
        ) from error
    if not text:
        raise CorpusError(f"{shown} is empty; give a file with at least {_FEWEST_TOKENS} tokens")
    return text.replace("\r\n", "\n").replace("\r", "\n")
