"""Faults of the settings of a step: clipping, learning rate, optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cllm_lab.faults.fault import Fault, Scenario
from cllm_lab.model.parameters import Array
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.optimizers import Optimizer, UpdateSizes
from cllm_lab.training.schedules import learning_rate

TOO_HIGH = 100.0
TOO_LOW = 1e-3
DECAY_STEPS = 20


def never_clipped(norm: float, clip_norm: float | None) -> float:
    """1: the gradient as it is, whatever ``clip_norm`` says."""
    return 1.0


def rate_too_high(step: int, config: TrainConfig, total_steps: int | None) -> float:
    """100 times the healthy rate."""
    return TOO_HIGH * learning_rate(step, config, total_steps)


def rate_too_low(step: int, config: TrainConfig, total_steps: int | None) -> float:
    """A thousandth of the healthy rate."""
    return TOO_LOW * learning_rate(step, config, total_steps)


def rate_decayed_to_zero(step: int, config: TrainConfig, total_steps: int | None) -> float:
    """The healthy rate times max(0, 1 - (t - 1) / 20): 0 from step 21 on, counted from 1."""
    return max(0.0, 1.0 - (step - 1) / DECAY_STEPS) * learning_rate(step, config, total_steps)


def adam_without_bias_correction(
    params: Array,
    grads: Array,
    moments: Mapping[str, Array],
    learning_rate: float,
    step: int,
    gradient_scale: float,
    config: TrainConfig,
) -> UpdateSizes:
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= r m / (sqrt(v) + eps).

    Kingma & Ba 2015, algorithm 1, without its two lines of correction: at step 1 the update is
    (1 - b1) / sqrt(1 - b2) times theirs, 3.16 with the usual betas.
    """
    beta1, beta2 = config.betas
    g = gradient_scale * grads
    first, second = moments["first"], moments["second"]
    first *= beta1
    first += (1.0 - beta1) * g
    second *= beta2
    second += (1.0 - beta2) * g * g
    change = learning_rate * first / (np.sqrt(second) + config.epsilon)
    before = float(np.dot(params, params))
    params -= change
    return UpdateSizes(float(np.dot(change, change)), before)


FAULTS = (
    Fault(
        id="no-clipping",
        title="Gradients that are never clipped",
        swaps={"clipping": never_clipped},
        source="000 'Root causes' 4, 003 'Next Steps' 5",
        symptom="Gradients might explode.",
        signature="With weights and a rate that need it, the clipped machine learns and the other explodes: gradient "
        "norm and loss grow together by many decades within a few epochs. Each step is exactly the rate times the "
        "gradient. Where the norm stays below clip_norm nothing differs.",
        remedy="Clip by the global norm, or lower the rate.",
        scenario=Scenario(
            model={"init": "normal", "init_value": 0.2},
            train={"optimizer": "sgd", "learning_rate": 1.5},
            epochs=6,
        ),
    ),
    Fault(
        id="learning-rate-high",
        title="Learning rate a hundred times too high",
        swaps={"schedule": rate_too_high},
        source="000 section 4, 'Too large: Divergence or oscillation'",
        symptom="The loss jumps above ln V.",
        signature="The median of update_ratio over the first epoch is above 0.1, where Adam at rates that learn "
        "(1e-4 to 1e-2) gives 0.0004 to 0.06. It must be read early: once the weights have grown, the ratio of a "
        "far too high rate looks ordinary. Gradients agree with finite differences.",
        remedy="Lower the learning rate, or warm up.",
    ),
    Fault(
        id="learning-rate-low",
        title="Learning rate a thousand times too low",
        swaps={"schedule": rate_too_low},
        source="000 section 4, 'Too small: No weight updates'",
        symptom="The loss stays near ln V in every epoch.",
        signature="The median of update_ratio over the first epoch is below 0.0001, where Adam at rates that learn "
        "(1e-4 to 1e-2) gives 0.0004 to 0.06. The loss does fall, in the third decimal; gradients agree with finite "
        "differences and every tensor moves.",
        remedy="Raise the learning rate.",
    ),
    Fault(
        id="decayed-to-zero",
        title="Learning rate that has reached zero",
        swaps={"schedule": rate_decayed_to_zero},
        source="general",
        symptom="The loss falls, then stops above its floor.",
        signature="The loss falls for 20 steps and then no parameter changes in any bit, while gradients are as large "
        "as before; the records' learning_rate says 0.",
        remedy="Give the schedule the horizon of the run, or a floor.",
    ),
    Fault(
        id="adam-without-bias-correction",
        title="Adam without bias correction",
        swaps={"optimizer": Optimizer("adam", ("first", "second"), adam_without_bias_correction)},
        source="general; Kingma & Ba 2015, section 3",
        symptom="None at a modest rate; a warm-up that should not be needed.",
        signature="Replayed from parameter, gradient and moments, the first update is (1 - b1) / sqrt(1 - b2) = 3.16 "
        "times Adam's. At a modest rate the loss falls faster for it, at a high one the start is spoilt.",
        remedy="Divide m by 1 - b1^t and v by 1 - b2^t.",
    ),
)
