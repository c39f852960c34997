"""Mysteries: a small machine with a hidden fault, or two, or none; examine it, commit to a name, be told."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.clinic.evidence_sheet import EvidenceSheet, evidence_sheet, next_batch
from cllm_lab.clinic.stream_check import StreamCheck, stream_check
from cllm_lab.corpus.batches import Batch
from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.corpus.source import TokenSource
from cllm_lab.faults.catalogue import catalogue, resolve
from cllm_lab.model.activations import Activations
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.parts import reference
from cllm_lab.model.transformer import Transformer
from cllm_lab.streams import stream
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.history import History, StepRecord
from cllm_lab.training.parts import sort_swaps
from cllm_lab.training.trainer import Trainer, TrainerState

HEALTHY = "healthy"
# Shares of mysteries with no, one and two faults.
SHARES = (0.2, 0.6, 0.2)
# Faults that no measurement tells apart, besides what a machine prints about itself.
EQUIVALENT = (("zero-init", "zero-init-lattice"),)

_OPEN = "open"
_STREAM = 0x6D797374
_STEPS = 5
_SHOWS = 1e-3
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|nan|-?inf")


class MysteryState:
    """A state of a mystery's machine: ``arrays`` by name and ``steps_done``, as of a trainer's state."""

    def __init__(self, state: TrainerState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"MysteryState({self.steps_done} steps done)"

    @property
    def arrays(self) -> Mapping[str, Array]:
        """The parameters and the optimizer's moments, flat."""
        return self._state.arrays

    @property
    def steps_done(self) -> int:
        """How many steps had been made."""
        return self._state.steps_done


class MysteryTrainer:
    """The machine of a mystery: a subject of the probes that trains as any trainer does, its parts out of sight.

    Every method is that of `Trainer`. It cannot be saved: a mystery is made again from its seed.
    """

    def __init__(self, machine: Trainer) -> None:
        self._machine = machine

    def __repr__(self) -> str:
        return f"MysteryTrainer({self._machine.steps_done} steps done)"

    @property
    def config(self) -> TrainConfig:
        """Its settings, as its maker believes them to be."""
        return self._machine.config

    @property
    def model_config(self) -> ModelConfig:
        """The machine's shape, as its maker believes it to be."""
        return self._machine.model.config

    @property
    def corpus(self) -> TokenSource:
        """What it trains on."""
        return self._machine.corpus

    @property
    def announcement(self) -> str:
        """What its initialisation says it did."""
        return self._machine.announcement

    @property
    def params(self) -> Parameters:
        """Live."""
        return self._machine.params

    @property
    def history(self) -> History:
        """Every step so far."""
        return self._machine.history

    @property
    def steps_done(self) -> int:
        """How many steps it has made."""
        return self._machine.steps_done

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over its corpus."""
        return self._machine.steps_per_epoch

    def forward(self, tokens: ArrayLike) -> Activations:
        """The activations of a batch, (B, T)."""
        return self._machine.forward(tokens)

    def loss(self, tokens: ArrayLike, targets: ArrayLike) -> float:
        """The loss it reports, in nats."""
        return self._machine.loss(tokens, targets)

    def gradients(self, tokens: ArrayLike, targets: ArrayLike) -> tuple[float, Parameters]:
        """The loss it reports and the gradient it follows."""
        return self._machine.gradients(tokens, targets)

    def step(self, tokens: ArrayLike, targets: ArrayLike) -> StepRecord:
        """One update on a batch."""
        return self._machine.step(tokens, targets)

    def steps(self) -> Iterator[StepRecord]:
        """Trains on its corpus, a record per step, endless."""
        return self._machine.steps()

    def run(
        self,
        epochs: int | None = None,
        steps: int | None = None,
        progress: bool | None = None,
        console: Callable[[str], object] | None = None,
    ) -> History:
        """Trains on its corpus for so many epochs or steps."""
        return self._machine.run(epochs, steps, progress, console)

    def state(self) -> MysteryState:
        """Everything that the next step depends on."""
        return MysteryState(self._machine.state())

    def load_state(self, state: MysteryState) -> None:
        """Puts it back to a state of its own. Raises TypeError for a state of another trainer."""
        if not isinstance(state, MysteryState):
            raise TypeError(f"state must come from this machine's state(); got {type(state).__name__}")
        self._machine.load_state(state._state)

    def generate(
        self,
        prompt: str,
        n_tokens: int = 20,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> str:
        """The prompt and its continuation."""
        return self._machine.generate(prompt, n_tokens, temperature, top_k, seed)

    def evidence_sheet(self) -> EvidenceSheet:
        """`cllm_lab.evidence_sheet` of it."""
        return evidence_sheet(self._machine)


@dataclass(frozen=True, repr=False)
class Verdict:
    """What came of a commitment. ``score``: "right"; "equivalent", as many faults that measure the same; "partly",
    where one name is right and another wrong or missing; "wrong"; "open" where nothing was committed, and nothing
    is told. ``committed`` and ``truth``: fault ids, none for a healthy machine.
    """

    score: str
    committed: tuple[str, ...]
    truth: tuple[str, ...]

    def __repr__(self) -> str:
        if self.score == _OPEN:
            return 'No answer yet. To give one, name one fault id, or two, or "healthy".'
        lines = [
            f"{self.score.capitalize()}. You said: {_named(self.committed)}. It was: {_named(self.truth)}."
        ]
        for name in self.truth:
            fault = catalogue()[name]
            lines += [f"  {name}: {fault.title}", f"    {fault.signature}"]
        return "\n".join(lines)


class Mystery:
    """A machine to examine. ``trainer``: a subject of every probe; ``corpus``: what it trains on; ``seed``.

    `commit` names the fault, once.
    """

    def __init__(self, seed: int, truth: Sequence[str]) -> None:
        self.seed = seed
        self._truth = tuple(truth)
        self._machine = _machine(self._truth, seed)
        self._verdict: Verdict | None = None
        self.trainer = MysteryTrainer(self._machine)

    def __repr__(self) -> str:
        return f"Mystery(seed={self.seed}, {_OPEN if self._verdict is None else self._verdict.score})"

    @property
    def corpus(self) -> TokenSource:
        """The text that it trains on, as it was before it came to the machine."""
        return self._machine.corpus

    def batch(self) -> Batch:
        """Inputs and targets (B, T) of the machine's next step, as the machine would get them."""
        return next_batch(self._machine)

    def stream_check(self) -> StreamCheck:
        """What the machine is fed, beside the text: `cllm_lab.stream_check` of it."""
        return stream_check(self._machine)

    def commit(self, *names: str) -> Verdict:
        """Names the fault or faults by their ids, or "healthy"; the verdict reveals what it was.

        Without a name the verdict is "open": nothing is committed and nothing revealed.
        Raises ValueError for an id that the catalogue does not hold (naming the nearest), for "healthy" beside an id,
        for the same id twice or two faults in one slot; RuntimeError for a second commitment.
        """
        if not names:
            return Verdict(_OPEN, (), ())
        if self._verdict is not None:
            raise RuntimeError(f"mystery {self.seed} is solved: {self._verdict.score}; try another seed")
        self._verdict = _judge(_require_names(names), self._truth)
        return self._verdict


def mystery(seed: int) -> Mystery:
    """The mystery of a seed: a machine of d_model 32 on the shipped text; healthy, or with one fault or two
    in different slots, in the shares 20, 60 and 20 %. Equal seeds give equal mysteries while the catalogue is the same;
    a fault that is added to it changes the mysteries that it comes into and no others.

    A fault takes part where it shows on this machine: in its first steps the losses, gradient norms, sizes of
    updates, logits, batches or console lines differ from the healthy machine's by more than 1 in 1000, or it ends
    in an error.
    A second fault is one with which the machine differs so from the machines with either alone.

    Raises TypeError or ValueError for a seed that is no whole number of at least 0 and below 2**128.
    """
    draw = stream(seed, "check", _STREAM)
    wanted = int(draw.choice(len(SHARES), p=SHARES))
    # A draw of its own for each fault: the order of the others does not depend on which faults there are.
    order = sorted(
        catalogue(), key=lambda name: stream(seed, "check", _STREAM, zlib.crc32(name.encode())).random()
    )
    first = [name for name in islice(filter(takes_part, order), 1)] if wanted else []
    partners = (name for name in order if wanted == 2 and first and _pair_shows(first[0], name))
    return Mystery(seed, sorted([*first, *islice(partners, 1)]))


def takes_part(name: str) -> bool:
    """Whether a fault of the catalogue, by its id, shows on the machine of the mysteries."""
    resolve((name,))
    return _differs((name,), ())


def _pair_shows(first: str, second: str) -> bool:
    faults = catalogue()
    if set(faults[first].swaps) & set(faults[second].swaps) or not takes_part(second):
        return False
    pair = tuple(sorted((first, second)))
    return _differs(pair, (first,)) and _differs(pair, (second,))


@dataclass(frozen=True)
class _Behaviour:
    """What can be seen of a machine in its first steps; ``error`` where it ends in one."""

    numbers: np.ndarray
    logits: np.ndarray
    tokens: np.ndarray
    words: tuple[str, ...]
    error: str


def _machine(names: Sequence[str], seed: int) -> Trainer:
    corpus = load_corpus("large")
    config = ModelConfig(vocab_size=corpus.vocab_size, d_model=32, n_heads=4, n_layers=2)
    model = Transformer(config, seed, parts=reference)
    return Trainer(model, corpus, TrainConfig(seed=seed), resolve(names))


@cache
def _behaviour(names: tuple[str, ...]) -> _Behaviour | None:
    """None where the machine cannot be made with these faults, or not be fed."""
    lines: list[str] = []
    try:
        machine = _machine(names, seed=0)
        batch = next_batch(machine)
        probe = machine.forward(batch.inputs).logits
    except ValueError:
        return None
    error = ""
    try:
        machine.run(steps=_STEPS, progress=False, console=lines.append)
    except ArithmeticError as wrong:
        error = type(wrong).__name__
    numbers = [
        value
        for r in machine.history
        for value in (r.loss, r.grad_norm, r.update_ratio, r.learning_rate, r.tokens)
    ]
    text = "\n".join(lines)
    numbers += [float(number) for number in _NUMBER.findall(text)]
    return _Behaviour(
        np.array(numbers),
        probe,
        np.concatenate([batch.inputs.ravel(), batch.targets.ravel()]),
        tuple(_NUMBER.split(text)),
        error,
    )


def _differs(names: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether two machines can be told apart by their first steps; never where one of them cannot be made."""
    a, b = _behaviour(names), _behaviour(others)
    if a is None or b is None:
        return False
    if (a.error, a.words) != (b.error, b.words) or a.numbers.shape != b.numbers.shape:
        return True
    if not np.array_equal(a.tokens, b.tokens):
        return True
    if not np.allclose(a.numbers, b.numbers, rtol=_SHOWS, atol=0.0, equal_nan=True):
        return True
    # Single logits lie next to 0, so that they are judged by the largest.
    largest = float(np.abs(b.logits).max())
    return not np.allclose(a.logits, b.logits, rtol=0.0, atol=_SHOWS * largest, equal_nan=True)


def _require_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f'commit takes fault ids or "healthy"; got {names!r}')
    if HEALTHY in names:
        if len(names) > 1:
            raise ValueError(f'"healthy" stands alone; got {names!r}')
        return ()
    if len(set(names)) < len(names):
        raise ValueError(f"commit takes each id once; got {names!r}")
    sort_swaps(resolve(names))
    return tuple(sorted(names))


def _judge(committed: tuple[str, ...], truth: tuple[str, ...]) -> Verdict:
    said, was = set(map(_representative, committed)), set(map(_representative, truth))
    if committed == truth:
        result = "right"
    elif len(committed) == len(truth) and (said == was or _same(committed, truth)):
        result = "equivalent"
    else:
        result = "partly" if said & was else "wrong"
    return Verdict(result, committed, truth)


def _same(names: tuple[str, ...], others: tuple[str, ...]) -> bool:
    made = _behaviour(names) is not None and _behaviour(others) is not None
    return made and not _differs(names, others)


def _representative(name: str) -> str:
    """The first of the class that a fault is in, itself where it is alone."""
    return next((group[0] for group in EQUIVALENT if name in group), name)


def _named(names: tuple[str, ...]) -> str:
    return " and ".join(names) or HEALTHY
