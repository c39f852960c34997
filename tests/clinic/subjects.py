"""Sound and broken subjects for the tests of the probes, and what of a subject must be left as it was."""

from __future__ import annotations

from typing import Any

import numpy as np

import cllm_lab as lab
from cllm_lab.model.parts import Part
from tests.training.machines import Fault, a_batch, bits, make_model, make_trainer

HEALTHY: tuple[dict[str, Any], ...] = (
    {},
    {"norm": "post", "n_layers": 2},
    {"positions": "sinusoidal"},
    {"positions": "none"},
    {"tied": False, "activation": "gelu"},
    {"init": "he"},
    {"init": "normal", "dropout": 0.2},
)
WORDS = 7


def trainer(table: str = "reference", dtype: str = "float64", swaps=None, seed: int = 0, **settings: Any):
    """A small trainer, one training step old, that has a record, moments and a place in its corpus."""
    made = make_trainer(
        make_model(table, dtype, seed=seed, **settings), faults=(Fault("planted", swaps),) if swaps else ()
    )
    if not swaps:
        made.run(steps=1)
    return made


def small_vocabulary(seed: int = 0, dtype: str = "float64"):
    corpus = lab.MarkovLanguage(n_symbols=2, seed=seed, n_tokens=40)
    return make_trainer(make_model("reference", dtype, corpus, seed), corpus)


def batch_for(subject: Any, seed: int = 0):
    return a_batch(subject, seed)


def after_backward(change) -> dict[str, Any]:
    """The gradient rule with a change of the gradients, in place."""

    def rule(one_pass):
        grads = one_pass.backward()
        change(grads)
        return grads

    return {"gradient_rule": rule}


def _negate(grads):
    grads.flat *= -1.0


def _double(grads):
    grads.flat *= 2.0


def _drop_qkv(grads):
    grads["layers.0.w_qkv"][...] = 0.0


def _transpose_w_out(grads):
    grads["layers.0.w_out"][...] = grads["layers.0.w_out"].T.copy()


def _spoil_last_row(grads):
    grads["token_embedding"][-1, -1] = np.nan


WRONG_SIGN = after_backward(_negate)
FACTOR_2 = after_backward(_double)
DROPPED = after_backward(_drop_qkv)
TRANSPOSED = after_backward(_transpose_w_out)
NAN_IN_LAST_ROW = after_backward(_spoil_last_row)
CONSTANT_LOSS = {"reported_loss": lambda loss, one_pass: 4.1855}
EMBEDDINGS_ONLY = {"trainable": lambda specs: tuple(spec.name for spec in specs if spec.group == "embedding")}
NO_MASK = {"mask": Part("none", lambda T, site: np.ones((T, T), bool))}


def _doubled(x, site):
    y = x + x
    site.saved["output"] = y
    return y


DOUBLED_ATTENTION = {"attention": Part("doubled", _doubled, lambda dy, site: dy + dy)}
ATTENTION_TENSORS = {f"layers.0.{name}" for name in ("w_qkv", "b_qkv", "w_out", "b_out")}


class Bigram:
    """softmax(E[x] U) over the next word, trained by momentum; written without the library."""

    def __init__(self, dtype: str = "float64", seed: int = 0, rebinds: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.params = {
            "E": rng.normal(0.0, 0.3, (WORDS, 4)).astype(dtype),
            "U": rng.normal(0.0, 0.3, (4, WORDS)).astype(dtype),
        }
        self.velocity = {name: np.zeros_like(array) for name, array in self.params.items()}
        self.rebinds = rebinds

    def forward(self, inputs):
        return self.params["E"][inputs] @ self.params["U"]

    def gradients(self, inputs, targets):
        logits = self.forward(inputs)
        p = np.exp(logits - logits.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        chosen = np.take_along_axis(p, targets[..., None], axis=-1)
        loss = float(-np.log(chosen).mean())
        dlogits = p
        np.put_along_axis(dlogits, targets[..., None], chosen - 1, axis=-1)
        dlogits /= targets.size
        dE = np.zeros_like(self.params["E"])
        np.add.at(dE, inputs, dlogits @ self.params["U"].T)
        dU = self.params["E"][inputs].reshape(-1, 4).T @ dlogits.reshape(-1, WORDS)
        return loss, {"E": dE, "U": dU}

    def step(self, inputs, targets):
        _, grads = self.gradients(inputs, targets)
        for name, gradient in grads.items():
            self.velocity[name] *= 0.9
            self.velocity[name] += gradient
            if self.rebinds:
                self.params[name] = self.params[name] - 0.5 * self.velocity[name]
            else:
                self.params[name] -= 0.5 * self.velocity[name]

    def load(self, velocity):
        self.velocity = velocity

    def subject(self, stateful: bool = True):
        given = (self.params, self.forward, self.gradients, self.step)
        return lab.adapt.functions(*given, *((lambda: self.velocity, self.load) if stateful else ()))

    def bytes(self):
        kept = (self.params, self.velocity)
        return [{name: (a.dtype, a.tobytes()) for name, a in arrays.items()} for arrays in kept]


def bigram_batch(seed: int = 0):
    ids = np.random.default_rng(seed).integers(0, WORDS, (2, 3, 5))
    return ids[0], ids[1]


def left_alone(subject: Any) -> Any:
    """All bits of a trainer, its records and counters, to compare before and after."""
    return bits(subject)
