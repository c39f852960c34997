"""The console lines of the documents, recomputed."""

import re

import numpy as np
import pytest

from cllm_lab.training.parts import Instruments
from tests.training.machines import STEPS_PER_EPOCH, TABLES, Fault, batches_of, make_model, make_trainer

WEIGHTS = re.compile(r"Weight magnitudes: embed=(\d+\.\d{6}), attn=(\d+\.\d{6}), ff=(\d+\.\d{6})")
SAMPLE = re.compile(r"Sample embedding magnitude: (\d+\.\d{6})")
NUMBER = r"(\d\.\d\de[+-]\d\d)"
GRADIENTS = re.compile(rf"Gradients: embed=(\d+) \(max={NUMBER}, avg={NUMBER}\), attn=(\d+) \(max={NUMBER}\)")
LARGEST = re.compile(r"Max gradient magnitude: (\d+\.\d{6})")
EPOCH = re.compile(r"Epoch (\d+): loss = (\d+\.\d{4})")


def lines_of(trainer, **asked):
    lines = []
    trainer.run(**asked, console=lines.append)
    return lines


def of_kind(pattern, lines):
    return [match.groups() for match in map(pattern.fullmatch, lines) if match]


def test_every_line_has_one_of_the_formats_in_its_place():
    lines = lines_of(make_trainer(), steps=12)
    kinds = [WEIGHTS, SAMPLE] + [GRADIENTS, LARGEST, EPOCH] * 2
    assert len(lines) == len(kinds)
    for line, kind in zip(lines, kinds, strict=True):
        assert kind.fullmatch(line)


@pytest.mark.parametrize("table", TABLES)
def test_weights_are_told_once_before_the_first_batch(table):
    model = make_model(table)
    trainer = make_trainer(model)
    lines = lines_of(trainer, steps=3) + lines_of(trainer, steps=9)
    means = [np.abs(model.params.group(group)).mean() for group in ("embedding", "attention", "ff")]
    assert of_kind(WEIGHTS, lines) == [tuple(f"{mean:.6f}" for mean in means)]
    sample = np.abs(model.params["token_embedding"].ravel()[:100]).mean()
    assert of_kind(SAMPLE, lines) == [(f"{sample:.6f}",)]


def test_weights_are_not_told_by_a_run_that_goes_on():
    trainer = make_trainer()
    trainer.run(steps=1)
    assert of_kind(WEIGHTS, lines_of(trainer, steps=1)) == []


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_those_of_every_fifth_step(accumulate):
    """At a learning rate of 0 each step's gradient can be taken again afterwards."""
    trainer = make_trainer(
        make_model(dtype="float64"), learning_rate=0.0, shuffle=False, accumulate=accumulate
    )
    lines = lines_of(trainer, steps=11)
    batches = batches_of(trainer)
    steps = [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]
    gradients, largest = [], []
    for number in (5, 10):
        chosen = steps[(number - 1) % len(steps)]
        tokens = sum(batch.targets.size for batch in chosen)
        total = trainer.params.like()
        for batch in chosen:
            total.flat += trainer.gradients(*batch)[1].flat * (batch.targets.size / tokens)
        embedding, attention = (np.abs(total.group(group)) for group in ("embedding", "attention"))
        gradients.append(
            (
                str(np.count_nonzero(embedding)),
                f"{embedding.max():.2e}",
                f"{embedding.mean():.2e}",
                str(np.count_nonzero(attention)),
                f"{attention.max():.2e}",
            )
        )
        largest.append((f"{embedding.max():.6f}",))
    assert of_kind(GRADIENTS, lines) == gradients
    assert of_kind(LARGEST, lines) == largest
    # Epochs have five batches, so only pairs make steps 5 and 10 fall on different ones.
    assert (gradients[0] == gradients[1]) == (accumulate == 1)


def test_gradients_told_are_those_that_are_followed():
    def rule(training_pass):
        return training_pass.backward().like()

    lines = lines_of(make_trainer(faults=(Fault("none", {"gradient_rule": rule}),)), steps=5)
    assert of_kind(GRADIENTS, lines) == [("0", "0.00e+00", "0.00e+00", "0", "0.00e+00")]


def test_the_loss_of_each_epoch():
    trainer = make_trainer()
    lines = lines_of(trainer, steps=2 * STEPS_PER_EPOCH + 1)
    expected = [(str(n), f"{loss:.4f}") for n, loss in enumerate(trainer.history.epoch_loss, start=1)]
    assert len(expected) == 2
    assert of_kind(EPOCH, lines) == expected


def test_without_a_console_nothing_is_told(capsys):
    make_trainer().run(steps=6)
    assert capsys.readouterr() == ("", "")


def test_what_an_initialisation_announces_is_the_first_line_and_only_once():
    def announced(params, config, seed):
        return "weights drawn"

    lines = []
    trainer = make_trainer(faults=(Fault("announced", {"initialisation": announced}),))
    assert trainer.announcement == "weights drawn"
    trainer.run(steps=1, console=lines.append)
    trainer.run(steps=1, console=lines.append)
    assert lines[0] == "weights drawn"
    assert lines.count("weights drawn") == 1
    assert make_trainer().announcement == ""


def test_the_console_s_gradient_lines_are_those_of_the_instruments():
    instruments = Instruments(
        gradient_statistics=lambda grads: "statistics", max_gradient_magnitude=lambda grads: "largest"
    )
    lines = []
    trainer = make_trainer(faults=(Fault("instruments", {"instruments": instruments}),))
    trainer.run(steps=5, console=lines.append)
    assert lines.count("statistics") == lines.count("largest") == 1
    assert not [line for line in lines if line.startswith(("Gradients", "Max gradient"))]
