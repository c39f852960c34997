"""The whole comparison, small: what was planted is found, whoever does the work, interrupted or not."""

import dataclasses
import json

import numpy as np
import pytest

from cllm_lab.corpus.languages import MarkovLanguage
from cllm_lab.corpus.source import CorpusError
from cllm_lab.model.config import ConfigError
from cllm_lab.trials import ablation
from cllm_lab.trials.ablation import ablate
from cllm_lab.trials.arm import Arm
from cllm_lab.trials.result import Ablation, AblationError
from cllm_lab.trials.store import Store
from tests.trials.machines import LANGUAGE, MODEL, NO_ATTENTION, QUICK, TRAIN, TWIN, fixed_costs, silent

CLOSE = Arm("close", {"norm_epsilon": 1.1e-5}, words="a no-op that moves the last digits")
WILD = Arm(
    "wild", train={"optimizer": "sgd", "clip_norm": None}, model={"init": "constant", "init_value": 1e25}
)
LOUD = Arm("loud", {"norm_epsilon": 0.125})


def compare(arms, corpora=LANGUAGE, **settings):
    common = {**QUICK, "backend": "sequential", "report": silent, "costs": fixed_costs}
    return ablate(corpora, arms, **{**common, **settings})


def rows(found):
    return {row["arm"]: row for row in found.data["rows"]}


@pytest.fixture(scope="module")
def planted():
    """Arms whose effects are known, on the language that cannot be learned without attention."""
    heard = []
    arms = [
        NO_ATTENTION,
        TWIN,
        CLOSE,
        Arm("close to nothing", NO_ATTENTION.model, control_of=("no attention", "close")),
    ]
    settings = {"steps": 100, "validate_every": 25, "seeds": 5, "learning_rates": (1e-4, 1e-2, 1.0)}
    return compare(arms, {"copies": LANGUAGE}, report=heard.append, **settings), heard


def test_a_planted_effect_is_found_and_null_arms_are_not_better(planted):
    found = rows(planted[0])
    assert found["no attention"]["verdict"] == "worse"
    assert found["no attention"]["low"] > 0.1
    assert found["twin"]["verdict"] == "identical"
    assert (found["twin"]["effect"], found["twin"]["p"], found["twin"]["p_corrected"]) == (0.0, 1.0, 1.0)
    assert found["close"]["verdict"] == "no difference shown"
    assert found["close"]["effect"] != 0.0
    assert found["close"]["low"] < 0.0 < found["close"]["high"]


def test_the_planted_best_rate_is_taken(planted):
    for row in (*planted[0].data["rows"], *planted[0].data["baselines"]):
        if "attention" not in row.get("arm", "") and "nothing" not in row.get("arm", ""):
            assert (row["learning_rate"], row["rate_at_edge"]) == (1e-2, None)
    tuning = planted[0].data["tuning"]["copies"]
    assert set(tuning) == {"baseline", "no attention", "twin", "close", "close to nothing"}
    assert [rate for rate, _ in tuning["baseline"]["losses"]] == [1e-4, 1e-2, 1.0]


def test_controls_are_a_family_of_their_own(planted):
    controls = planted[0].controls
    assert controls[["corpus", "arm", "control"]].values.tolist() == [
        ["copies", "no attention", "close to nothing"],
        ["copies", "close", "close to nothing"],
    ]
    assert controls["verdict"].tolist() == ["identical", "better"]
    assert controls["p_corrected"][1] == pytest.approx(2 * controls["p"][1])
    effects = rows(planted[0])
    assert controls["effect"][1] == pytest.approx(
        effects["close"]["effect"] - effects["no attention"]["effect"]
    )


def test_machines_have_equal_parameters_and_their_counts_are_reported(planted):
    found = rows(planted[0])
    wanted = found["twin"]["parameters"]
    assert wanted == found["no attention"]["parameters_baseline"]
    assert 0 < abs(found["no attention"]["parameters"] - wanted) <= 0.005 * wanted
    assert found["no attention"]["d_ff"] > found["twin"]["d_ff"] == 4 * MODEL["d_model"]
    as_given = compare([NO_ATTENTION], same_parameters=False, steps=5)
    assert rows(as_given)["no attention"]["d_ff"] == 4 * MODEL["d_model"]


def test_equal_time_is_read_from_the_curves_and_the_costs(planted):
    twin = rows(planted[0])["twin"]
    assert (twin["cost"], twin["cost_as_run"]) == (1.5, 0.5)
    # One and a half times as slow: two thirds of the steps. Twice as fast: the baseline gets half of them.
    curve = dict(planted[0].data["curves"]["copies"]["baseline"])
    assert list(curve) == [0, 25, 50, 75, 100]
    assert curve[50] - curve[100] > twin["time_effect"] > curve[75] - curve[100]
    assert twin["as_run_effect"] == pytest.approx(curve[100] - curve[50], abs=0.02)
    assert twin["time_effect"] > 0.0 > twin["as_run_effect"]
    # As alike as its losses are: at equal time a machine that costs more is another one.
    assert (twin["verdict"], twin["time_verdict"]) == ("identical", "worse")
    assert (twin["steps_ratio"], twin["reached"]) == (1.0, twin["baseline_reached"])
    assert rows(planted[0])["no attention"]["reached"] == 0
    assert rows(planted[0])["no attention"]["steps_ratio"] is None


def test_it_goes_through_a_file(planted, tmp_path):
    found = planted[0]
    path = tmp_path / "found.json"
    text = found.to_json(path)
    assert path.read_text(encoding="utf-8") == text
    for again in (Ablation.from_json(text), Ablation.from_json(path)):
        assert again.table.equals(found.table)
        assert again.controls.equals(found.controls)
        assert again.baselines.equals(found.baselines)
        assert again.to_json() == text
    assert len(found.table) == 4
    assert json.loads(text)["settings"]["tuning_seeds"] == [1_000_000]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "cllm_lab-ablation", "version": 0}'])
def test_what_is_no_comparison(text):
    with pytest.raises(AblationError, match=r"no comparison of cllm_lab|expected cllm_lab-ablation"):
        Ablation.from_json(text)


def loud(monkeypatch):
    """Makes every run of LOUD one that is not finite even before its first step."""
    run = ablation.run

    def spoilt(description):
        found = run(description)
        if description["model"]["norm_epsilon"] == LOUD.model["norm_epsilon"]:
            found |= {"validation": [], "diverged": {"step": 0, "what": "validation loss"}}
        return found

    monkeypatch.setattr(ablation, "run", spoilt)


def test_an_arm_that_diverges_stops_nothing(monkeypatch):
    heard = []
    loud(monkeypatch)
    found = compare([WILD, LOUD, TWIN], report=heard.append)
    table = rows(found)
    assert table["wild"]["diverged"] == 2
    assert any("'wild'" in line and "diverged at step" in line for line in heard)
    assert table["twin"]["verdict"] == "identical"
    assert table["loud"]["verdict"] == "diverged"
    assert table["loud"]["effect"] is None
    found.to_json()


def test_a_baseline_that_is_not_finite_is_refused(monkeypatch):
    loud(monkeypatch)
    with pytest.raises(ValueError, match="the baseline is not finite before its first step on 'corpus'"):
        compare([TWIN], baseline=dataclasses.replace(LOUD, name="baseline"))


def test_what_is_drawn_is_drawn_anew_for_each_pair(monkeypatch):
    described = []
    run = ablation.run
    monkeypatch.setattr(ablation, "run", lambda one: (described.append(one), run(one))[1])
    drawn = {"attention_bias": "phase", "token_primes": "shuffled"}
    found = compare([Arm("drawn", drawn, seeded="lattice_seed")], seeds=(4, 7), steps=5)
    seeds = {(one["model_seed"], one["train_seed"], one["model"]["lattice_seed"]) for one in described}
    assert seeds == {(4, 4, 0), (7, 7, 0), (4, 4, 4), (7, 7, 7), (1_000_000, 1_000_000, 0)} | {
        (1_000_000, 1_000_000, 1_000_000)
    }
    row = rows(found)["drawn"]
    assert row["strength_start"] == 1.0
    assert row["strength_min"] < row["strength_mean"] < row["strength_max"]


def counting(monkeypatch):
    made = []
    run = ablation.run

    def counted(description):
        made.append(description)
        return run(description)

    monkeypatch.setattr(ablation, "run", counted)
    return made


class InterruptedError_(Exception):
    """What stops a report in the middle."""


def test_an_interrupted_comparison_goes_on_where_it_stood(tmp_path, monkeypatch):
    made = counting(monkeypatch)
    expected = compare([NO_ATTENTION])
    total = len(made)
    assert total == 2 * (2 + 2)
    counted, kept = ablation.run, 5

    def stopping(description):
        if len(made) == total + kept:
            raise InterruptedError_
        return counted(description)

    monkeypatch.setattr(ablation, "run", stopping)
    with pytest.raises(InterruptedError_):
        compare([NO_ATTENTION], folder=tmp_path)
    monkeypatch.setattr(ablation, "run", counted)
    made.clear()
    resumed = compare([NO_ATTENTION], folder=tmp_path)
    assert len(made) == total - kept
    assert resumed.data == expected.data
    made.clear()
    assert compare([NO_ATTENTION], folder=tmp_path).data == expected.data
    assert made == []


def test_measured_costs_are_kept_with_what_measured_them(tmp_path, monkeypatch):
    measured = []

    def measure(*given):
        measured.append(given)
        return fixed_costs(*given)

    def measurements(costs=measure):
        before = len(measured)
        compare([TWIN], folder=tmp_path, steps=5, costs=costs)
        return len(measured) - before

    monkeypatch.setattr(ablation, "cost_ratios", measure)
    assert (measurements(), measurements()) == (1, 0)
    assert measurements(lambda *given: measure(*given)) == 1
    changed = tmp_path / "cost.py"
    changed.write_text("another way of measuring", encoding="utf-8")
    monkeypatch.setattr(ablation.cost, "__file__", str(changed))
    assert (measurements(), measurements()) == (1, 0)


def test_a_damaged_result_is_said_and_made_again(tmp_path, monkeypatch):
    expected = compare([NO_ATTENTION], folder=tmp_path)
    made, heard = counting(monkeypatch), []
    victim = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:100])
    assert compare([NO_ATTENTION], folder=tmp_path, report=heard.append).data == expected.data
    assert len(made) == 1
    assert sum("damaged" in line for line in heard) == 1


def test_equal_runs_are_made_once(monkeypatch):
    made = counting(monkeypatch)
    compare([TWIN, dataclasses.replace(TWIN, name="triplet")])
    assert len(made) == 2 + 2


def test_corpora_have_settings_of_their_own():
    corpora = {"copies": LANGUAGE, "chain": MarkovLanguage(n_symbols=4, n_tokens=513)}
    found = compare([TWIN], corpora, corpus_train={"chain": {"batch_size": 2}}, steps=5)
    assert found.table["corpus"].tolist() == ["copies", "chain"]
    assert found.data["settings"]["corpus_train"] == {"chain": {"batch_size": 2}}
    assert found.baselines["held_out"].tolist() == [256 - 1, 128 - 1]
    often = compare([TWIN], corpora, steps=4, validate_every={"copies": 4, "chain": 2})
    steps = {name: [step for step, _ in curve["baseline"]] for name, curve in often.data["curves"].items()}
    assert steps == {"copies": [0, 4], "chain": [0, 2, 4]}
    other = compare([TWIN], corpora, steps=5)
    assert other.data["lowest"]["copies"] == found.data["lowest"]["copies"]
    assert other.data["lowest"]["chain"] != found.data["lowest"]["chain"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"seeds": 1}, ConfigError, "seeds must be at least 2"),
        ({"seeds": (3, 3)}, ConfigError, "seeds must be at least 2, all different"),
        ({"tuning_seeds": (1,)}, ConfigError, "tuning_seeds must be other seeds"),
        ({"steps": 0}, ConfigError, "steps must be a whole number of at least 1"),
        ({"learning_rates": ()}, ConfigError, "learning_rates must be one or more"),
        ({"corpus_train": {"pydoc": {}}}, ConfigError, "corpus_train only those"),
        ({"train": {"sequence_length": 99}}, ConfigError, "sequence_length=99 is above"),
        ({"train": {**TRAIN, "validation_fraction": 0.0}}, CorpusError, "validation_fraction=0"),
        ({"backend": "threads"}, ConfigError, "backend must be one of 'loky'"),
        ({"model": {"d_modle": 3}}, ConfigError, "has no field d_modle"),
        (
            {"train": {**TRAIN, "learning_rate": 0.5}},
            ConfigError,
            "learning_rate=0.5 is set by .* learning_rates",
        ),
        ({"train": {**TRAIN, "seed": 7}}, ConfigError, "seed=7 is set by the comparison; give it seeds"),
        ({"train": {**TRAIN, "validate_every": 1}}, ConfigError, "give it validate_every"),
        (
            {"arms": [Arm("wide", {"d_ff": 512})]},
            ConfigError,
            "'wide': d_ff=512 .* give same_parameters=False",
        ),
        (
            {"validate_every": {"chain": 5}},
            ConfigError,
            "validate_every must be a number of steps, or one for each",
        ),
        ({"n_jobs": 0, "backend": "loky"}, ConfigError, "n_jobs must be a number of processes"),
        ({"n_jobs": 2}, ConfigError, "n_jobs=2 belongs to backend='loky'; got 'sequential'"),
        (
            {"arms": [Arm("odd", {"d_model": 15, "n_heads": 3}, {"symmetry_penalty": 1.0})]},
            ConfigError,
            "'odd': symmetry_penalty=1.0 turns",
        ),
        ({"model": {**MODEL, "d_model": np.int64(16)}}, ConfigError, "settings must be plain"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(settings, error, message, monkeypatch):
    made = counting(monkeypatch)
    with pytest.raises(error, match=message):
        compare(settings.pop("arms", [TWIN]), **settings)
    assert made == []


def test_the_store_is_the_one_of_the_folder(tmp_path):
    compare([TWIN], folder=tmp_path / "new" / "place", steps=5)
    assert len(list(Store(tmp_path / "new" / "place").folder.glob("*.json"))) == 2 + 2
