"""How many numbers a forward pass keeps: document 003's sum, what its structure holds, what attention needs."""

from __future__ import annotations

from dataclasses import dataclass

from cllm_lab.model.config import ConfigError, ModelConfig, require_count


@dataclass(frozen=True)
class ActivationField:
    """One kind of activation. Counts are in floats, 4 bytes each in float32.

    ``field`` its name in document 003's ``ForwardActivations``, in brackets where that has none; ``here`` the
    names under which a pass of this library keeps it; ``counted`` the floats in 003's own sum; ``held`` those
    that its structure holds; ``needed`` those that a pass with real attention keeps.
    """

    field: str
    here: str
    counted: int
    held: int
    needed: int


def activation_memory(
    config: ModelConfig, batch_size: int, sequence_length: int
) -> tuple[ActivationField, ...]:
    """The eight fields of document 003 in its order, then what attention and layer norm need besides.

    With S = B T C: 003 adds up S for the input, S a layer, B T F a layer and B T V. Its structure holds 4 S a
    layer and the final hidden state. Neither has room for queries, keys and values, for the T x T scores and
    weights, or for the normalised inputs that the layer norm's backward pass reads.
    ``layer_inputs`` cost nothing here: each is the array before it in the stream.

    Raises ConfigError for sizes below 1, and for a configuration that is not of the default wiring.
    """
    made_for = {"norm": "pre", "attention": "multi-head", "activation": "tanh"}
    made_for |= {"keys": "projected", "head_symmetry": "none", "attention_bias": "none"}
    for field, choice in made_for.items():
        if getattr(config, field) != choice:
            raise ConfigError(
                f"the table is made for {field}={choice!r}; got {field}={getattr(config, field)!r}"
            )
    B, T = require_count("batch_size", batch_size), require_count("sequence_length", sequence_length)
    L, H = config.n_layers, config.n_heads
    stream, hidden, logits = B * T * config.d_model, B * T * config.width_ff, B * T * config.vocab_size
    square = B * H * T * T
    n_lookups = 1 if config.positions == "none" else 2
    norms = (2 * L + 1) * (stream + B * T) + 2 * L * stream
    return (
        ActivationField("input_embeddings", "embedding, positions", stream, stream, n_lookups * stream),
        ActivationField("layer_inputs", "positions, layers.i", L * stream, L * stream, 0),
        ActivationField("attention_outputs", "layers.i.attention", 0, L * stream, L * stream),
        ActivationField("ff_outputs", "layers.i.ff", 0, L * stream, L * stream),
        ActivationField("layer_outputs", "layers.i", 0, L * stream, L * stream),
        ActivationField("ff_hidden", "layers.i.ff.hidden", L * hidden, L * hidden, L * hidden),
        ActivationField("final_hidden", "final_hidden", 0, stream, stream),
        ActivationField("logits", "logits", logits, logits, logits),
        ActivationField("(queries, keys, values)", "layers.i.attention.q, .k, .v", 0, 0, 3 * L * stream),
        ActivationField("(scores, weights)", "layers.i.attention.scores, .weights", 0, 0, 2 * L * square),
        ActivationField("(mixed heads)", "layers.i.attention.mixed", 0, 0, L * stream),
        ActivationField("(sum after attention)", "layers.i.residual1", 0, 0, L * stream),
        ActivationField("(before tanh)", "layers.i.ff.pre", 0, 0, L * hidden),
        ActivationField("(layer norms)", "layers.i.ln1, .ln2, final_hidden", 0, 0, norms),
    )
