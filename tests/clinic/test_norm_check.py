"""The check of a layer norm alone: what it sees at a random point, and what it does not at the natural one."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.faults.catalogue import catalogue

SETTINGS = {"vocab_size": 7, "context_length": 4, "d_model": 8, "n_heads": 2, "n_layers": 1}
TERM_DROPPED = catalogue()["layer-norm-backward-term-dropped"].swaps["norm"]


def machine(table: str = "reference", **settings: object) -> lab.Transformer:
    return lab.Transformer(lab.ModelConfig(**SETTINGS, **settings), seed=0, parts=getattr(lab.parts, table))


@pytest.mark.parametrize("table", ["reference", "fast"])
@pytest.mark.parametrize("attention", ["multi-head", "none"])
def test_a_sound_norm_passes_at_both_points(table: str, attention: str) -> None:
    sound = machine(table, attention=attention)
    assert lab.norm_check(sound, "natural") < 1e-8
    assert lab.norm_check(sound, "random") < 1e-8


@pytest.mark.parametrize("table", ["reference", "fast"])
@pytest.mark.parametrize("seed", range(3))
def test_a_missing_term_hides_at_the_natural_point_alone(table: str, seed: int) -> None:
    broken = machine(table).swapped(norm=TERM_DROPPED)
    assert lab.norm_check(broken, "natural", seed) < 1e-8
    assert lab.norm_check(broken, "random", seed) > 1e-2


def test_gamma_and_the_seed_count_at_the_random_point() -> None:
    def no_gamma(dy: np.ndarray, site: object) -> np.ndarray:
        return norm.backward(dy / site.params["gamma"], site)

    norm = machine().parts.norm
    broken = machine().swapped(norm=lab.parts.Part("no-gamma", norm.forward, no_gamma))
    assert lab.norm_check(broken, "natural") < 1e-8
    assert lab.norm_check(broken, "random") > 1e-2
    assert lab.norm_check(broken, "random", 0) != lab.norm_check(broken, "random", 1)


def test_a_trainer_is_taken_with_its_faults_and_nothing_changes() -> None:
    text = lab.InductionLanguage(n_symbols=3)
    model = lab.Transformer(lab.ModelConfig(**{**SETTINGS, "vocab_size": text.vocab_size}), seed=0)
    trainer = lab.Trainer(
        model, text, lab.TrainConfig(sequence_length=4), faults=["layer-norm-backward-term-dropped"]
    )
    before = trainer.params.flat.copy()
    assert lab.norm_check(trainer) > 1e-2
    np.testing.assert_array_equal(before, trainer.params.flat)


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(TypeError, match="machine must be a Transformer or a Trainer; got dict"):
        lab.norm_check({})
    with pytest.raises(ValueError, match="point must be one of 'natural', 'random'; got 'here'"):
        lab.norm_check(machine(), "here")
    with pytest.raises(ValueError, match="seed"):
        lab.norm_check(machine(), seed=-1)
