"""The documents' formulas, each held against finite differences or against the engine, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cllm_lab.clinic.finite_differences import central_differences
from cllm_lab.ledger.machines import SEED, corpus, machine
from cllm_lab.model import parts
from cllm_lab.model.gradient_check import gradient_check
from cllm_lab.model.parameters import Array
from cllm_lab.streams import stream
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.optimizers import REFERENCE

N, C, F = 3, 5, 7
V = 11
EPSILON = 1e-5
STEPS = 20


def _rng(index: int) -> np.random.Generator:
    return stream(SEED, "check", 700, index)


def _distance(found: Array, expected: Array) -> float:
    """|found - expected| / |expected|."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def softmax(x: Array) -> Array:
    """Of the last axis, the maximum subtracted."""
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def cross_entropy() -> dict[str, Any]:
    """-log softmax(z)[target], its gradient, the "softmax gradient", and logits that overflow without the maximum."""
    rng = _rng(0)
    z, target = rng.normal(size=V), 4
    onehot = np.eye(V)[target]
    measured = central_differences(lambda x: float(-np.log(softmax(x)[target])), z)
    # Row i of the Jacobian is the gradient of the i-th output, here taken out by a one-hot row.
    jacobian = np.stack([_output_gradient(z, row) for row in np.eye(V)])
    logits = rng.normal(size=(N, V))
    targets = rng.integers(0, V, N)
    mean = float(-np.log(softmax(logits)[np.arange(N), targets]).mean())
    engine = machine({"vocab_size": corpus().vocab_size}, dtype="float64", parts=parts.reference)
    tokens = corpus().tokens[None, :8].copy()
    wanted = corpus().tokens[None, 1:9].copy()
    ours = engine.forward(tokens).logits[0]
    by_formula = float(-np.log(softmax(ours)[np.arange(8), wanted[0]]).mean())
    large = np.array([1000.0, 0.0], dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        naive = np.exp(large) / np.exp(large).sum()
    return {
        "gradient_error": _distance(softmax(z) - onehot, measured),
        "softmax_formula_as_gradient_error": _distance(np.diag(softmax(z)), jacobian),
        "softmax_jacobian_error": _distance(np.diag(softmax(z)) - np.outer(softmax(z), softmax(z)), jacobian),
        "mean_of_random_logits": mean,
        "formula_beside_engine_error": abs(by_formula - engine.loss(tokens, wanted)),
        "naive_softmax_finite": bool(np.isfinite(naive).all()),
        "softmax_with_maximum_finite": bool(np.isfinite(softmax(large)).all()),
    }


def _output_gradient(z: Array, row: Array) -> Array:
    return central_differences(lambda x: float(softmax(x) @ row), z)


def layer_norm() -> dict[str, Any]:
    """003's layer norm gradient: its first term alone, and whether the rest is what mean and variance pass back."""
    rng = _rng(1)
    x, gamma, beta, dy = (rng.normal(size=C) for _ in range(4))
    std = math.sqrt(x.var() + EPSILON)
    normalised = (x - x.mean()) / std

    def weighted(values: Array) -> float:
        y = gamma * (values - values.mean()) / np.sqrt(values.var() + EPSILON) + beta
        return float(y @ dy)

    measured = central_differences(weighted, x)
    first = dy * gamma / std
    basis = np.stack([np.ones(C), normalised], axis=1)
    rest = measured - first
    weights, *_ = np.linalg.lstsq(basis, rest, rcond=None)
    return {
        "first_term_error": _distance(first, measured),
        "error_with_corrections": _distance(first + basis @ weights, measured),
    }


def feed_forward() -> dict[str, Any]:
    """003's gradients of W1 and W2, with "hidden" read as before and as after the tanh."""
    rng = _rng(2)
    x, w1, w2, dy = (rng.normal(size=shape) for shape in ((N, C), (C, F), (F, C), (N, C)))
    before = x @ w1
    after = np.tanh(before)
    dhidden = dy @ w2.T
    dw1 = central_differences(lambda w: float((np.tanh(x @ w) @ w2 * dy).sum()), w1)
    dw2 = central_differences(lambda w: float((after @ w * dy).sum()), w2)

    def slope(values: Array) -> Array:
        return 1.0 - np.tanh(values) ** 2

    return {
        "dw1_error_hidden_before_tanh": _distance(x.T @ (dhidden * slope(before)), dw1),
        "dw1_error_hidden_after_tanh": _distance(x.T @ (dhidden * slope(after)), dw1),
        "dw2_error_hidden_before_tanh": _distance(before.T @ dy, dw2),
        "dw2_error_hidden_after_tanh": _distance(after.T @ dy, dw2),
    }


def squared_distance() -> dict[str, Any]:
    """002's MSE gradient and its quick fix, 004's gradient of the embeddings."""
    rng = _rng(3)
    E = rng.normal(size=(4, C))
    tokens, targets = np.array([0, 1, 2, 0, 1, 2]), np.array([1, 2, 0, 1, 3, 3])
    n = tokens.size

    def mean_loss(x: Array) -> float:
        return float(np.square(x - E[targets]).sum() / n)

    def table_loss(table: Array) -> float:
        return float(np.square(table[tokens] - table[targets]).sum() / n)

    x = E[tokens]
    formula = 2.0 * (x - E[targets]) / n
    in_table = np.zeros_like(E)
    np.add.at(in_table, tokens, formula)
    quick_fix = central_differences(lambda values: float(np.square(values - E[targets]).sum()), x)
    half = central_differences(lambda values: float(0.5 * np.square(values - E[targets]).sum()), x)
    written_004 = E[targets] - x
    # What is left of the last write where a token's contributions overwrite each other.
    overwritten = np.zeros_like(E)
    overwritten[tokens] = formula
    path = central_differences(lambda table: float(np.square(table[tokens] - E[targets]).sum() / n), E)
    return {
        "formula_error_at_the_input": _distance(formula, central_differences(mean_loss, x)),
        "formula_error_at_the_shared_table": _distance(in_table, central_differences(table_loss, E)),
        "quick_fix_over_formula": float((quick_fix * formula).sum() / (formula * formula).sum()),
        "quick_fix_positions": n,
        "formula_004_over_true": float((written_004 * half).sum() / (half * half).sum()),
        "accumulated_error": _distance(in_table, path),
        "overwritten_error": _distance(overwritten, path),
    }


def six_steps_of_attention() -> dict[str, Any]:
    """001's six steps with the engine's own weights, without a mask and with one, beside the engine's mixed heads."""
    trainer = machine(
        {"d_model": 16, "n_layers": 1, "context_length": 6},
        {"sequence_length": 6},
        (),
        "float64",
        parts.reference,
    )
    tokens = corpus().tokens[None, :6].copy()
    acts = trainer.forward(tokens)
    x = acts["layers.0.ln1"][0]
    w_query, w_key, w_value = np.split(trainer.params["layers.0.w_qkv"], 3, axis=1)
    H, D = trainer.model.config.n_heads, trainer.model.config.d_head

    def six_steps(values: Array, visible: Array) -> Array:
        heads = []
        for h in range(H):
            columns = slice(h * D, (h + 1) * D)
            q, k, v = values @ w_query[:, columns], values @ w_key[:, columns], values @ w_value[:, columns]
            heads.append(softmax(np.where(visible, q @ k.T / math.sqrt(D), -np.inf)) @ v)
        return np.concatenate(heads, axis=1)

    T = x.shape[0]
    everything, causal = np.ones((T, T), bool), np.tri(T, dtype=bool)
    changed = x.copy()
    changed[-1] += 1.0
    engine = acts["layers.0.attention.mixed"][0]
    return {
        "error_with_causal_mask": _distance(six_steps(x, causal), engine),
        "error_as_written": _distance(six_steps(x, everything), engine),
        "change_of_first_position_by_last_as_written": float(
            np.abs(six_steps(changed, everything)[0] - six_steps(x, everything)[0]).max()
        ),
        "change_of_first_position_by_last_with_mask": float(
            np.abs(six_steps(changed, causal)[0] - six_steps(x, causal)[0]).max()
        ),
        "gradient_check_worst": max(gradient_check(trainer.model, tokens, tokens, SEED).values()),
    }


def adam() -> dict[str, Any]:
    """004's Adam, line by line, beside algorithm 1 of Kingma & Ba and the variant at the end of their section 2."""
    defaults = TrainConfig()
    beta1, beta2 = 0.9, 0.999
    found: dict[str, Any] = {
        "betas": [beta1, beta2],
        "default_betas": list(defaults.betas),
        "default_epsilon": defaults.epsilon,
    }
    rate = 1e-3
    for size, scale in (("ordinary", 1.0), ("tiny", 1e-8)):
        rng = _rng(4)
        written = np.zeros(C)
        m, v = np.zeros(C), np.zeros(C)
        others = {name: np.zeros(C) for name in ("adam", "adam-epsilon-hat")}
        moments = {name: {"first": np.zeros(C), "second": np.zeros(C)} for name in others}
        for t in range(1, STEPS + 1):
            g = scale * rng.normal(size=C)
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            written -= rate * math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(v) + 1e-8)
            for name, params in others.items():
                REFERENCE[name].update(params, g, moments[name], rate, t, 1.0, defaults)
        for name, params in others.items():
            found[f"distance_to_{name.replace('-', '_')}_{size}"] = _distance(written, params)
    return found


def gradient_checking() -> dict[str, Any]:
    """The gradient check on a sound machine, and on one whose backward pass drops a residual's share."""
    tokens = corpus().tokens[None, :6].copy()
    settings = {"d_model": 16, "d_ff": 24, "context_length": 6}
    short = {"sequence_length": 6}
    sound = machine(settings, short, parts=parts.reference)
    broken = machine(settings, short, ("residual-gradient-dropped",), parts=parts.reference)
    return {
        "sound_worst": max(gradient_check(sound.model, tokens, tokens, SEED).values()),
        "broken_worst": max(gradient_check(broken.model, tokens, tokens, SEED).values()),
    }


def plain_descent() -> dict[str, Any]:
    """One step of SGD beside W - lr dL/dW, in float64."""
    trainer = machine(
        {"d_model": 16},
        {"optimizer": "sgd", "learning_rate": 0.1, "clip_norm": None},
        (),
        "float64",
        parts.reference,
    )
    tokens, targets = corpus().tokens[None, :8].copy(), corpus().tokens[None, 1:9].copy()
    _, grads = trainer.gradients(tokens, targets)
    expected = trainer.params.flat - 0.1 * grads.flat
    trainer.step(tokens, targets)
    return {"error": _distance(trainer.params.flat, expected)}


def forward_beside_doubled() -> dict[str, Any]:
    """Logits of a machine with attention and of the same weights with the input doubled instead."""
    tokens = corpus().tokens[None, :32].copy()
    sound = machine().forward(tokens).logits.astype(np.float64)
    doubled = machine(faults=("doubled-attention",)).forward(tokens).logits.astype(np.float64)
    return {"relative_difference": _distance(doubled, sound)}
