"""The strips over the flat buffer: to scale, filled where something is not 0, and told in words."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.views.flat_layout import flat_layout

CORPUS = lab.MarkovLanguage(n_symbols=7, n_tokens=60)
TOKENS, TARGETS = CORPUS.tokens[None, :8], CORPUS.tokens[None, 1:9]


def trainer(*faults: str, **settings: object) -> lab.Trainer:
    config = lab.ModelConfig(
        vocab_size=7, context_length=32, d_model=8, n_heads=2, d_ff=12, n_layers=1, **settings
    )
    return lab.Trainer(
        lab.Transformer(config, 0, "float64", lab.parts.reference), CORPUS, lab.TrainConfig(), faults=faults
    )


def filled(picture: object) -> list[list[bool]]:
    """Per strip, top to bottom, whether each stretch is filled."""
    (axes,) = picture.axes  # type: ignore[attr-defined]
    strips: dict[float, list[bool]] = {}
    for patch in axes.patches:
        strips.setdefault(patch.get_y(), []).append(not patch.get_hatch())
    return list(strips.values())


def test_stretches_are_the_tensors_to_scale() -> None:
    machine = trainer()
    (axes,) = flat_layout({"sound": machine}, TOKENS, TARGETS).axes
    slices = list(machine.params.slices.values())
    stretches = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert stretches == 2 * [(place.start, place.stop) for place in slices]
    assert axes.get_xlim() == (0, machine.params.flat.size)
    borders = {line.get_xdata()[0] for line in axes.lines}
    assert borders == {place.stop for place in machine.params.group_slices.values()}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sound: gradient", "sound: moved"]
    assert [text.get_text() for text in axes.texts] == ["embedding", "attention", "ff", "ln"]


def test_what_is_filled_is_what_is_not_zero() -> None:
    names = ("embeddings-only-backward", "embeddings-only-update")
    machines = {name: trainer(name) for name in names}
    before = {name: machine.params.flat.copy() for name, machine in machines.items()}
    picture = flat_layout(machines, TOKENS, TARGETS)
    n = len(machines[names[0]].params)
    embeddings, everything = [True] * 2 + [False] * (n - 2), [True] * n
    assert filled(picture) == [embeddings, embeddings, everything, embeddings]
    assert picture.words.splitlines() == [
        "embeddings-only-backward: a gradient in embedding; a step moves embedding.",
        "embeddings-only-update: a gradient in every group; a step moves embedding.",
    ]
    for name, machine in machines.items():
        np.testing.assert_array_equal(machine.params.flat, before[name])


def test_a_part_of_a_group_and_nothing_at_all() -> None:
    zeros = flat_layout({"zeros": trainer(init="zeros")}, TOKENS, TARGETS)
    assert zeros.words == "zeros: a gradient in none; a step moves none."
    assert not np.any(filled(zeros))
    one = flat_layout({"one": trainer("wrong-sign-embeddings")}, TOKENS, TARGETS)
    share = "embedding (1 of 2 tensors)"
    assert one.words == f"one: a gradient in {share}; a step moves {share}."


def test_what_cannot_be_drawn_together_is_refused() -> None:
    with pytest.raises(ValueError, match="trainers is empty"):
        flat_layout({}, TOKENS, TARGETS)
    with pytest.raises(ValueError, match="'a' and 'b' have buffers of different layout"):
        flat_layout({"a": trainer(), "b": trainer(tied=False)}, TOKENS, TARGETS)
