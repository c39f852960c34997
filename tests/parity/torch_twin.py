"""The same machine in PyTorch: its own operations, its own autograd, its own optimizers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from cllm_lab.model.config import ModelConfig
from cllm_lab.training.config import TrainConfig
from tests.ten_steps import Outcome, TenSteps


@dataclass
class TorchTwin:
    """A transformer of a configuration with the given weights, which it learns from then on."""

    config: ModelConfig
    weights: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.params = {
            name: torch.nn.Parameter(torch.from_numpy(np.array(value)))
            for name, value in self.weights.items()
        }
        self.activations: dict[str, torch.Tensor] = {}

    def loss(self, tokens: np.ndarray, targets: np.ndarray) -> torch.Tensor:
        """Mean cross-entropy in nats."""
        logits = self.forward(tokens)
        return functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).long().flatten())

    def gradients(self, tokens: np.ndarray, targets: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """The loss, and autograd's gradient of every tensor."""
        loss = self.loss(tokens, targets)
        grads = torch.autograd.grad(loss, list(self.params.values()))
        return loss.item(), {name: grad.numpy() for name, grad in zip(self.params, grads, strict=True)}

    def forward(self, tokens: np.ndarray) -> torch.Tensor:
        """Logits (B, T, V); every intermediate is kept under the name that this library gives it."""
        config, p = self.config, self.params
        self.activations = {}
        x = self._kept(
            "embedding", functional.embedding(torch.from_numpy(tokens).long(), p["token_embedding"])
        )
        if config.positions == "learned":
            x = self._kept("positions", x + p["position_embedding"][: x.shape[1]])
        elif config.positions == "sinusoidal":
            x = self._kept("positions", x + _sinusoids(x.shape[1], config.d_model, x.dtype))
        x = self._dropped("dropout", x)
        for i in range(config.n_layers):
            x = self._block(x, f"layers.{i}")
        if config.norm == "pre":
            x = self._norm(x, "ln_final")
        self._kept("final_hidden", x)
        weight = p["token_embedding" if config.tied else "output_embedding"]
        return self._kept("logits", functional.linear(x, weight))

    def _block(self, x: torch.Tensor, at: str) -> torch.Tensor:
        pre = self.config.norm == "pre"
        if self.config.attention != "none":
            read = self._kept(f"{at}.ln1", self._norm(x, f"{at}.ln1")) if pre else x
            branch = self._dropped(f"{at}.dropout1", self._attention(read, at))
            x = self._kept(f"{at}.residual1", x + branch)
            if not pre:
                x = self._kept(f"{at}.ln1", self._norm(x, f"{at}.ln1"))
        read = self._kept(f"{at}.ln2", self._norm(x, f"{at}.ln2")) if pre else x
        branch = self._dropped(f"{at}.dropout2", self._feed_forward(read, at))
        x = self._kept(f"{at}.residual2", x + branch)
        if not pre:
            x = self._kept(f"{at}.ln2", self._norm(x, f"{at}.ln2"))
        return self._kept(at, x)

    def _attention(self, x: torch.Tensor, at: str) -> torch.Tensor:
        p = self.params
        qkv = self._kept(f"{at}.attention.qkv", functional.linear(x, p[f"{at}.w_qkv"].T, p[f"{at}.b_qkv"]))
        q, k, v = (
            self._kept(
                f"{at}.attention.{name}", third.unflatten(-1, (self.config.n_heads, -1)).transpose(1, 2)
            )
            for name, third in zip("qkv", qkv.chunk(3, dim=-1), strict=True)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        self._kept(f"{at}.attention.mixed", mixed)
        return self._kept(f"{at}.attention", functional.linear(mixed, p[f"{at}.w_out"].T, p[f"{at}.b_out"]))

    def _feed_forward(self, x: torch.Tensor, at: str) -> torch.Tensor:
        p = self.params
        pre = self._kept(f"{at}.ff.pre", functional.linear(x, p[f"{at}.w_ff1"].T, p[f"{at}.b_ff1"]))
        gelu = self.config.activation == "gelu"
        hidden = functional.gelu(pre, approximate="tanh") if gelu else torch.tanh(pre)
        self._kept(f"{at}.ff.hidden", hidden)
        return self._kept(f"{at}.ff", functional.linear(hidden, p[f"{at}.w_ff2"].T, p[f"{at}.b_ff2"]))

    def _norm(self, x: torch.Tensor, scope: str) -> torch.Tensor:
        gamma, beta = self.params[f"{scope}.gamma"], self.params[f"{scope}.beta"]
        return functional.layer_norm(x, (self.config.d_model,), gamma, beta, self.config.norm_epsilon)

    def _dropped(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x * torch.from_numpy(self.masks[name]) if name in self.masks else x

    def _kept(self, name: str, x: torch.Tensor) -> torch.Tensor:
        self.activations[name] = x
        return x


def _sinusoids(n_positions: int, d_model: int, dtype: torch.dtype) -> torch.Tensor:
    rates = torch.exp(-math.log(10000.0) / d_model * torch.arange(0, d_model, 2, dtype=torch.float64))
    angles = torch.outer(torch.arange(n_positions, dtype=torch.float64), rates)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(dtype)


def optimizer_of(config: TrainConfig, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """PyTorch's optimizer of the same name and settings."""
    rate = config.learning_rate
    adam = {"lr": rate, "betas": config.betas, "eps": config.epsilon}
    return {
        "sgd": lambda: torch.optim.SGD(params, lr=rate),
        "momentum": lambda: torch.optim.SGD(params, lr=rate, momentum=config.momentum),
        "adam": lambda: torch.optim.Adam(params, **adam),
        "adamw": lambda: torch.optim.AdamW(params, **adam, weight_decay=config.weight_decay),
    }[config.optimizer]()


def train(run: TenSteps, dtype: str) -> Outcome:
    """PyTorch's ten steps, from this library's initial weights."""
    twin = TorchTwin(run.model_config, run.model("reference", dtype).params)
    params, config = list(twin.params.values()), run.train_config
    optimizer = optimizer_of(config, params)
    losses, norms = [], []
    for tokens, targets in run.batches():
        optimizer.zero_grad()
        loss = twin.loss(tokens, targets)
        loss.backward()
        # A bound of infinity clips nothing and still gives the norm.
        norm = torch.nn.utils.clip_grad_norm_(
            params, math.inf if config.clip_norm is None else config.clip_norm
        )
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm.item())
    return Outcome(losses, norms, {name: p.detach().numpy().copy() for name, p in twin.params.items()})
