"""The sheet holds what document 001 asks for, names no fault, and leaves the trainer as it was."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.evidence_sheet import EvidenceSheet, evidence_sheet, next_batch
from cllm_lab.model.parts import reference
from cllm_lab.training import diagnostics
from cllm_lab.training.parts import Instruments


@dataclass(frozen=True)
class Planted:
    id: str
    swaps: dict


def a_trainer(faults=(), steps=0, corpus=None, **settings):
    corpus = corpus or lab.load_corpus("large")
    config = lab.ModelConfig(vocab_size=corpus.vocab_size, d_model=8, n_heads=2, n_layers=1)
    train = lab.TrainConfig(**{"batch_size": 8, **settings})
    trainer = lab.Trainer(lab.Transformer(config, parts=reference), corpus, train, faults)
    if steps:
        trainer.run(steps=steps, progress=False)
    return trainer


def bits(trainer):
    state = trainer.state()
    return {name: array.tobytes() for name, array in state.arrays.items()}, replace(state, arrays={})


def section(sheet, title):
    lines = sheet.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(title)) + 1
    return [line.strip() for line in lines[start : [*lines, ""].index("", start)]]


def test_it_holds_the_list_of_document_001():
    trainer = a_trainer(steps=12)
    sheet = evidence_sheet(trainer)
    assert isinstance(sheet, str) and repr(sheet) == sheet
    _, grads = trainer.gradients(*next_batch(trainer))
    console = section(sheet, "1. Console output")
    assert diagnostics.weight_magnitudes(trainer.params) in console
    assert diagnostics.gradient_statistics(grads) in console
    assert diagnostics.max_gradient_magnitude(grads) in console
    losses = section(sheet, "2. Loss values")
    assert losses[0] == f"12 steps done, {len(trainer.history.epoch_loss)} epochs complete"
    assert losses[1] == "epochs: " + " ".join(f"{loss:.4f}" for loss in trainer.history.epoch_loss)
    assert len(trainer.history.epoch_loss) == 2
    weights = dict(line.split(maxsplit=1) for line in section(sheet, "3. Weight magnitudes"))
    assert set(trainer.params) <= set(weights)
    assert float(weights["layers.0.w_ff1"]) == pytest.approx(
        np.abs(trainer.params["layers.0.w_ff1"]).mean(), rel=0.01
    )
    gradients = dict(line.split(maxsplit=1) for line in section(sheet, "4. Gradient magnitudes"))
    assert float(gradients["[ff]"]) == pytest.approx(np.abs(grads.group("ff")).max(), rel=0.01)
    assert section(sheet, "5. Errors") == ["none in the next step"]
    levels = trainer.corpus.plateaus(trainer.model.config.vocab_size, 32)
    assert f"bigram {levels.bigram:.4f}, positional {levels.positional:.4f}" in sheet
    assert f"cllm_lab {lab.__version__}" in sheet and f"numpy {np.__version__}" in sheet
    assert "learning_rate 0.001" in sheet and "d_model 8" in sheet


@pytest.mark.parametrize("steps", [0, 3])
def test_the_trainer_is_left_as_it_was(steps):
    trainer, twin = a_trainer(steps=steps), a_trainer(steps=steps)
    before = bits(trainer)
    sheet = evidence_sheet(trainer)
    assert bits(trainer) == before
    assert evidence_sheet(twin) == sheet
    trainer.run(steps=2, progress=False)
    twin.run(steps=2, progress=False)
    assert trainer.params.flat.tobytes() == twin.params.flat.tobytes()


def test_the_next_batch_is_the_one_that_the_trainer_takes():
    for steps in (0, 2, 4, 5):
        trainer = a_trainer(steps=steps)
        twin = a_trainer(steps=steps)
        trainer.step(*next_batch(trainer))
        next(twin.steps())
        assert trainer.params.flat.tobytes() == twin.params.flat.tobytes()


def test_an_error_of_the_next_step_is_written_down():
    trainer = a_trainer()
    trainer.params["layers.0.w_out"][0, 0] = math.nan
    (line,) = section(evidence_sheet(trainer), "5. Errors")
    assert line.startswith("NonFiniteError: step 1") and "layers.0" in line
    assert "1 not finite" in evidence_sheet(trainer)


def test_any_other_error_comes_through():
    def broken(norm, clip_norm):
        raise RuntimeError("the clipping is broken")

    with pytest.raises(RuntimeError, match="the clipping is broken"):
        evidence_sheet(a_trainer([Planted("broken", {"clipping": broken})]))


def test_faults_are_not_named_but_their_console_is_heard():
    announced = Planted("liar", {"initialisation": lambda params, config, seed: "Initialising the lattice"})
    deaf = Planted("deaf", {"instruments": Instruments(max_gradient_magnitude=lambda grads: "all is well")})
    sheet = evidence_sheet(a_trainer([announced, deaf, "doubled-attention"]))
    assert section(sheet, "1. Console output")[0] == "Initialising the lattice"
    assert section(sheet, "1. Console output")[-1] == "all is well"
    assert not any(name in sheet for name in ("liar", "deaf", "doubled"))


def test_tensors_without_gradient_are_seen():
    gradients = section(evidence_sheet(a_trainer(["doubled-attention"])), "4. Gradient magnitudes")
    assert "layers.0.w_qkv      0.00e+00, 100% exactly 0" in gradients


def test_no_path_is_told(tmp_path):
    path = tmp_path / "a_secret_place.txt"
    path.write_text("the sky is blue and the sea is green " * 30, encoding="utf-8")
    sheet = evidence_sheet(a_trainer(corpus=lab.load_corpus(str(path))))
    assert "secret" not in sheet and str(tmp_path) not in sheet


def test_many_losses_are_shortened():
    trainer = a_trainer(steps=15)
    steps = section(evidence_sheet(trainer), "2. Loss values")[-1]
    shown = [f"{loss:.4f}" for loss in trainer.history.losses]
    assert steps == f"steps: {' '.join(shown[:6])} ... 3 more ... {' '.join(shown[-6:])}"


def test_saved_whole(tmp_path):
    sheet = EvidenceSheet("größe\n")
    sheet.save(tmp_path / "sheet.txt")
    assert (tmp_path / "sheet.txt").read_text(encoding="utf-8") == "größe\n"
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.txt"]
    with pytest.raises(OSError):
        sheet.save(tmp_path / "nowhere" / "sheet.txt")


def test_only_a_trainer_has_one():
    with pytest.raises(TypeError, match="must be a Trainer"):
        evidence_sheet(object())
