"""Faults of what connects the parts: layers left out, residuals, layer norm, and the way back to the embedding.

B batch, T positions, C = d_model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cllm_lab.faults.fault import COPYING, Fault, Scenario
from cllm_lab.model.activations import Site
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.initialisers import initialise, normal
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.parts import Part, PartEdit

SMALL = 0.005

# Blocks and residuals.


def skipped_block_forward(x: Array, site: Site) -> Array:
    """y = x: what should pass through the layer passes by it."""
    site.saved["output"] = x
    return x


def skipped_block_backward(dy: Array, site: Site) -> Array:
    """dx = dy; no tensor of the layer receives a gradient."""
    return dy


def branch_alone_forward(x: Array, branch: Array, site: Site) -> Array:
    """y = branch: x goes no further."""
    site.saved["output"] = branch
    return branch


def branch_alone_backward(dy: Array, site: Site) -> tuple[Array, Array]:
    """dx = 0, dbranch = dy."""
    return np.zeros_like(dy), dy


def small_weights(params: Parameters, config: ModelConfig, seed: int) -> str:
    """Every matrix and embedding N(0, 0.005^2), those that end a sub-layer smaller still by 1 / sqrt(2 n_layers)."""
    initialise(params, replace(config, init="normal", init_value=SMALL), normal, seed)
    return f"Weights drawn from a normal distribution with standard deviation {SMALL}"


# Layer norm.


def no_norm_forward(x: Array, site: Site) -> Array:
    """y = x; gamma and beta are not used."""
    site.saved["output"] = x
    return x


def no_norm_backward(dy: Array, site: Site) -> Array:
    """dx = dy."""
    return dy


def layer_norm_backward_without_variance(dy: Array, site: Site) -> Array:
    """dgamma = sum dy n;  dbeta = sum dy;  dx = rstd (dn - mean(dn)),  dn = dy gamma.

    The variance is a function of x too; the term - rstd n mean(dn n) that it passes back is left out.
    """
    normalised, rstd = site.saved["normalised"], site.saved["rstd"]
    leading = tuple(range(dy.ndim - 1))
    site.add_gradient("gamma", (dy * normalised).sum(axis=leading))
    site.add_gradient("beta", dy.sum(axis=leading))
    dn = dy * site.params["gamma"]
    mean_dn = dn.mean(axis=-1, keepdims=True)
    return rstd * (dn - mean_dn)


# The way back to the embedding.


def embedding_backward_dropped(dx: Array, site: Site) -> None:
    """Nothing is added: a token's row learns from its part in the output alone."""


def embedding_backward_on_targets(dx: Array, site: Site) -> None:
    """dE[v] += sum of dx[b, t] over all places where targets[b, t] = v, in the place of tokens[b, t]."""
    np.add.at(site.gradient_accumulator("token_embedding"), site.run.targets, dx)


FAULTS = (
    Fault(
        id="skipped-layers",
        title="A forward pass that passes the layers by",
        swaps={"block": Part("skipped", skipped_block_forward, skipped_block_backward)},
        source="002 'Progress Made', issue 2",
        symptom="The loss does not depend on the layers.",
        signature="No change of any tensor of a layer changes a logit; their gradients are exactly 0, and so are "
        "finite differences. The loss stops at the bigram level, since the embeddings still learn.",
        remedy="Hand each layer's output to the next.",
        scenario=COPYING,
    ),
    Fault(
        id="vanishing-gradient",
        title="Many layers without residuals, and small weights",
        swaps={
            "residual": Part("branch-alone", branch_alone_forward, branch_alone_backward),
            "initialisation": small_weights,
        },
        source="000 'Executive Summary', cause 4; 001 'Diagnostic Output'",
        symptom="Gradients below 1e-6; the loss stops.",
        signature="At the first step the gradients of all matrices are below 1e-6 of that of the last bias, in the "
        "last layer as in the first. Then the loss stops at the unigram level, the last layer recovers, and the "
        "ratio of first to last falls below 1e-6.",
        remedy="Add each sub-layer to its input, and draw weights so that layers keep the size of their input.",
        scenario=Scenario(model={"n_layers": 8, "d_model": 32}, epochs=12),
        takes_effect="reset",
    ),
    Fault(
        id="tied-gradient-dropped",
        title="The embedding's share of the tied gradient dropped",
        swaps={"embedding": PartEdit("no-gradient", backward=embedding_backward_dropped)},
        source="the original: no gradient for the input embedding",
        symptom="The loss falls, more slowly than it could.",
        signature="token_embedding alone disagrees with finite differences: its gradient lacks the rows of the "
        "inputs. Untied, it is exactly 0.",
        remedy="Add the gradient of the lookup to that of the output matrix.",
    ),
    Fault(
        id="tied-gradient-on-targets",
        title="The embedding's gradient added to the rows of the targets",
        swaps={"embedding": PartEdit("on-targets", backward=embedding_backward_on_targets)},
        source="the original: a variant of its embedding update",
        symptom="The loss falls, more slowly than it could.",
        signature="token_embedding alone disagrees with finite differences. Untied, its gradient is 0 in the rows "
        "of tokens that are no targets, where finite differences are not.",
        remedy="Add the gradient of the lookup to the rows that were looked up.",
    ),
    Fault(
        id="residual-missing",
        title="Sub-layers without residual connections",
        swaps={"residual": Part("branch-alone", branch_alone_forward, branch_alone_backward)},
        source="general",
        symptom="Training begins late, and later with each layer.",
        signature="Gradients agree with finite differences. With w_out and w_ff2 set to 0 no logit depends on any "
        "token, where in a sound machine every token reaches its own logits.",
        remedy="Add each sub-layer to its input.",
        scenario=COPYING,
    ),
    Fault(
        id="residual-gradient-dropped",
        title="The gradient of the residual connection dropped",
        swaps={"residual": PartEdit("branch-gradient-alone", backward=branch_alone_backward)},
        source="general; the original lost a share of it",
        symptom="The loss stays at the bigram level.",
        signature="The loss and every activation are right. Gradients are right down to the norm of the last "
        "feed-forward sub-layer, and wrong in everything before it, from w_out of the last layer on.",
        remedy="Hand the gradient of a sum to both of its terms.",
        scenario=COPYING,
    ),
    Fault(
        id="norm-missing",
        title="Layer norm that does nothing",
        swaps={"norm": Part("none", no_norm_forward, no_norm_backward)},
        source="general",
        symptom="The loss stays at the bigram level.",
        signature="Every gamma and beta has a gradient of exactly 0, and so are finite differences; all other "
        "gradients are right. The final hidden state is the last layer's output to the last bit.",
        remedy="Normalise to mean 0 and variance 1, then apply gamma and beta.",
        scenario=COPYING,
    ),
    Fault(
        id="layer-norm-backward-term-dropped",
        title="Layer norm differentiated as if its variance were constant",
        swaps={"norm": PartEdit("without-variance-term", backward=layer_norm_backward_without_variance)},
        source="general",
        symptom="The loss falls more slowly than it should, and to a higher level.",
        signature="The loss and every activation are right. gamma and beta of the final norm, and an untied output, "
        "have the right gradient; everything before them has not.",
        remedy="Subtract n mean(dn n) as well as mean(dn).",
        scenario=COPYING,
    ),
)
