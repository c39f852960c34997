"""The trainer: a machine, its corpus and its settings; one clipped, scheduled optimizer step, and runs of many."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from tqdm import tqdm

from cllm_lab.corpus.batches import Batch, epoch_batches
from cllm_lab.corpus.source import TokenSource, require_vocabulary
from cllm_lab.model.config import ConfigError, require_count
from cllm_lab.model.parameters import GROUPS, Array, Parameters
from cllm_lab.model.transformer import Pass, Transformer
from cllm_lab.training import changes, diagnostics, phases
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.diagnostics import NonFiniteError, TensorRow
from cllm_lab.training.generation import generate
from cllm_lab.training.history import History, Records, StepLog, StepRecord
from cllm_lab.training.machine import TrainedMachine
from cllm_lab.training.parts import Fault, healthy_parts, sort_swaps, swap_training_parts
from cllm_lab.training.penalties import require_pairs_to_turn
from cllm_lab.training.phases import Phase

DIAGNOSTIC_EVERY = 5


@dataclass(frozen=True)
class TrainerState:
    """What a trainer's next step depends on: its arrays by name, its place in the data, its settings.

    ``moments_since``: how many steps were done when the optimizer's moments began at 0.
    """

    arrays: Mapping[str, Array]
    config: TrainConfig
    steps_done: int
    epochs_done: int
    total_steps: int | None
    moments_since: int
    batches_taken: int
    epoch_step_losses: tuple[float, ...]
    epoch_loss: tuple[float, ...]
    changes: Mapping[int, Mapping[str, Any]]
    faults: tuple[Fault, ...]
    records: Records


class Trainer(TrainedMachine):
    """Trains a copy of a model on a corpus.

    ``model`` stays as it was; ``trainer.model`` is the machine that learns, faults applied. ``faults`` are fault
    objects, each the swap of a slot or more; two in one slot are refused by name. ``log`` is a file that gets a
    line of JSON per step (`cllm_lab.read_log`). ``trainer.announcement`` is what an initialisation says it did.

    The loss that is followed and reported is cross-entropy and the penalties that have a weight. A fault of the
    gradient rule or of the reported loss gets it whole, penalties and all; one of the model's loss replaces the
    cross-entropy alone.

    A trainer is a subject of the probes: it has ``params``, ``loss``, ``gradients``, ``forward``, ``step``,
    ``state`` and ``load_state``.
    Raises ConfigError or CorpusError for settings, model and corpus that do not fit together.
    """

    def __init__(
        self,
        model: Transformer,
        corpus: TokenSource,
        config: TrainConfig | None = None,
        faults: Sequence[Fault] = (),
        log: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(model, Transformer):
            raise TypeError(f"model must be a Transformer; got {type(model).__name__}")
        if not isinstance(corpus, TokenSource):
            raise TypeError(
                f"corpus must come from load_corpus or be a language; got {type(corpus).__name__}"
            )
        config = TrainConfig() if config is None else config
        if not isinstance(config, TrainConfig):
            raise TypeError(f"config must be a TrainConfig; got {type(config).__name__}")
        require_vocabulary(corpus, model.config.vocab_size)
        if config.sequence_length > model.config.context_length:
            raise ConfigError(
                f"sequence_length={config.sequence_length} is above the model's "
                f"context_length={model.config.context_length}"
            )
        # Refuses a fraction that leaves this corpus too little on either side.
        corpus.training_tokens(config.validation_fraction)
        super().__init__(model, config, faults)
        self.corpus = corpus
        self.epochs_done = 0
        self.total_steps = self.config.total_steps
        self._batches: list[Batch] | None = None
        self._batches_taken = 0
        self._epoch_step_losses: list[float] = []
        self._records = Records()
        self._epoch_loss: list[float] = []
        self._changes: changes.Changes = {}
        self._stop = threading.Event()
        self._step_grads = self._sink.grads
        self._log = (
            None
            if log is None
            else StepLog(log, {"model": asdict(self.model.config), "train": asdict(self.config)})
        )

    def astype(self, dtype: DTypeLike) -> Trainer:
        """A trainer that stands where this one does, its numbers rounded or widened to "float32" or "float64".

        It writes no log. Raises ValueError for another dtype.
        """
        twin = type(self)(self.sound_model().astype(dtype), self.corpus, self.config, self.faults)
        state = self.state()
        arrays = {name: array.astype(twin.model.dtype) for name, array in state.arrays.items()}
        twin.load_state(replace(state, arrays=arrays))
        return twin

    def step(self, tokens: ArrayLike, targets: ArrayLike) -> StepRecord:
        """One clipped, scheduled update on the given batch (B, T). The order of the corpus is not touched.

        Raises NonFiniteError, naming the first bad tensor, before anything is updated.
        """
        return self._update([Batch(*self.model.require_batch(tokens, targets))])

    def state(self) -> TrainerState:
        """Everything that the next step depends on, copied."""
        arrays = {"params": self.params.flat.copy()}
        arrays |= {f"moments.{name}": moment.flat.copy() for name, moment in self.moments.items()}
        return TrainerState(
            arrays=arrays,
            config=self.config,
            steps_done=self.steps_done,
            epochs_done=self.epochs_done,
            total_steps=self.total_steps,
            moments_since=self.moments_since,
            batches_taken=self._batches_taken,
            epoch_step_losses=tuple(self._epoch_step_losses),
            epoch_loss=tuple(self._epoch_loss),
            changes=self.planned_changes,
            faults=self.faults,
            records=self._records.copy(),
        )

    def load_state(self, state: TrainerState) -> None:
        """Puts the trainer back to a `state` of its own kind, bit for bit.

        Raises ValueError where the arrays are those of another machine or optimizer, where settings differ that
        cannot change while a machine runs, and for a place beyond the end of this corpus's epoch.
        """
        _, around = sort_swaps(state.faults)
        moments = swap_training_parts(
            healthy_parts(self.model.table.name, state.config), around
        ).optimizer.moments
        names = ("params", *(f"moments.{name}" for name in moments))
        expected = {name: (self.params.flat.shape, self.params.flat.dtype) for name in names}
        given = {name: (array.shape, array.dtype) for name, array in state.arrays.items()}
        if expected != given:
            raise ValueError(f"this state belongs to another machine: expected {expected}, got {given}")
        changeable = {field: getattr(self.config, field) for field in changes.CHANGEABLE}
        if replace(state.config, **changeable) != self.config:
            raise ValueError(f"this state belongs to other settings: {state.config}, here {self.config}")
        batches = self._batches if state.epochs_done == self.epochs_done else None
        if state.batches_taken > 0:
            batches = batches or self._epoch_batches(state.epochs_done)
            if state.batches_taken >= len(batches):
                raise ValueError(
                    f"this state stands after batch {state.batches_taken} of an epoch, but an epoch of this "
                    f"corpus has {len(batches)}: it belongs to another corpus"
                )
        other = state.faults != self.faults or changes.other_machinery(self.config, state.config)
        self.config = state.config
        if other:
            self._put_in(state.faults)
        self.params.flat[:] = state.arrays["params"]
        for name, moment in self.moments.items():
            moment.flat[:] = state.arrays[f"moments.{name}"]
        self.moments_since = state.moments_since
        self.steps_done, self.epochs_done = state.steps_done, state.epochs_done
        self.total_steps = state.total_steps
        self._batches, self._batches_taken = batches, state.batches_taken
        self._epoch_step_losses = list(state.epoch_step_losses)
        self._epoch_loss = list(state.epoch_loss)
        self._changes = {step: dict(change) for step, change in state.changes.items()}
        self._records = state.records.copy()
        self._moments_of_last_step = self.moments, self.moments_since

    # Runs.

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training split."""
        batches = self._batches or self._epoch_batches(self.epochs_done)
        return math.ceil(len(batches) / self.config.accumulate)

    @property
    def history(self) -> History:
        """Every step so far, in a copy of its own."""
        return History(self._records, self._epoch_loss)

    def steps(self) -> Iterator[StepRecord]:
        """Trains on the corpus, a record per optimizer step, endless until `stop`.

        Raises NonFiniteError; ConfigError where the schedule needs ``total_steps``.
        """
        self._stop.clear()
        while not self._stop.is_set():
            yield self._next_step()

    def run(
        self,
        epochs: int | None = None,
        steps: int | None = None,
        progress: bool | None = None,
        console: Callable[[str], object] | None = None,
    ) -> History:
        """Trains for so many further epochs or steps, or until `stop`; gives back the whole history.

        A schedule whose ``total_steps`` is None ends with this run. ``progress`` shows a bar on standard error
        (None: only at a terminal). ``console``, such as ``print``, receives the documents' diagnostic lines:
        weight magnitudes at the first batch, gradients every five, the loss of each epoch.

        Raises ValueError unless one of ``epochs`` and ``steps`` is given; NonFiniteError as `step`.
        """
        if (epochs is None) == (steps is None):
            raise ValueError(f"give either epochs or steps; got epochs={epochs!r}, steps={steps!r}")
        if epochs is not None:
            n_steps = require_count("epochs", epochs) * self.steps_per_epoch
        else:
            n_steps = require_count("steps", steps)
        if self.config.total_steps is None:
            self.total_steps = self.steps_done + n_steps
        self._stop.clear()
        with _progress_bar(n_steps, progress) as bar:
            for _ in range(n_steps):
                if console is not None:
                    for line in self.lines_before_step():
                        console(line)
                record = self._next_step()
                if console is not None:
                    for line in self.lines_after_step():
                        console(line)
                bar.set_postfix_str(f"loss {record.loss:.4f}", refresh=False)
                bar.update()
                if self._stop.is_set():
                    break
        return self.history

    def lines_before_step(self) -> list[str]:
        """What the documents' console says before the next step: at the first, what the machine begins with."""
        if self.steps_done > 0:
            return []
        announced = [self.announcement] if self.announcement else []
        return [
            *announced,
            diagnostics.weight_magnitudes(self.params),
            diagnostics.sample_embedding_magnitude(self.params),
        ]

    def lines_after_step(self) -> list[str]:
        """What it says after the last step: gradients at every fifth, the loss at the end of an epoch."""
        lines = []
        if self.steps_done % DIAGNOSTIC_EVERY == 0:
            instruments = self.parts.instruments
            lines.append(instruments.gradient_statistics(self._step_grads))
            lines.append(instruments.max_gradient_magnitude(self._step_grads))
        if self._batches is None and self._epoch_loss:
            lines.append(f"Epoch {self.epochs_done}: loss = {self._epoch_loss[-1]:.4f}")
        return lines

    def stop(self) -> None:
        """Ends `run` and `steps` after the current step; may be called from any thread."""
        self._stop.set()

    def at(self, step: int, **change: Any) -> None:
        """Schedules a change: in force from the given step (counted from 1) on.

        What can change while a machine runs: learning_rate, clip_norm, min_learning_rate, schedule, warmup_steps,
        total_steps, optimizer with its momentum, betas, epsilon and weight_decay, weights of penalties, and ``faults``,
        all that are then in the machine. Moments that the next optimizer does not have are dropped; those it lacks
        begin at 0, and with them Adam's bias correction. A fault of the initial weights or of the stream of tokens acts
        only at the start of a run. The change is part of checkpoints, so a live run can be written down and repeated.
        Raises ValueError for a step that is past or what cannot change, ConfigError for a bad value.
        """
        step = require_count("step", step)
        if step <= self.steps_done:
            raise ValueError(
                f"step={step} is past: {self.steps_done} steps are done, the next is {self.steps_done + 1}"
            )
        planned = changes.plan(self._changes, step, change, self.config, self.faults)
        require_pairs_to_turn(self.model.config, change.get("symmetry_penalty", 0.0))
        self._changes = planned

    @property
    def last_record(self) -> StepRecord:
        """The record of the last step. Raises IndexError before the first."""
        return self._records[-1]

    @property
    def planned_changes(self) -> changes.Changes:
        """What `at` has planned and no step has reached yet: step -> what changes, in a copy."""
        return {step: dict(change) for step, change in self._changes.items()}

    def validation_loss(self) -> float:
        """Mean cross-entropy over the whole validation split, in nats, dropout off.

        Raises CorpusError where ``validation_fraction`` is 0.
        """
        config = self.config
        held_out = self.corpus.validation_tokens(config.validation_fraction)
        total, count = 0.0, 0
        fresh = Pass(self.model)
        for batch in epoch_batches(held_out, config.batch_size, config.sequence_length, False, 0, 0):
            fresh.forward(batch.inputs)
            total += fresh.loss(batch.targets) * batch.targets.size
            count += batch.targets.size
        return total / count

    def generate(
        self,
        prompt: str,
        n_tokens: int = 20,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> str:
        """The prompt and its continuation; see `cllm_lab.training.generation.generate`."""
        return generate(self.model, self.corpus, prompt, n_tokens, temperature, top_k, seed)

    def tensor_rows(self, tokens: ArrayLike, targets: ArrayLike) -> list[TensorRow]:
        """What every tensor would do in a step on this batch. The trainer is left as it was, bit for bit."""
        _, grads = self.gradients(tokens, targets)
        trainable = self.parts.trainable(self.params.specs)
        before = self.state()
        try:
            self.step(tokens, targets)
            updates = self.params.like(self.params.flat - before.arrays["params"])
        finally:
            self.load_state(before)
        return [
            TensorRow(
                spec.name,
                spec.group,
                spec.shape,
                spec.name in trainable,
                diagnostics.norm(self.params[spec.name].ravel()),
                diagnostics.norm(grads[spec.name].ravel()),
                float(np.mean(grads[spec.name] == 0.0)),
                diagnostics.norm(updates[spec.name].ravel()),
            )
            for spec in self.params.specs
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a checkpoint; see `cllm_lab.training.checkpoint`."""
        from cllm_lab.training.checkpoint import save

        save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        corpus: TokenSource | None = None,
        faults: Sequence[Fault] = (),
        log: str | os.PathLike[str] | None = None,
    ) -> Trainer:
        """A trainer that goes on where the saved one stood; see `cllm_lab.training.checkpoint`."""
        from cllm_lab.training.checkpoint import load

        return load(path, corpus, faults, log, cls)

    # One step.

    def _next_step(self) -> StepRecord:
        """The next step of the corpus, with what belongs to the end of an epoch."""
        chosen = self._next_batches()
        return self._count(self._update(chosen), len(chosen))

    def phases(self) -> Iterator[Phase]:
        """The next step of the corpus one phase at a time: forward, loss and backward of each batch, then update.

        The same step as `steps` takes, bit for bit; it is done once the last phase was asked for. Raises as `step`, and
        RuntimeError where other steps were made meanwhile.
        """
        began = time.perf_counter()
        chosen = self._next_batches()
        number = self._begin()
        total, tokens = 0.0, sum(batch.targets.size for batch in chosen)
        seconds = time.perf_counter() - began
        for index, batch in enumerate(chosen):
            began = time.perf_counter()
            with np.errstate(all="ignore"):
                kept = self._forward(batch, number, index)
                seconds += time.perf_counter() - began
                produced = phases.of_forward(self.model.forward(batch.inputs))
            yield Phase("forward", number, produced)
            began = time.perf_counter()
            with np.errstate(all="ignore"):
                loss = self._loss(kept, batch, number)
            seconds += time.perf_counter() - began
            yield Phase("loss", number, phases.of_loss(loss))
            began = time.perf_counter()
            with np.errstate(all="ignore"):
                total, grads = self._backward(kept, batch, index, loss, total, tokens)
            seconds += time.perf_counter() - began
            yield Phase("backward", number, phases.of_backward(grads))
        # The step took as long as its phases, however long somebody looked at them.
        began = time.perf_counter() - seconds
        if self.steps_done != number - 1:
            raise RuntimeError(
                f"step {number} was begun by phases, but {self.steps_done} steps are done by now"
            )
        record = self._count(self._finish(number, total, grads, tokens, began), len(chosen))
        yield Phase("update", number, phases.of_update(record))

    def _next_batches(self) -> list[Batch]:
        if self._batches is None:
            self._batches = self._epoch_batches(self.epochs_done)
        return self._batches[self._batches_taken : self._batches_taken + self.config.accumulate]

    def _count(self, record: StepRecord, n_batches: int) -> StepRecord:
        """Moves on in the corpus by the batches of a step that was made."""
        assert self._batches is not None
        self._batches_taken += n_batches
        self._epoch_step_losses.append(record.loss)
        epoch_ends = self._batches_taken == len(self._batches)
        every = self.config.validate_every
        validates = epoch_ends if every is None else record.step % every == 0
        if validates and self.config.validation_fraction > 0.0:
            loss = self.validation_loss()
            record = replace(record, validation_loss=loss)
            self._records.set_validation_loss(loss)
        if self._log is not None:
            self._log.append(record)
        if epoch_ends:
            self.epochs_done += 1
            self._epoch_loss.append(math.fsum(self._epoch_step_losses) / len(self._epoch_step_losses))
            self._epoch_step_losses.clear()
            self._batches, self._batches_taken = None, 0
            if self._log is not None:
                self._log.end_epoch(self.epochs_done, self._epoch_loss[-1])
        return record

    def _epoch_batches(self, epoch: int) -> list[Batch]:
        config = self.config
        tokens = self.parts.stream(self.corpus, config.validation_fraction, epoch)
        return self.parts.batches(
            tokens, config.batch_size, config.sequence_length, config.shuffle, config.seed, epoch
        )

    def _update(self, batches: Sequence[Batch]) -> StepRecord:
        started = time.perf_counter()
        number = self._begin()
        # A number that overflows ends in a NonFiniteError that names its tensor; NumPy would only warn before it.
        with np.errstate(all="ignore"):
            loss, grads, tokens = self._loss_and_gradients(batches, number)
        return self._finish(number, loss, grads, tokens, started)

    def _begin(self) -> int:
        """The number of the next step, the changes planned for it in force."""
        number = self.steps_done + 1
        if number in self._changes:
            settings, faults = changes.split(self._changes.pop(number))
            before, self.config = self.config, replace(self.config, **settings)
            self.total_steps = self.config.total_steps or self.total_steps
            if faults is not None or changes.other_machinery(before, self.config):
                self._put_in(self.faults if faults is None else faults)
        return number

    @np.errstate(all="ignore")
    def _finish(self, number: int, loss: float, grads: Parameters, tokens: int, started: float) -> StepRecord:
        """Clips, schedules, updates, and records what was done."""
        self._step_grads = grads
        group_norms = {group: self._norm(grads.group(group)) for group in GROUPS}
        grad_norm = math.hypot(*group_norms.values())
        if not math.isfinite(grad_norm):
            raise NonFiniteError(number, *diagnostics.first_non_finite_gradient(grads))
        scale = self.parts.clipping(grad_norm, self.config.clip_norm)
        rate = self.parts.schedule(number, self.config, self.total_steps)
        update, before = self._apply(grads, rate, number, scale)
        self.steps_done = number
        self._moments_of_last_step = self.moments, self.moments_since
        record = StepRecord(
            step=number,
            epoch=self.epochs_done + 1,
            loss=loss,
            learning_rate=rate,
            grad_norm=grad_norm,
            update_ratio=_ratio(update, before),
            grad_norm_embedding=group_norms["embedding"],
            grad_norm_attention=group_norms["attention"],
            grad_norm_ff=group_norms["ff"],
            grad_norm_ln=group_norms["ln"],
            tokens=tokens,
            seconds=time.perf_counter() - started,
        )
        self._records.append(record)
        return record


def _ratio(update: float, parameters: float) -> float:
    if parameters == 0.0:
        return 0.0 if update == 0.0 else math.inf
    return math.sqrt(update / parameters)


def _progress_bar(n_steps: int, progress: bool | None) -> tqdm:
    shown = sys.stderr.isatty() if progress is None else progress
    return tqdm(total=n_steps, disable=not shown, unit="step")
