"""The machine as a PyTorch user would write it: modules, fused attention, the fused Adam."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.bench.machines import Machine


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each on a residual."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.ln1, self.ln2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.ff1, self.ff2 = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            third.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for third in self.qkv(self.ln1(x)).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.ff2(torch.tanh(self.ff1(self.ln2(x))))


class Transformer(nn.Module):
    """Token ids and targets to the mean cross-entropy; the output matrix is the embedding."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.tokens = nn.Embedding(machine.vocab_size, machine.d_model)
        self.positions = nn.Parameter(torch.empty(machine.sequence_length, machine.d_model))
        self.blocks = nn.ModuleList(Block(machine.d_model, machine.n_heads) for _ in range(machine.n_layers))
        self.ln_final = nn.LayerNorm(machine.d_model)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.ln_final(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """This library's weights; a Linear keeps its matrix the other way round."""
        names = {"tokens.weight": "token_embedding", "positions": "position_embedding"}
        tensors = {"qkv": "qkv", "out": "out", "ff1": "ff1", "ff2": "ff2"}
        norm = {"weight": "gamma", "bias": "beta"}
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name in names:
                    value = weights[names[name]]
                elif name.startswith("ln_final"):
                    value = weights[f"ln_final.{norm[name.rpartition('.')[2]]}"]
                else:
                    _, layer, module, kind = name.split(".")
                    if module in tensors:
                        prefix = "w" if kind == "weight" else "b"
                        value = weights[f"layers.{layer}.{prefix}_{tensors[module]}"].T
                    else:
                        value = weights[f"layers.{layer}.{module}.{norm[kind]}"]
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))


class TorchPeer:
    """One training step of PyTorch, eager or compiled."""

    def __init__(self, machine: Machine, threads: int, compiled: bool) -> None:
        torch.set_num_threads(threads)
        config = machine.train_config
        model = Transformer(machine)
        model.load(machine.weights())
        self._loss = torch.compile(model) if compiled else model
        self._parameters = list(model.parameters())
        self._clip_norm = config.clip_norm
        self._optimizer = torch.optim.Adam(
            self._parameters, lr=config.learning_rate, betas=config.betas, eps=config.epsilon, fused=True
        )
        pairs = [(torch.from_numpy(x).long(), torch.from_numpy(y).long()) for x, y in machine.batches()]
        self._batches = itertools.cycle(pairs)

    def forward(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._last_loss = self._loss(*next(self._batches))

    def backward(self) -> None:
        self._last_loss.backward()

    def update(self) -> float:
        nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self._optimizer.step()
        return self._last_loss.item()

    def step(self) -> float:
        """One clipped update on the next batch; its loss in nats."""
        self.forward()
        self.backward()
        return self.update()
