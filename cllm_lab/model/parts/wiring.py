"""The wiring of the machine: which part's output is which part's input. Both tables share it.

B batch, T positions, C = d_model, V vocabulary.
"""

from __future__ import annotations

import numpy as np

from cllm_lab.model.activations import Site
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts.table import Part


def transformer_forward(tokens: Array, site: Site) -> Array:
    """Token ids (B, T) to logits (B, T, V), through embedding, positions, blocks, final norm, output."""
    parts, config = site.run.parts, site.run.config
    x = parts.embedding.forward(tokens, site.child("embedding"))
    x = parts.positions.forward(x, site.child("positions"))
    x = parts.dropout.forward(x, site.child("dropout"))
    for i in range(config.n_layers):
        x = parts.block.forward(x, site.child(f"layers.{i}"))
    if config.norm == "pre":
        x = parts.norm.forward(x, site.child("final_hidden", "ln_final"))
    else:
        site.child("final_hidden").saved["output"] = x
    return parts.output.forward(x, site.child("logits"))


def transformer_backward(dlogits: Array | None, dfinal_hidden: Array | None, site: Site) -> None:
    """The same path backwards. Each gradient may be None; a part of the loss may act on final_hidden."""
    parts, config = site.run.parts, site.run.config
    dx = dfinal_hidden
    if dlogits is not None:
        dx = parts.output.backward(dlogits, site.child("logits"))
        if dfinal_hidden is not None:
            dx = _sum(dx, dfinal_hidden, "dfinal_hidden", site)
    if dx is None:
        return
    if config.norm == "pre":
        dx = parts.norm.backward(dx, site.child("final_hidden", "ln_final"))
    for i in reversed(range(config.n_layers)):
        dx = parts.block.backward(dx, site.child(f"layers.{i}"))
    dx = parts.dropout.backward(dx, site.child("dropout"))
    dx = parts.positions.backward(dx, site.child("positions"))
    parts.embedding.backward(dx, site.child("embedding"))


def pre_norm_block_forward(x: Array, site: Site) -> Array:
    """a = x + dropout(attention(norm(x)));  y = a + dropout(ff(norm(a))).  Radford et al. 2019, section 2.3."""
    parts = site.run.parts
    if site.run.config.attention != "none":
        normed = parts.norm.forward(x, site.child("ln1"))
        branch = parts.attention.forward(normed, site.child("attention"))
        branch = parts.dropout.forward(branch, site.child("dropout1"))
        x = parts.residual.forward(x, branch, site.child("residual1"))
    normed = parts.norm.forward(x, site.child("ln2"))
    branch = parts.feed_forward.forward(normed, site.child("ff"))
    branch = parts.dropout.forward(branch, site.child("dropout2"))
    y = parts.residual.forward(x, branch, site.child("residual2"))
    site.saved["output"] = y
    return y


def pre_norm_block_backward(dy: Array, site: Site) -> Array:
    """da = dy + norm'(ff'(dy));  dx = da + norm'(attention'(da))."""
    parts = site.run.parts
    dx, dbranch = parts.residual.backward(dy, site.child("residual2"))
    dbranch = parts.dropout.backward(dbranch, site.child("dropout2"))
    dnormed = parts.feed_forward.backward(dbranch, site.child("ff"))
    dx = _sum(dx, parts.norm.backward(dnormed, site.child("ln2")), "dx2", site)
    if site.run.config.attention != "none":
        dx, dbranch = parts.residual.backward(dx, site.child("residual1"))
        dbranch = parts.dropout.backward(dbranch, site.child("dropout1"))
        dnormed = parts.attention.backward(dbranch, site.child("attention"))
        dx = _sum(dx, parts.norm.backward(dnormed, site.child("ln1")), "dx1", site)
    return dx


def post_norm_block_forward(x: Array, site: Site) -> Array:
    """a = norm(x + dropout(attention(x)));  y = norm(a + dropout(ff(a))).  Vaswani et al. 2017, section 3.1."""
    parts = site.run.parts
    if site.run.config.attention != "none":
        branch = parts.attention.forward(x, site.child("attention"))
        branch = parts.dropout.forward(branch, site.child("dropout1"))
        x = parts.residual.forward(x, branch, site.child("residual1"))
        x = parts.norm.forward(x, site.child("ln1"))
    branch = parts.feed_forward.forward(x, site.child("ff"))
    branch = parts.dropout.forward(branch, site.child("dropout2"))
    x = parts.residual.forward(x, branch, site.child("residual2"))
    y = parts.norm.forward(x, site.child("ln2"))
    site.saved["output"] = y
    return y


def post_norm_block_backward(dy: Array, site: Site) -> Array:
    """The same path backwards; each residual splits the gradient, and its two shares meet again."""
    parts = site.run.parts
    dx = parts.norm.backward(dy, site.child("ln2"))
    dx, dbranch = parts.residual.backward(dx, site.child("residual2"))
    dbranch = parts.dropout.backward(dbranch, site.child("dropout2"))
    dx = _sum(dx, parts.feed_forward.backward(dbranch, site.child("ff")), "dx2", site)
    if site.run.config.attention != "none":
        dx = parts.norm.backward(dx, site.child("ln1"))
        dx, dbranch = parts.residual.backward(dx, site.child("residual1"))
        dbranch = parts.dropout.backward(dbranch, site.child("dropout1"))
        dx = _sum(dx, parts.attention.backward(dbranch, site.child("attention")), "dx1", site)
    return dx


def attention_forward(x: Array, site: Site) -> Array:
    """y = W_o [softmax(Q K^T / sqrt(D) + mask) V], head by head; (B, T, C) to (B, T, C).

    Between heads and scores, and behind the scores, stand what a configuration takes from the lattice, if anything.
    """
    parts = site.run.parts
    qkv = parts.qkv.forward(x, site)
    q, k, v = parts.heads.forward(qkv, site)
    k = parts.keys.forward(k, site)
    q, k = parts.symmetry.forward((q, k), site)
    scores = parts.scores.forward((q, k), site)
    scores = parts.bias.forward(scores, site)
    weights = parts.softmax.forward(scores, site)
    mixed = parts.mix.forward((weights, v), site)
    return parts.w_out.forward(mixed, site)


def attention_backward(dy: Array, site: Site) -> Array:
    """The chain of these parts, last to first."""
    parts = site.run.parts
    dmixed = parts.w_out.backward(dy, site)
    dweights, dv = parts.mix.backward(dmixed, site)
    dscores = parts.softmax.backward(dweights, site)
    dscores = parts.bias.backward(dscores, site)
    dq, dk = parts.scores.backward(dscores, site)
    dq, dk = parts.symmetry.backward((dq, dk), site)
    dk = parts.keys.backward(dk, site)
    dqkv = parts.heads.backward((dq, dk, dv), site)
    return parts.qkv.backward(dqkv, site)


def no_attention_forward(x: Array, site: Site) -> Array:
    """Never called: a block without attention leaves its sub-layer out, norm and residual included."""
    raise RuntimeError("attention='none' leaves the sub-layer out; the block must not call it")


def _sum(a: Array, b: Array, name: str, site: Site) -> Array:
    """a + b, in an array that is kept for the next pass."""
    return np.add(a, b, out=site.scratch(name, a.shape))


WIRING = (
    ("transformer", Part("transformer", transformer_forward, transformer_backward)),
    ("block", Part("pre", pre_norm_block_forward, pre_norm_block_backward)),
    ("block", Part("post", post_norm_block_forward, post_norm_block_backward)),
    ("attention", Part("multi-head", attention_forward, attention_backward)),
    ("attention", Part("none", no_attention_forward)),
)
