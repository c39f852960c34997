"""Synthetic languages whose entropies are known exactly, with the interface of a corpus."""

import math
import string
from abc import abstractmethod
from bisect import bisect_right
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cllm_lab.corpus.arguments import TokenArray, real_number, whole_number
from cllm_lab.corpus.source import TokenSource, validation_length
from cllm_lab.corpus.tokenizer import SymbolTokenizer
from cllm_lab.streams import check_seed, stream

FloatArray = NDArray[np.float64]

# First index of stream(seed, "language", ...): what the draws are for.
_STRUCTURE, _TRAINING, _VALIDATION = range(3)

# Below the lower bound NumPy's Dirichlet draws round rare symbols to exactly 0, and the chain can fall apart
# into pieces without a common stationary distribution. Above the upper one every row is uniform.
_CONCENTRATIONS = (0.1, 1e6)


@dataclass(frozen=True)
class SyntheticLanguage(TokenSource):
    """A language of `n_symbols` symbols, written a, b, ..., z, aa, ab, ...; it has no special tokens."""

    kind: ClassVar[str]
    n_symbols: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_symbols", whole_number("n_symbols", self.n_symbols, 2))
        object.__setattr__(self, "n_tokens", whole_number("n_tokens", self.n_tokens, 2))
        tokenizer = SymbolTokenizer(" ".join(map(_symbol, range(self.n_symbols))))
        tokens = self._first_stream()
        object.__setattr__(self, "tokenizer", tokenizer)
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "text", tokenizer.decode(tokens))

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        """Names of the constructor's arguments, which define the language."""
        return tuple(parameter.name for parameter in fields(cls))

    @property
    @abstractmethod
    def entropy_rate(self) -> float:
        """Mean loss a token, in nats, of a perfect predictor who knows the language and the whole past."""

    @abstractmethod
    def _first_stream(self) -> TokenArray:
        """The tokens, int32 (n_tokens,), read-only."""

    def description(self) -> dict[str, Any]:
        """kind, the constructor's arguments by name, and the sha256 of the text."""
        parameters = {name: getattr(self, name) for name in self.parameter_names()}
        return {"kind": self.kind, **parameters, "sha256": self.sha256}


class EndlessLanguage(SyntheticLanguage):
    """A language that is drawn anew for each epoch, so that nothing can be learned by heart."""

    endless: ClassVar[bool] = True
    seed: int  # a field of each language, in the place that its constructor gives it

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))
        super().__post_init__()

    def training_tokens(self, validation_fraction: float = 0.0, epoch: int = 0) -> TokenArray:
        """A fresh stream of `n_tokens` tokens for each epoch, int32, read-only; `tokens` for epoch 0.

        The fraction is checked, and takes nothing away: validation has a stream of its own. Raises
        CorpusError for a fraction that `validation_tokens` refuses, save 0, and TypeError or ValueError
        for an epoch that is no non-negative integer.
        """
        self._held_out(validation_fraction)
        epoch = whole_number("epoch", epoch, 0)
        return self.tokens if epoch == 0 else self._sample(self.n_tokens, _TRAINING, epoch)

    def validation_tokens(self, validation_fraction: float) -> TokenArray:
        """round(validation_fraction * n_tokens) tokens of a stream that no epoch draws from.

        int32, read-only. Raises CorpusError when the fraction is outside [0, 1), is 0, or gives fewer
        than 2 tokens.
        """
        return self._sample(self._require_held_out(validation_fraction), _VALIDATION)

    def _first_stream(self) -> TokenArray:
        return self._sample(self.n_tokens, _TRAINING, 0)

    def _held_out(self, validation_fraction: float) -> int:
        return validation_length(self.n_tokens, validation_fraction)

    @abstractmethod
    def _draw(self, generator: np.random.Generator, n_tokens: int) -> TokenArray: ...

    def _sample(self, n_tokens: int, *indices: int) -> TokenArray:
        tokens = self._draw(stream(self.seed, "language", *indices), n_tokens)
        tokens.flags.writeable = False
        return tokens


@dataclass(frozen=True)
class MarkovLanguage(EndlessLanguage):
    """A stationary first-order Markov chain with random transition probabilities.

    Row i of the transition matrix P is drawn from a symmetric Dirichlet distribution: a small
    `concentration` makes the next symbol nearly certain, a large one nearly uniform. The first symbol is
    drawn from the stationary distribution pi = pi P, so each symbol is distributed as pi and each pair as
    pi_i P_ij. In nats:

        unigram    = H(pi)            = -sum_i pi_i ln pi_i
        bigram     = the entropy rate = -sum_ij pi_i P_ij ln P_ij
        positional = bigram: given a symbol the next one depends on nothing else, and the chain is
                     stationary, so that the position in a window tells nothing

    (Cover and Thomas, Elements of Information Theory, theorem 4.2.4). A sample's own entropies come near
    these as it grows, slowly for a small concentration: the chain then stays among few symbols for long.

    n_symbols: at least 2. seed: non-negative. concentration: from 0.1 to 1e6. n_tokens: per epoch, at
    least 2. Raises TypeError or ValueError for anything else.
    """

    kind: ClassVar[str] = "markov"
    n_symbols: int = 8
    seed: int = 0
    concentration: float = 0.3
    n_tokens: int = 4096

    def __post_init__(self) -> None:
        concentration = real_number("concentration", self.concentration)
        low, high = _CONCENTRATIONS
        if not low <= concentration <= high:
            raise ValueError(f"concentration must lie between {low} and {high:g}, got {concentration}")
        object.__setattr__(self, "concentration", concentration)
        super().__post_init__()

    @cached_property
    def transitions(self) -> FloatArray:
        """P, float64 (n_symbols, n_symbols), read-only: row i holds the probabilities of what follows i."""
        weights = np.full(self.n_symbols, self.concentration)
        matrix = stream(self.seed, "language", _STRUCTURE).dirichlet(weights, size=self.n_symbols)
        matrix.flags.writeable = False
        return matrix

    @cached_property
    def stationary(self) -> FloatArray:
        """pi with pi P = pi, float64 (n_symbols,), read-only."""
        distribution = _stationary_distribution(self.transitions)
        distribution.flags.writeable = False
        return distribution

    @property
    def entropy_rate(self) -> float:
        """-sum_ij pi_i P_ij ln P_ij, in nats: the bigram plateau."""
        return float(self.stationary @ _entropies(self.transitions))

    def _unigram_entropy(self) -> float:
        return float(_entropies(self.stationary))

    def _bigram_entropy(self) -> float:
        return self.entropy_rate

    def _positional_entropy(self, sequence_length: int) -> float:
        return self.entropy_rate

    def _draw(self, generator: np.random.Generator, n_tokens: int) -> TokenArray:
        draws = generator.random(n_tokens).tolist()
        rows = _cumulative(self.transitions).tolist()
        symbol = bisect_right(_cumulative(self.stationary).tolist(), draws[0])
        symbols = [symbol]
        for draw in draws[1:]:
            symbol = bisect_right(rows[symbol], draw)
            symbols.append(symbol)
        return np.array(symbols, dtype=np.int32)


@dataclass(frozen=True)
class InductionLanguage(EndlessLanguage):
    """Blocks of random symbols, each followed by its own copy: x x y y z z ...

    Each block x is a string of B = `block_length` independent, uniform symbols, so the stream has a period
    of 2B. Only attention that finds the earlier copy lowers the loss: a symbol and its position tell
    nothing about the next symbol.

    unigram = bigram = positional = ln n_symbols exactly, for windows of any length. Proof: take any place
    t of the stream and the pair (s_t, s_t+1). Both symbols are entries of blocks. Inside a block or a copy
    they are two neighbouring entries of one block; at the seam between a block and its copy they are its
    last and its first entry, which differ because B >= 2; at the seam after a copy they belong to two
    blocks. In each case they are two different draws, hence independent and uniform, and so s_t+1 is
    uniform given s_t and t. A position in a window is a function of t, so knowing it as well changes
    nothing. (With B = 1 a copy would repeat the symbol before it, and the bigram entropy would be lower.)

    n_symbols, block_length, n_tokens (per epoch): at least 2; the default n_tokens gives 4096 pairs.
    seed: non-negative. Raises TypeError or ValueError for anything else.
    """

    kind: ClassVar[str] = "induction"
    n_symbols: int = 16
    block_length: int = 8
    seed: int = 0
    n_tokens: int = 4097

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_length", whole_number("block_length", self.block_length, 2))
        super().__post_init__()

    @property
    def entropy_rate(self) -> float:
        """ln(n_symbols) / 2, in nats, for one who knows the phase: of 2B symbols B are certain copies."""
        return math.log(self.n_symbols) / 2

    def floor(self, sequence_length: int) -> float:
        """Exact mean loss, in nats a target, of a perfect predictor that sees one window at a time.

        Windows of T = `sequence_length` = 2B m pairs follow one another from the start of the stream, so
        each begins with a block: its inputs are s_0 ... s_T-1 (m blocks, each with its copy) and its targets
        s_1 ... s_T. Position tells the phase. The target at offset t is one of

            a copy, t mod 2B >= B: its original at offset t - B >= 0 lies in the same window and before the
            target, so it is known surely. There are B of them for each of the m periods: m B
            the first symbol of a later block, or another symbol of a block: independent of all that went
            before, so ln n_symbols is the least mean loss. Offsets 1 ... T hold m B: the m B symbols of the
            window's blocks, without s_0, which is never a target here, and with s_T, the first symbol of
            the next window

        so the floor is m B ln n_symbols / T = ln(n_symbols) / 2: no window loses a copy. It holds for full
        windows; a stream of k T + 1 tokens has no other.

        Raises ValueError unless `sequence_length` is a positive multiple of 2 * block_length, since other
        windows begin inside a block and cut copies from their originals.
        """
        length = whole_number("sequence_length", sequence_length, 1)
        period = 2 * self.block_length
        if length % period:
            below = length - length % period
            nearest = f"{below} or {below + period}" if below else f"{period}"
            raise ValueError(
                f"sequence_length must be a multiple of 2 * block_length = {period}, got {length}; "
                f"use {nearest}"
            )
        offsets = np.arange(1, length + 1)
        n_fresh = np.count_nonzero(offsets % period < self.block_length)
        return float(n_fresh / length * math.log(self.n_symbols))

    def _unigram_entropy(self) -> float:
        return math.log(self.n_symbols)

    def _bigram_entropy(self) -> float:
        return math.log(self.n_symbols)

    def _positional_entropy(self, sequence_length: int) -> float:
        return math.log(self.n_symbols)

    def _draw(self, generator: np.random.Generator, n_tokens: int) -> TokenArray:
        n_blocks = math.ceil(n_tokens / (2 * self.block_length))
        blocks = generator.integers(self.n_symbols, size=(n_blocks, self.block_length), dtype=np.int32)
        return np.concatenate((blocks, blocks), axis=1).ravel()[:n_tokens]


@dataclass(frozen=True)
class ConstantLanguage(SyntheticLanguage):
    """One symbol for ever, of a vocabulary of `n_symbols`: every entropy is 0, while uniform is ln n_symbols.

    n_symbols and n_tokens: at least 2. Raises TypeError or ValueError for anything else.
    """

    kind: ClassVar[str] = "constant"
    n_symbols: int = 2
    n_tokens: int = 4096

    @property
    def entropy_rate(self) -> float:
        """0: nothing is uncertain."""
        return 0.0

    def _first_stream(self) -> TokenArray:
        tokens = np.zeros(self.n_tokens, dtype=np.int32)
        tokens.flags.writeable = False
        return tokens

    def _unigram_entropy(self) -> float:
        return 0.0

    def _bigram_entropy(self) -> float:
        return 0.0

    def _positional_entropy(self, sequence_length: int) -> float:
        return 0.0


LANGUAGES: dict[str, type[SyntheticLanguage]] = {
    language.kind: language for language in (MarkovLanguage, InductionLanguage, ConstantLanguage)
}


def _symbol(index: int) -> str:
    """a, b, ..., z, aa, ab, ...: numbers in base 26 without a zero."""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, len(string.ascii_lowercase))
        letters = string.ascii_lowercase[letter] + letters
    return letters


def _cumulative(probabilities: FloatArray) -> FloatArray:
    """Running sums along the last axis that end at exactly 1, whatever rounding left."""
    sums = np.cumsum(probabilities, axis=-1)
    sums[..., -1] = 1.0
    return sums


def _entropies(probabilities: FloatArray) -> FloatArray:
    """-sum_x p(x) ln p(x) along the last axis, in nats, with 0 ln 0 = 0."""
    logarithms = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    entropies: FloatArray = -np.sum(probabilities * logarithms, axis=-1)
    return entropies


def _stationary_distribution(transitions: FloatArray) -> FloatArray:
    """pi with pi P = pi, for an irreducible P of shape (n, n); it sums to 1.

    States are eliminated from the last to the first without any subtraction, so that every entry has full
    relative accuracy even where the chain nearly falls apart (Grassmann, Taksar and Heyman, Regenerative
    analysis and steady state distributions for Markov chains, Operations Research 33, 1985).
    """
    reduced = transitions.copy()
    n_states = len(reduced)
    for state in range(n_states - 1, 0, -1):
        reduced[:state, state] /= reduced[state, :state].sum()
        reduced[:state, :state] += np.outer(reduced[:state, state], reduced[state, :state])
    weights = np.ones(n_states)
    for state in range(1, n_states):
        weights[state] = weights[:state] @ reduced[:state, state]
    weights /= weights.sum()
    return weights
