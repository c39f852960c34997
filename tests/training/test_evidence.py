"""The long runs: small twins run here, and the stored results are held against their own figures."""

import json
import math
from dataclasses import replace

import pytest

import cllm_lab as lab
from cllm_lab.provenance import PACKAGES
from cllm_lab.training import evidence as module

SMALL = replace(module.DOCUMENTS_MODEL, d_model=16, n_heads=2, n_layers=1, d_ff=32)


def test_a_small_twin_of_the_documents_run_starts_at_ln_v_and_falls() -> None:
    lines: list[str] = []
    result = module.documents_size(module.DOCUMENTS_ADAM, lines.append, model=SMALL, epochs=2)
    assert len(result["step_loss"]) == 22
    assert len(lines) == len(result["epoch_loss"]) == 2
    assert result["epoch_loss"][1] < result["epoch_loss"][0]
    assert result["checks"] == {"the first step is within 1 % of ln V": True}
    assert math.isclose(result["plateaus"]["uniform"], math.log(10_000))


def test_a_small_twin_of_the_character_run_has_both_arms() -> None:
    small = replace(module.CHARACTER_MODEL, d_model=16, n_heads=2, n_layers=1)
    result = module.character_model(lambda line: None, model=small, steps=3)
    assert len(result["with_attention"]["step_loss"]) == 3
    assert result["with_attention"]["validation_loss"] != result["without_attention"]["validation_loss"]
    # Three steps teach nothing: the verdict must say so.
    assert result["checks"]["validation loss under the split's own bigram entropy"] is False


@pytest.mark.parametrize(("epoch", "target"), [(10, 5.0), (26, 3.2456)])
def test_each_promise_is_judged_by_its_own_epoch(epoch: int, target: float) -> None:
    losses = [9.0] * 26
    result = {"model": {"vocab_size": 10_000}, "step_loss": [math.log(10_000)], "epoch_loss": losses}

    def verdict() -> bool:
        [(_, holds)] = [
            item for item in module.judge_documents(result).items() if f" {epoch} epochs" in item[0]
        ]
        return holds

    assert not verdict()
    losses[epoch - 1] = target
    assert verdict()
    losses[epoch - 1] = math.nan
    assert not verdict()


def test_the_first_step_is_judged_within_one_per_cent() -> None:
    for first, expected in ((math.log(10_000) * 1.009, True), (math.log(10_000) * 0.989, False)):
        result = {"model": {"vocab_size": 10_000}, "step_loss": [first], "epoch_loss": []}
        assert list(module.judge_documents(result).values()) == [expected]


@pytest.mark.parametrize("name", list(module.EXPERIMENTS))
def test_stored_verdicts_follow_from_stored_figures(name: str) -> None:
    result = lab.evidence(name)
    judge = module.judge_characters if name == "character" else module.judge_documents
    assert result["checks"] == judge(result)
    assert set(PACKAGES) <= set(result["versions"])
    assert result["train"]["seed"] == 0


def test_stored_runs_are_of_the_documents_size() -> None:
    for name in ("documents-adam", "documents-sgd"):
        result = lab.evidence(name)
        assert lab.ModelConfig(**result["model"]) == module.DOCUMENTS_MODEL
        assert len(result["epoch_loss"]) == module.DOCUMENTS_EPOCHS


def test_unknown_evidence_names_what_there_is() -> None:
    with pytest.raises(ValueError, match="documents-adam, documents-sgd, character"):
        lab.evidence("documents")
    with pytest.raises(SystemExit, match="documents-adam"):
        module.main(["nonsense"])


def test_collect_stores_what_was_measured(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "EXPERIMENTS", {"tiny": lambda report: {"checks": {"x": True}, "loss": 1.5}})
    path = module.collect("tiny", tmp_path, lambda line: None)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["loss"] == 1.5
    assert stored["machine"]["cores"] >= 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["evidence_tiny.json"]
