"""Document 004's diagram, measured."""

import re

from cllm_lab.views.diagram import training_diagram
from tests.views.machines import Swap, corpus, machine, trainer

TOKENS = corpus().tokens


def boxes(diagram: str) -> dict[str, str]:
    """What the first line of each box says after its title, and the answers below it."""
    found: dict[str, str] = {}
    title = ""
    for line in diagram.split("\n"):
        text = line.strip(" │")
        if head := re.match(
            r"(Embeddings|Transformer layers \(x \d\)|Attention|Feed-forward|Layer norm)(.*)", text
        ):
            title = head[1]
            found[title] = head[2].strip()
        elif text.startswith("-"):
            found[title] = f"{found[title]} {text}".strip()
    return found


def of(made) -> dict[str, str]:
    return boxes(training_diagram(made, TOKENS[None, :4], TOKENS[None, 1:5]))


def test_a_healthy_step_trains_everything() -> None:
    answers = of(trainer())
    learns = "TRAINABLE - gradients: yes - updates: yes"
    assert answers == {
        "Embeddings": learns,
        "Transformer layers (x 2)": "TRAINABLE",
        "Attention": learns,
        "Feed-forward": learns,
        "Layer norm": learns,
    }


def test_document_004s_machine_trains_its_embeddings_alone() -> None:
    fault = Swap(
        "embeddings-only",
        {"trainable": lambda specs: tuple(spec.name for spec in specs if spec.group == "embedding")},
    )
    answers = of(trainer(faults=(fault,)))
    assert answers["Embeddings"] == "TRAINABLE - gradients: yes - updates: yes"
    for box in ("Attention", "Feed-forward", "Layer norm"):
        assert answers[box] == "NOT TRAINABLE - gradients: yes - updates: no"
    assert answers["Transformer layers (x 2)"] == "NOT TRAINABLE"


def test_trainable_is_not_enough_where_gradients_are_zero() -> None:
    answers = of(trainer(machine(init="zeros")))
    assert set(answers.values()) == {"TRAINABLE", "TRAINABLE - gradients: no - updates: no"}


def test_a_part_of_a_box_is_counted() -> None:
    fault = Swap("some", {"trainable": lambda specs: ("token_embedding", "layers.0.w_qkv")})
    answers = of(trainer(faults=(fault,)))
    assert answers["Embeddings"] == "1 of 2 TRAINABLE - gradients: yes - updates: 1 of 2"
    assert answers["Attention"] == "1 of 8 TRAINABLE - gradients: yes - updates: 1 of 8"
    assert answers["Transformer layers (x 2)"] == "1 of 26 TRAINABLE"


def test_a_machine_without_attention_says_so() -> None:
    assert of(trainer(machine(attention="none")))["Attention"] == "- no tensors"


def test_the_frames_close() -> None:
    diagram = training_diagram(trainer(), TOKENS[None, :4], TOKENS[None, 1:5])
    lines = [line for line in diagram.split("\n") if line[0] in "│┌└"]
    assert {len(line) for line in lines[:5]} == {len(lines[0])}
    assert {len(line) for line in lines[5:]} == {len(lines[5])}
