"""A machine whose products are large enough for several threads, and when two of its gradients agree."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.model.parameters import Parameters


def assert_the_tables_agree(n_layers: int) -> None:
    """Loss and gradients of the fast table are the reference's, up to rounding in float32."""
    config = lab.ModelConfig(vocab_size=4000, d_model=128, n_heads=4, n_layers=n_layers)
    tokens, targets = np.random.default_rng(0).integers(0, 4000, (2, 4, 32))
    models = [lab.Transformer(config, parts=table) for table in (lab.parts.reference, lab.parts.fast)]
    expected, found = (model.gradients(tokens, targets) for model in models)
    assert_they_agree(found, expected)


def assert_they_agree(found: tuple[float, Parameters], expected: tuple[float, Parameters]) -> None:
    """Two losses with their gradients are the same, up to rounding in float32."""
    (found_loss, found_grads), (loss, grads) = found, expected
    assert found_loss == pytest.approx(loss, rel=1e-6)
    for name in grads:
        if not name.endswith("b_qkv"):  # the key third is nothing but rounding
            error = np.linalg.norm(found_grads[name] - grads[name])
            assert error <= 1e-5 * np.linalg.norm(grads[name]), name
