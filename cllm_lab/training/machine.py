"""The machine that a trainer trains: its faults, its loss, its gradient, and the update. It knows no corpus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.corpus.batches import Batch
from cllm_lab.model.activations import Activations, GradientSink
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.parts.threads import in_pieces
from cllm_lab.model.transformer import Pass, Transformer
from cllm_lab.streams import stream
from cllm_lab.training import diagnostics
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.optimizers import UpdateSizes, squares
from cllm_lab.training.parts import (
    Fault,
    backpropagation,
    healthy_parts,
    sort_swaps,
    swap_training_parts,
    true_loss,
)
from cllm_lab.training.penalties import LatticePenalties, PenalisedPass, require_pairs_to_turn

if TYPE_CHECKING:
    from cllm_lab.model.compiled_pass import CompiledPass

    AnyPass = Pass | CompiledPass | PenalisedPass

MOST_KEPT_PASSES = 8


class TrainedMachine:
    """A copy of a model with faults put in, the loss that it is trained with, and what a step does to it.

    ``config``: the settings in force; ``parts``: what a step consists of; ``moments``: those of the optimizer, by name,
    counted from step ``moments_since``.
    """

    def __init__(self, model: Transformer, config: TrainConfig, faults: Sequence[Fault]) -> None:
        self.config = config
        self.model = model.copy()
        self._given_parts = model.parts
        self.steps_done = self.moments_since = 0
        self.moments: dict[str, Parameters] = {}
        self._moments_of_last_step: tuple[dict[str, Parameters], int] = ({}, 0)
        self._put_in(faults)
        self.announcement = self.parts.initialisation(self.params, model.config, model.seed)
        self._squares = squares(model.table.name)
        self._sink = GradientSink(self.params.like())
        self._sum = self.params.like() if config.accumulate > 1 else None

    def _put_in(self, faults: Sequence[Fault]) -> None:
        """Swaps the faults' parts into the machine that was given, and nothing else; moments of a name stay."""
        model_swaps, training_swaps = sort_swaps(faults)
        self.faults = tuple(faults)
        self.model.parts = self._given_parts.replace(**model_swaps)
        self.parts = swap_training_parts(healthy_parts(self.model.table.name, self.config), training_swaps)
        # Also those of before a step that failed after a change: it made nothing of them.
        for moments, since in ((self.moments, self.moments_since), self._moments_of_last_step):
            if set(self.parts.optimizer.moments) <= moments.keys():
                self.moments = {name: moments[name] for name in self.parts.optimizer.moments}
                self.moments_since = since
                break
        else:
            self.moments = {
                name: self.moments.get(name) or self.params.like() for name in self.parts.optimizer.moments
            }
            self.moments_since = self.steps_done
        require_pairs_to_turn(self.model.config, self.config.symmetry_penalty)
        self._penalties = LatticePenalties(self.model.config) if self.config.penalty_weights else None
        self._passes: dict[tuple[int, int], AnyPass] = {}
        self.__dict__.pop("_stretches", None)

    @property
    def params(self) -> Parameters:
        """The machine's parameters, live."""
        return self.model.params

    def forward(self, tokens: ArrayLike) -> Activations:
        """`Transformer.forward` of the machine, dropout off."""
        return self.model.forward(tokens)

    def loss(self, tokens: ArrayLike, targets: ArrayLike) -> float:
        """The loss that this trainer reports for a batch, in nats, dropout off. Nothing is changed."""
        tokens, targets = self.model.require_batch(tokens, targets)
        fresh = self._penalised(Pass(self.model))
        fresh.forward(tokens)
        return self.parts.reported_loss(fresh.loss(targets), fresh)

    def gradients(self, tokens: ArrayLike, targets: ArrayLike) -> tuple[float, Parameters]:
        """The reported loss in nats and the gradient that this trainer follows, before clipping, dropout off."""
        tokens, targets = self.model.require_batch(tokens, targets)
        fresh = self._penalised(Pass(self.model, GradientSink(self.params.like())))
        fresh.forward(tokens)
        loss = self.parts.reported_loss(fresh.loss(targets), fresh)
        return loss, self.parts.gradient_rule(fresh)

    def penalties(self, tokens: ArrayLike, targets: ArrayLike) -> dict[str, float]:
        """What each penalty of the lattice is for a batch (B, T), by name, whether it has a weight here or not.

        See `cllm_lab.training.penalties`; "symmetry" is left out where d_model is odd. Nothing is changed.
        """
        tokens, targets = self.model.require_batch(tokens, targets)
        return LatticePenalties(self.model.config).values(self.params["token_embedding"], tokens, targets)

    def sound_model(self) -> Transformer:
        """A copy of the machine with the weights of now and without the faults."""
        model = self.model.copy()
        model.parts = self._given_parts
        return model

    # A step.

    def _loss_and_gradients(self, batches: Sequence[Batch], number: int) -> tuple[float, Parameters, int]:
        """Mean loss and gradient over all tokens of the batches; a loss that is not finite ends the step."""
        tokens = sum(batch.targets.size for batch in batches)
        total = 0.0
        for index, batch in enumerate(batches):
            kept = self._forward(batch, number, index)
            loss = self._loss(kept, batch, number)
            total, grads = self._backward(kept, batch, index, loss, total, tokens)
        return total, grads, tokens

    def _forward(self, batch: Batch, number: int, index: int) -> AnyPass:
        kept = self._pass(batch.inputs.shape)
        kept.forward(batch.inputs, self._dropout_rng(number, index))
        return kept

    def _loss(self, kept: AnyPass, batch: Batch, number: int) -> float:
        loss = self.parts.reported_loss(kept.loss(batch.targets), kept)
        if not math.isfinite(loss):
            raise NonFiniteError(number, *diagnostics.first_non_finite_value(kept.activations(), loss))
        return loss

    def _backward(
        self, kept: AnyPass, batch: Batch, index: int, loss: float, total: float, tokens: int
    ) -> tuple[float, Parameters]:
        """Loss and gradient of the step so far, with the batch's share by its tokens."""
        grads = self.parts.gradient_rule(kept)
        share = batch.targets.size / tokens
        if self._sum is not None:
            self._add_up(grads, share, first=index == 0)
        return total + loss * share, grads if self._sum is None else self._sum

    def _add_up(self, grads: Parameters, share: float, first: bool) -> None:
        assert self._sum is not None
        if first:
            np.multiply(grads.flat, grads.flat.dtype.type(share), out=self._sum.flat)
        else:
            self._sum.flat += grads.flat.dtype.type(share) * grads.flat

    def _apply(self, grads: Parameters, rate: float, number: int, scale: float) -> tuple[float, float]:
        """Updates what is trainable; sums of squares of the update and of the parameters before it."""
        arrays = (self.params, grads, *self.moments.values())
        count = number - self.moments_since

        def update(place: slice) -> UpdateSizes:
            params, gradient, *moments = (array.flat[place] for array in arrays)
            named = dict(zip(self.moments, moments, strict=True))
            return self.parts.optimizer.update(params, gradient, named, rate, count, scale, self.config)

        sizes = [size for stretch in self._stretches for size in in_pieces(update, stretch)]
        return sum(size.update for size in sizes), sum(size.parameters for size in sizes)

    def _norm(self, values: Array) -> float:
        """Euclidean norm of (n,), a large array by several threads."""
        measure = self.parts.instruments.norm
        norms = in_pieces(lambda piece: measure(values[piece], self._squares), slice(0, values.size))
        return math.hypot(*norms)

    @cached_property
    def _stretches(self) -> list[slice]:
        """The stretches of the flat buffer that the optimizer updates, neighbours joined."""
        names = set(self.parts.trainable(self.params.specs))
        slices: list[slice] = []
        for name, place in self.params.slices.items():
            if name not in names:
                continue
            if slices and slices[-1].stop == place.start:
                slices[-1] = slice(slices[-1].start, place.stop)
            else:
                slices.append(place)
        return slices

    def _pass(self, shape: tuple[int, int]) -> AnyPass:
        """The kept pass for batches of this shape; the oldest is dropped when there are many shapes."""
        found = self._passes.get(shape)
        if found is None:
            if len(self._passes) == MOST_KEPT_PASSES:
                del self._passes[next(iter(self._passes))]
            found = self._passes[shape] = self._penalised(self._new_pass(shape))
        return found

    def _penalised(self, kept: Pass | CompiledPass) -> AnyPass:
        """The pass, with the penalties that have a weight."""
        if self._penalties is None:
            return kept
        return PenalisedPass(kept, self._penalties, self.config.penalty_weights)

    def _new_pass(self, shape: tuple[int, int]) -> Pass | CompiledPass:
        """The compiled pass where it can stand for the parts of this machine and of this step; else the parts."""
        healthy = self.parts.gradient_rule is backpropagation and self.parts.reported_loss is true_loss
        if healthy and self.model.table.name == "fast":
            from cllm_lab.model import compiled_pass

            if compiled_pass.suits(self.model):
                return compiled_pass.CompiledPass(self.model, self._sink.grads, shape)
        return Pass(self.model, self._sink)

    def _dropout_rng(self, number: int, index: int) -> np.random.Generator | None:
        if self.model.config.dropout == 0.0:
            return None
        return stream(self.config.seed, "dropout", number, index)
