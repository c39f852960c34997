"""The arms of the lattice, the presets, and the program, in a run of seconds."""

import json
from dataclasses import asdict
from itertools import combinations

import pytest

from cllm_lab.trials import __main__ as program
from cllm_lab.trials import ablation, lattice_report
from cllm_lab.trials.arm import machine, parameter_count, require_arms
from cllm_lab.trials.lattice_arms import ARMS, BASELINE, CONTROLS
from cllm_lab.trials.lattice_report import (
    CORPUS_TRAIN,
    MODEL,
    PRESETS,
    TRAIN,
    VALIDATE_EVERY,
    Preset,
    corpora,
)
from cllm_lab.trials.plan import make_plan
from cllm_lab.trials.result import Ablation
from tests.trials.machines import fixed_costs


def test_every_arm_is_a_machine_of_its_own():
    require_arms(ARMS, BASELINE)
    machines = [machine(arm, 32, MODEL, TRAIN) for arm in (BASELINE, *ARMS)]
    assert all(one != other for one, other in combinations(machines, 2))
    assert all(arm.words for arm in (BASELINE, *ARMS))


def test_controls_destroy_what_their_arms_are_about_and_are_drawn_anew():
    by_name = {arm.name: arm for arm in ARMS}
    for control in CONTROLS:
        assert control.control_of
        drawn = {"token_primes", "token_places"} & set(control.model)
        assert control.seeded == (("lattice_seed",) if drawn else ())
        for name in control.control_of:
            arm = by_name[name]
            if drawn:
                assert {key: value for key, value in control.model.items() if key not in drawn} == arm.model
                assert control.train == arm.train


def test_all_machines_have_the_baselines_parameters():
    full = PRESETS["full"]
    plan = make_plan(
        corpora(), ARMS, BASELINE, MODEL, TRAIN, CORPUS_TRAIN, full.steps, VALIDATE_EVERY, full.seeds,
        full.learning_rates, full.tuning_seeds, True,
    )  # fmt: skip
    assert list(plan.benches) == ["words", "markov", "induction", "text"]
    assert len(plan.seeds) >= 10
    for bench in plan.benches.values():
        wanted = bench.machines[BASELINE.name].parameters
        for one in bench.machines.values():
            assert one.parameters == parameter_count(one.model)
            assert abs(one.parameters - wanted) <= 0.005 * wanted


def test_the_shipped_report_is_of_these_arms_and_of_the_full_preset():
    stored, full = lattice_report.lattice_results().data["settings"], PRESETS["full"]
    assert stored["arms"] == json.loads(json.dumps([asdict(arm) for arm in (BASELINE, *ARMS)]))
    assert (stored["model"], stored["train"]) == (dict(MODEL), dict(TRAIN))
    assert stored["corpus_train"] == {name: dict(settings) for name, settings in CORPUS_TRAIN.items()}
    assert stored["validate_every"] == dict(VALIDATE_EVERY)
    assert (stored["steps"], len(stored["seeds"])) == (full.steps, full.seeds)
    assert (stored["learning_rates"], len(stored["tuning_seeds"])) == (
        list(full.learning_rates),
        full.tuning_seeds,
    )


@pytest.fixture
def tiny(monkeypatch):
    """A preset of seconds: three arms, one of them with its control, on one corpus."""
    monkeypatch.setattr(lattice_report, "VALIDATE_EVERY", {"words": 2})
    tiny = Preset(steps=4, seeds=2, learning_rates=(1e-2,), tuning_seeds=1)
    monkeypatch.setattr(lattice_report, "PRESETS", {"tiny": tiny})
    monkeypatch.setattr(program, "PRESETS", {"tiny": tiny})
    wanted = ("phase", "phase, shuffled primes", "gcd penalty")
    monkeypatch.setattr(lattice_report, "ARMS", [arm for arm in ARMS if arm.name in wanted])
    monkeypatch.setattr(lattice_report, "corpora", lambda: {"words": corpora()["words"]})
    monkeypatch.setattr(lattice_report, "CORPUS_TRAIN", {})
    monkeypatch.setattr(lattice_report, "TRAIN", {**TRAIN, "warmup_steps": 0})
    monkeypatch.setitem(ablation.ablate.__kwdefaults__, "costs", fixed_costs)


def test_the_program_runs_stores_and_resumes(tiny, tmp_path, capsys, monkeypatch):
    arguments = ["--preset", "tiny", "--backend", "sequential", "--folder", str(tmp_path)]
    program.main(arguments)
    said = capsys.readouterr().out
    assert "12 runs of 4 steps" in said
    found = Ablation.from_json(tmp_path / "report.json")
    verdicts = dict(zip(found.table["arm"], found.table["verdict"], strict=True))
    assert verdicts["gcd penalty"] == "identical"
    assert found.controls[["arm", "control"]].values.tolist() == [["phase", "phase, shuffled primes"]]
    assert found.table["strength_mean"].notna().tolist() == [True, False, True]
    elsewhere = tmp_path / "elsewhere.json"
    monkeypatch.setattr(ablation, "run", None)
    program.main([*arguments, "--output", str(elsewhere)])
    assert json.loads(elsewhere.read_text()) == json.loads((tmp_path / "report.json").read_text())


def test_the_program_says_what_is_missing(tiny, tmp_path):
    with pytest.raises(SystemExit, match="needs the address of a running scheduler"):
        program.main(["--preset", "tiny", "--backend", "dask", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit):
        program.main(["--preset", "huge"])
    with pytest.raises(ValueError, match="no preset called 'huge'; there is tiny"):
        lattice_report.lattice_report("huge")
