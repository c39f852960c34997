"""Attention weights and dependencies: the drawn matrices and the words about them."""

import numpy as np
import pytest

from cllm_lab.model.parts import Part
from cllm_lab.views.heatmaps import attention_maps, dependency, dependency_maps
from tests.views.machines import machine

TOKENS = ["the", "$x$", "\n", "extraordinarily"]


def doubled(x, site):
    return 2.0 * x


DOUBLED_INPUT = Part("doubled-input", doubled, doubled)


def causal_weights(n_heads: int) -> np.ndarray:
    rows = np.tri(4) * np.random.default_rng(0).uniform(0.1, 1.0, (n_heads, 4, 4))
    return rows / rows.sum(axis=-1, keepdims=True)


def test_each_head_is_drawn_with_its_own_weights() -> None:
    weights = causal_weights(6)
    picture = attention_maps(weights, TOKENS)
    maps = [axes for axes in picture.axes if axes.images]
    assert len(maps) == 6
    for head, axes in enumerate(maps):
        (image,) = axes.images
        shown = image.get_array()
        assert np.array_equal(shown.filled(0.0), weights[head])
        assert np.array_equal(shown.mask, np.triu(np.ones((4, 4), bool), 1))
        assert image.get_clim() == (0.0, 1.0)
        assert axes.get_title(loc="left") == f"head {head}"
    assert picture.get_figwidth() <= 10.0
    picture.png()


def test_tokens_are_labels_and_no_formulas() -> None:
    picture = attention_maps(causal_weights(1), TOKENS)
    (axes,) = [axes for axes in picture.axes if axes.images]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["the", "$x$", "'\\n'", "extraordina…"]
        assert not any(label.get_parse_math() for label in labels)


def test_many_tokens_are_numbered_instead() -> None:
    weights = np.tile(np.tri(20) / np.arange(1, 21)[:, None], (2, 1, 1))
    picture = attention_maps(weights, ["word"] * 20, names=["one", "two"])
    first = picture.axes[0]
    assert "word" not in [label.get_text() for label in first.get_xticklabels()]
    assert first.get_title(loc="left") == "one"


def test_words_tell_sums_and_the_future() -> None:
    weights = causal_weights(3)
    weights[1, 0, 1] = 0.5
    first, second = attention_maps(weights, TOKENS).words.split("\n")
    assert first == "head 0, head 2: each row sums to 1; no weight on what comes later."
    assert second == "head 1: the rows do not all sum to 1; weight on what comes later."


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 3), (0, 4, 4)])
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"weights must have shape \(heads, T, T\)"):
        attention_maps(np.zeros(shape), TOKENS)


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the 4 tokens of the weights; got 3"):
        attention_maps(causal_weights(1), TOKENS[:3])
    with pytest.raises(ValueError, match="names must name 2 maps; got 1"):
        attention_maps(causal_weights(2), TOKENS, names=["only"])


def test_dependency_against_one_exchange_at_a_time() -> None:
    model = machine().astype("float64")
    tokens = np.array([5, 6, 7, 8])
    found = dependency(model, tokens)
    for j in range(4):
        changed = tokens.copy()
        changed[j] += 1
        moved = model.forward(changed[None]).logits[0] - model.forward(tokens[None]).logits[0]
        expected = np.abs(moved).max(axis=-1)
        expected[:j] = 0.0
        np.testing.assert_allclose(found[:, j], expected, rtol=1e-9)


def test_the_last_id_is_exchanged_for_one_that_exists() -> None:
    model = machine()
    found = dependency(model, [model.config.vocab_size - 1, 5])
    assert found[0, 0] > 0.0


def test_a_healthy_machine_looks_back_and_a_doubled_input_does_not() -> None:
    model = machine()
    models = {"healthy": model, "2 x input": model.swapped(attention=DOUBLED_INPUT)}
    picture = dependency_maps(models, [5, 6, 7, 8], TOKENS)
    maps = [axes.images[0].get_array() for axes in picture.axes if axes.images]
    assert np.array_equal(maps[0], np.tri(4))
    assert np.array_equal(maps[1], np.eye(4))
    assert picture.words.split("\n") == [
        "healthy: the logits move with their own token at 4 of 4 positions, with an earlier token in 6 of 6 pairs, "
        "with a later one in 0 of 6.",
        "2 x input: the logits move with their own token at 4 of 4 positions, with an earlier token in 0 of 6 pairs, "
        "with a later one in 0 of 6.",
    ]


def test_a_machine_that_sees_the_future_is_told() -> None:
    seeing = machine().swapped(mask=Part("none", lambda T, site: np.ones((T, T), bool)))
    assert np.all(dependency(seeing, [5, 6, 7]) > 0.0)


def test_a_dead_machine_depends_on_nothing() -> None:
    assert np.array_equal(dependency(machine(init="zeros"), [5, 6, 7]), np.zeros((3, 3)))


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one window of shape \(T,\)"):
        dependency(machine(), [[5, 6]])
    with pytest.raises(ValueError, match="models is empty"):
        dependency_maps({}, [5, 6], ["a", "b"])
    with pytest.raises(ValueError, match="the 2 tokens as text; got 1"):
        dependency_maps({"one": machine()}, [5, 6], ["a"])
