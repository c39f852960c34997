"""The parts around the model: what a training step consists of, and how faults are put in.

As in the model, a slot is filled by one part and a fault is the swap of one slot. The trainer itself holds
no condition on faults; it calls what stands in its slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cllm_lab.corpus.arguments import TokenArray
from cllm_lab.corpus.batches import Batch, epoch_batches
from cllm_lab.corpus.source import TokenSource
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Array, Parameters, TensorSpec
from cllm_lab.model.parts import SLOTS as MODEL_SLOTS
from cllm_lab.model.parts import Part, PartEdit
from cllm_lab.model.transformer import Pass
from cllm_lab.training import diagnostics
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.optimizers import Optimizer, optimizers
from cllm_lab.training.schedules import learning_rate

if TYPE_CHECKING:
    from cllm_lab.model.compiled_pass import CompiledPass


def given_weights(params: Parameters, config: ModelConfig, seed: int) -> str:
    """The initialisation of a run: the model's own weights stay as its initialiser made them."""
    return ""


def training_stream(corpus: TokenSource, validation_fraction: float, epoch: int) -> TokenArray:
    """The tokens of an epoch, int32, in the order of the text: `TokenSource.training_tokens`."""
    return corpus.training_tokens(validation_fraction, epoch)


def backpropagation(training_pass: Pass | CompiledPass) -> Parameters:
    """The gradient rule: the gradient of the loss that was just taken, by the chain rule."""
    return training_pass.backward()


def true_loss(loss: float, training_pass: Pass | CompiledPass) -> float:
    """The loss that is reported: the one whose gradient is followed."""
    return loss


def clip_by_global_norm(norm: float, clip_norm: float | None) -> float:
    """Factor on all gradients: min(1, clip_norm / norm). Pascanu et al. 2013, algorithm 1.

    As PyTorch does, 1e-6 is added to the norm, so that a norm of 0 needs no case of its own.
    """
    return 1.0 if clip_norm is None else min(1.0, clip_norm / (norm + 1e-6))


def every_tensor(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The tensors that the optimizer updates: all."""
    return tuple(spec.name for spec in specs)


@dataclass(frozen=True)
class Instruments:
    """How the trainer measures its gradients.

    ``norm`` (values (n,), sum of squares) -> Euclidean norm, what clipping and the records see;
    ``gradient_statistics`` and ``max_gradient_magnitude`` (gradients) -> the console's lines.
    """

    norm: Callable[[Array, Callable[[Array], float]], float] = diagnostics.norm
    gradient_statistics: Callable[[Parameters], str] = diagnostics.gradient_statistics
    max_gradient_magnitude: Callable[[Parameters], str] = diagnostics.max_gradient_magnitude


@dataclass(frozen=True)
class TrainingParts:
    """One part for each slot of a training step. The field names are the slots.

    ``initialisation`` (params, model config, model seed) -> the line it announces, having changed params in place,
    once, when the trainer is made; ``stream`` (corpus, validation_fraction, epoch) -> tokens;
    ``batches`` (tokens, batch_size, sequence_length, shuffle, seed, epoch) -> list of batches;
    ``gradient_rule`` (pass) -> gradients; ``reported_loss`` (loss, pass) -> nats, where the pass is a `Pass` unless
    both are the healthy ones, and has the penalties in its loss and in its gradient;
    ``clipping`` (norm, clip_norm) -> factor; ``schedule`` (step, config, total_steps) -> learning rate;
    ``trainable`` (specs) -> names; ``optimizer`` an `Optimizer`; ``instruments`` an `Instruments`.
    """

    optimizer: Optimizer
    initialisation: Callable[[Parameters, ModelConfig, int], str] = given_weights
    stream: Callable[[TokenSource, float, int], TokenArray] = training_stream
    batches: Callable[..., list[Batch]] = epoch_batches
    gradient_rule: Callable[[Any], Parameters] = backpropagation
    reported_loss: Callable[[float, Any], float] = true_loss
    clipping: Callable[[float, float | None], float] = clip_by_global_norm
    schedule: Callable[[int, TrainConfig, int | None], float] = learning_rate
    trainable: Callable[[Sequence[TensorSpec]], tuple[str, ...]] = every_tensor
    instruments: Instruments = Instruments()


TRAINING_SLOTS = tuple(field.name for field in fields(TrainingParts))


@runtime_checkable
class Fault(Protocol):
    """What the trainer asks of a fault: its id, and the part it puts into each slot that it swaps."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def swaps(self) -> Mapping[str, Any]:
        """Slot -> part."""
        ...


def healthy_parts(table: str, config: TrainConfig) -> TrainingParts:
    """The parts of a sound step, with the optimizer of the parts table."""
    return TrainingParts(optimizer=optimizers(table)[config.optimizer])


def require_faults(faults: Sequence[Fault]) -> Sequence[Fault]:
    """The faults, where all are fault objects; TypeError otherwise."""
    if isinstance(faults, (str, Fault)):
        raise TypeError(f"faults must be a sequence of fault objects; got {faults!r} alone")
    for fault in faults:
        if not isinstance(fault, Fault):
            raise TypeError(f"faults must be fault objects with an id and swaps; got {fault!r}")
    return faults


def sort_swaps(faults: Sequence[Fault]) -> tuple[dict[str, Part | PartEdit], dict[str, Any]]:
    """The swaps of all faults, those in the model apart from those in the training step.

    Raises TypeError for what is no fault, ValueError for a slot that does not exist and for two faults in one
    slot, naming both.
    """
    owner: dict[str, str] = {}
    model_swaps: dict[str, Part | PartEdit] = {}
    training_swaps: dict[str, Any] = {}
    for fault in require_faults(faults):
        for slot, part in fault.swaps.items():
            if slot in owner:
                raise ValueError(
                    f"faults {owner[slot]!r} and {fault.id!r} both swap the slot {slot!r}; choose one of them"
                )
            owner[slot] = fault.id
            if slot in MODEL_SLOTS:
                model_swaps[slot] = part
            elif slot in TRAINING_SLOTS:
                training_swaps[slot] = part
            else:
                raise ValueError(
                    f"fault {fault.id!r} swaps {slot!r}, which is no slot; the slots are "
                    f"{', '.join((*MODEL_SLOTS, *TRAINING_SLOTS))}"
                )
    return model_swaps, training_swaps


def swap_training_parts(parts: TrainingParts, swaps: Mapping[str, Any]) -> TrainingParts:
    """The same step with some slots swapped."""
    return replace(parts, **swaps)
