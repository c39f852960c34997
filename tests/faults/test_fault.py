"""A fault's trainers and its source as a diff, scenarios, and the façade's trainer, which takes ids."""

from __future__ import annotations

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.corpus.languages import MarkovLanguage
from cllm_lab.faults import Fault, Scenario, catalogue
from cllm_lab.faults.catalogue import resolve
from cllm_lab.faults.fault import COPYING
from cllm_lab.model import parts
from cllm_lab.model.parts import Part, PartEdit
from cllm_lab.training import trainer as engine
from cllm_lab.training.checkpoint import CheckpointError
from cllm_lab.training.parts import given_weights

SMALL = Scenario(
    model={"d_model": 8, "n_layers": 1, "context_length": 8},
    train={"sequence_length": 8, "batch_size": 2, "learning_rate": 1e-2},
    corpus=lambda: MarkovLanguage(n_symbols=5, n_tokens=50),
    epochs=1,
)
ABOUT = {"title": "t", "source": "s", "symptom": "y", "signature": "g", "remedy": "r"}


def tripled(x, branch, site):
    """y = x + 3 branch."""
    return x + branch + branch + branch


def silent(params, config, seed):
    """Announces nothing and does nothing."""
    return ""


TRIPLED = Fault("tripled", swaps={"residual": PartEdit("tripled", forward=tripled)}, scenario=SMALL, **ABOUT)
BOTH = Fault(
    "both",
    swaps={"residual": PartEdit("tripled", forward=tripled), "initialisation": silent},
    scenario=SMALL,
    takes_effect="reset",
    **ABOUT,
)


# Scenarios and trainers.


def test_a_scenario_makes_the_settings_and_the_corpus_that_it_names():
    trainer = SMALL.trainer(seed=4, dtype="float64", parts=parts.reference)
    assert trainer.model.config == lab.ModelConfig(vocab_size=5, d_model=8, n_layers=1, context_length=8)
    assert trainer.config == lab.TrainConfig(sequence_length=8, batch_size=2, learning_rate=1e-2, seed=4)
    assert trainer.corpus == MarkovLanguage(n_symbols=5, n_tokens=50)
    assert (trainer.model.seed, trainer.model.dtype, trainer.model.table) == (4, "float64", parts.reference)
    assert trainer.faults == () and trainer.steps_done == 0


def test_what_a_scenario_names_goes_before_what_it_would_be():
    scenario = Scenario(model={"vocab_size": 700}, train={"seed": 9})
    assert scenario.model_config(scenario.corpus()).vocab_size == 700
    assert scenario.trainer(seed=1).config.seed == 9
    assert Scenario().model_config(Scenario().corpus()).vocab_size == lab.load_corpus("large").vocab_size


def test_copying_tells_the_floor_from_the_plateau():
    corpus = COPYING.corpus()
    assert corpus.plateaus().bigram == pytest.approx(np.log(8))
    assert corpus.floor(COPYING.trainer().config.sequence_length) == pytest.approx(np.log(8) / 2)


def test_a_sound_machine_comes_near_the_floor_of_copying():
    trainer = COPYING.trainer()
    last = trainer.run(epochs=COPYING.epochs).epoch_loss[-1]
    assert abs(last - np.log(8) / 2) < 0.05


def test_broken_and_healthy_differ_by_the_fault_alone():
    choices = {"seed": 3, "dtype": "float64", "parts": parts.reference}
    broken, healthy = TRIPLED.broken(**choices), TRIPLED.healthy(**choices)
    assert broken.faults == (TRIPLED,) and healthy.faults == ()
    assert (broken.params.flat == healthy.params.flat).all()
    assert broken.config == healthy.config
    assert broken.model.parts == healthy.model.parts.replace(**TRIPLED.swaps)
    assert broken.model.parts.residual == Part("tripled", tripled, healthy.model.parts.residual.backward)
    assert broken.loss([[0, 1]], [[1, 2]]) != healthy.loss([[0, 1]], [[1, 2]])


def test_takes_effect_is_one_of_three():
    with pytest.raises(
        ValueError, match=r"takes_effect must be one of \('step', 'reset', 'new run'\); got 'now'"
    ):
        Fault("late", swaps={}, takes_effect="now", **ABOUT)


def test_part_names_the_slots():
    assert BOTH.part == "residual, initialisation"


# The source as a diff.


def test_the_difference_has_the_swapped_half_alone():
    text = str(TRIPLED.show_diff())
    assert text.splitlines()[:2] == ["--- residual.forward (healthy)", "+++ residual.forward (tripled)"]
    assert "-def residual_forward(x: Array, branch: Array, site: Site) -> Array:" in text
    assert "+    return x + branch + branch + branch" in text
    assert "backward" not in text


def test_a_slot_of_the_training_step_is_compared_too():
    text = str(BOTH.show_diff())
    assert text.startswith("--- residual.forward (healthy)")
    assert "\n--- initialisation (healthy)\n+++ initialisation (both)\n" in text
    assert f"-def {given_weights.__name__}(" in text
    assert "+def silent(params, config, seed):" in text


def test_a_backward_where_there_was_one_is_compared_to_the_healthy_one():
    text = str(catalogue()["strided-heads"].show_diff())
    assert "--- heads.forward (healthy)" in text and "--- heads.backward (healthy)" in text
    assert "-    return np.stack(dqkv).transpose(1, 3, 0, 2, 4).reshape(B, T, 3 * H * D)" in text


def test_a_line_that_stays_is_shown_without_a_mark():
    text = str(catalogue()["softmax-wrong-axis"].show_diff())
    assert '\n     site.saved["weights"] = weights\n' in text
    assert "\n+    weights = exponentials / exponentials.sum(axis=-2, keepdims=True)\n" in text


def test_the_difference_is_coloured_where_markdown_is_shown():
    found = TRIPLED.show_diff()
    assert repr(found) == str(found)
    assert found._repr_markdown_() == f"```diff\n{found}\n```"


# Ids.


def test_resolve_finds_ids_and_leaves_objects():
    assert resolve(["query-zero", TRIPLED]) == (catalogue()["query-zero"], TRIPLED)
    assert resolve(()) == ()


@pytest.mark.parametrize(
    "wrong, meant",
    [
        ("doubled-atention", "did you mean 'doubled-attention'"),
        ("strided heads", "did you mean 'strided-heads'"),
    ],
)
def test_an_unknown_id_names_the_nearest(wrong, meant):
    with pytest.raises(ValueError) as caught:
        resolve([wrong])
    assert str(caught.value).startswith(f"no fault {wrong!r}; {meant}")
    assert str(caught.value).endswith("? lab.faults.catalogue() lists them all")


def test_an_id_like_no_other_is_refused_without_a_guess():
    with pytest.raises(ValueError) as caught:
        resolve(["0123456789"])
    assert str(caught.value) == "no fault '0123456789'; lab.faults.catalogue() lists them all"


def facade_trainer(*faults, **choices):
    healthy = SMALL.trainer(**choices)
    return lab.Trainer(healthy.model, healthy.corpus, healthy.config, faults)


def test_the_facade_takes_ids_and_objects_together():
    trainer = facade_trainer("query-zero", TRIPLED)
    assert isinstance(trainer, engine.Trainer)
    assert trainer.faults == (catalogue()["query-zero"], TRIPLED)
    assert trainer.model.swapped_slots() == ("residual", "heads")


@pytest.mark.parametrize("alone", ["query-zero", catalogue()["query-zero"]])
def test_a_fault_that_is_not_in_a_sequence_is_refused(alone):
    healthy = SMALL.trainer()
    with pytest.raises(TypeError, match=r"faults must be a sequence of fault objects; got .* alone"):
        lab.Trainer(healthy.model, healthy.corpus, healthy.config, faults=alone)


def test_the_facade_refuses_an_unknown_id():
    with pytest.raises(ValueError, match="no fault 'query-zeros'; did you mean 'query-zero'"):
        facade_trainer("query-zeros")


# Checkpoints.


def steps(trainer, n):
    return [record.loss for record in trainer.run(steps=n)]


@pytest.mark.parametrize("table", ["reference", "fast"])
def test_a_saved_trainer_goes_on_with_its_faults(tmp_path, table):
    trainer = facade_trainer("query-zero", "tied-gradient-dropped", parts=getattr(parts, table))
    steps(trainer, 2)
    trainer.save(tmp_path / "run.safetensors")
    again = lab.Trainer.load(tmp_path / "run.safetensors")
    assert type(again) is lab.Trainer
    assert again.faults == trainer.faults
    assert steps(again, 3) == steps(trainer, 3)
    assert again.params.flat.tobytes() == trainer.params.flat.tobytes()


def test_a_fault_that_draws_the_weights_does_not_draw_them_again(tmp_path):
    trainer = facade_trainer("vanishing-gradient")
    steps(trainer, 2)
    trainer.save(tmp_path / "run.safetensors")
    again = lab.Trainer.load(tmp_path / "run.safetensors")
    assert again.params.flat.tobytes() == trainer.params.flat.tobytes()
    assert again.announcement == trainer.announcement != ""


def test_faults_may_be_given_to_load_by_id_but_no_others(tmp_path):
    path = tmp_path / "run.safetensors"
    facade_trainer("query-zero").save(path)
    assert lab.Trainer.load(path, faults=["query-zero"]).faults == (catalogue()["query-zero"],)
    with pytest.raises(
        CheckpointError, match=r"was saved with faults \['query-zero'\]; got \['strided-heads'\]"
    ):
        lab.Trainer.load(path, faults=["strided-heads"])
    with pytest.raises(CheckpointError, match=r"was saved with faults \['query-zero'\]; got \[\]"):
        lab.Trainer.load(path, faults=())


def test_a_checkpoint_with_a_fault_of_ones_own_needs_it_back(tmp_path):
    path = tmp_path / "run.safetensors"
    facade_trainer(TRIPLED).save(path)
    with pytest.raises(ValueError, match="no fault 'tripled'"):
        lab.Trainer.load(path)
    assert lab.Trainer.load(path, faults=[TRIPLED]).faults == (TRIPLED,)


def test_faults_come_and_go_by_id_in_a_scenario_too():
    trainer = catalogue()["doubled-attention"].healthy()
    trainer.at(2, faults=("wrong-sign", catalogue()["query-zero"]))
    with pytest.raises(ValueError, match="no fault 'wrong-sing'; did you mean 'wrong-sign'"):
        trainer.at(3, faults=("wrong-sing",))
    steps(trainer, 2)
    assert [fault.id for fault in trainer.faults] == ["wrong-sign", "query-zero"]
