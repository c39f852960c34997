"""Mysteries are drawn in their shares, hide what they are, and judge a commitment once."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic import mystery as room
from cllm_lab.clinic.mystery import SHARES, Mystery, MysteryTrainer, mystery, takes_part
from cllm_lab.clinic.subject import require_subject
from cllm_lab.faults.fault import Fault
from cllm_lab.resources import notebooks_path

SEEDS = range(60)


@pytest.fixture(scope="module")
def drawn():
    return {seed: mystery(seed)._truth for seed in SEEDS}


def first_of(drawn, n):
    return next(seed for seed, truth in drawn.items() if len(truth) == n)


def test_the_shares(drawn):
    counts = Counter(map(len, drawn.values()))
    for n, share in enumerate(SHARES):
        # Four standard errors of a share of this many draws.
        assert abs(counts[n] / len(SEEDS) - share) < 4 * (share * (1 - share) / len(SEEDS)) ** 0.5


def test_equal_seeds_give_equal_mysteries(drawn):
    assert all(mystery(seed)._truth == drawn[seed] for seed in range(10))
    a, b = mystery(3), mystery(3)
    assert np.array_equal(a.batch().inputs, b.batch().inputs)
    assert a.trainer.params.flat.tobytes() == b.trainer.params.flat.tobytes()
    assert len(set(drawn.values())) > 10


def test_two_faults_lie_in_different_slots_and_both_show(drawn):
    for truth in drawn.values():
        if len(truth) == 2:
            slots = [set(lab.faults.catalogue()[name].swaps) for name in truth]
            assert not slots[0] & slots[1]
            assert all(room._differs(truth, (name,)) for name in truth)


def test_every_fault_drawn_shows(drawn):
    for name in {name for truth in drawn.values() for name in truth}:
        assert takes_part(name)


def test_a_fault_that_does_nothing_here_takes_no_part(monkeypatch):
    def same_clipping(norm, clip_norm):
        return 1.0 if clip_norm is None else min(1.0, clip_norm / (norm + 1e-6))

    def half_rate(step, config, total_steps):
        return 0.5 * config.learning_rate

    def no_stream(corpus, validation_fraction, epoch):
        raise ValueError("nothing to read")

    planted = {
        "same": Fault("same", "", {"clipping": same_clipping}, "", "", "", ""),
        "no-stream": Fault("no-stream", "", {"stream": no_stream}, "", "", "", ""),
        "silent": Fault("silent", "", {"initialisation": lambda params, config, seed: ""}, "", "", "", ""),
        "loud": Fault("loud", "", {"initialisation": lambda params, config, seed: "Done!"}, "", "", "", ""),
        "half": Fault("half", "", {"schedule": half_rate}, "", "", "", ""),
    }
    monkeypatch.setattr(room, "resolve", lambda names: tuple(planted[name] for name in names))
    room._behaviour.cache_clear()
    shown = {name: takes_part(name) for name in planted}
    room._behaviour.cache_clear()
    assert shown == {"same": False, "no-stream": False, "silent": False, "loud": True, "half": True}


def test_the_machine_is_a_subject_that_trains():
    trainer = mystery(1).trainer
    require_subject(trainer)
    assert isinstance(trainer, MysteryTrainer)
    before = trainer.state()
    losses = trainer.run(steps=3, progress=False).losses
    assert len(losses) == trainer.steps_done == 3 == len(trainer.history)
    trainer.load_state(before)
    with pytest.raises(TypeError, match="state must come from"):
        trainer.load_state(object())
    assert trainer.run(steps=3, progress=False).losses == losses
    assert next(trainer.steps()).step == 4
    assert trainer.generate("the", n_tokens=2).startswith("the")
    assert trainer.model_config.d_model == 32 and trainer.steps_per_epoch > 1
    assert trainer.evidence_sheet() == lab.evidence_sheet(trainer)


def test_the_batch_is_that_of_the_next_step():
    a, b = mystery(1), mystery(1)
    a.trainer.step(*a.batch())
    next(b.trainer.steps())
    assert a.trainer.params.flat.tobytes() == b.trainer.params.flat.tobytes()


def test_what_can_be_seen_names_no_fault(drawn):
    for n in (1, 2):
        found = mystery(first_of(drawn, n))
        seen = [repr(found), repr(found.trainer), str(found.trainer.evidence_sheet())]
        for thing in (found, found.trainer):
            seen += [repr(getattr(thing, name)) for name in dir(thing) if not name.startswith("_")]
        state = found.trainer.state()
        seen += [repr(state), *(repr(getattr(state, name)) for name in ("arrays", "steps_done"))]
        parts = [
            part for name in found._truth for part in map(repr, lab.faults.catalogue()[name].swaps.values())
        ]
        for secret in (*found._truth, *parts):
            assert [text for text in seen if secret in text] == []
        assert not hasattr(found.trainer, "faults") and not hasattr(found.trainer, "model")


def test_right_and_only_once(drawn):
    for n in (0, 1, 2):
        found = mystery(first_of(drawn, n))
        assert "open" in repr(found)
        verdict = found.commit(*(found._truth or ("healthy",)))
        assert (verdict.score, verdict.truth) == ("right", found._truth)
        assert all(lab.faults.catalogue()[name].signature in repr(verdict) for name in found._truth)
        assert "Right." in repr(verdict) and "right" in repr(found)
        with pytest.raises(RuntimeError, match="is solved"):
            found.commit("healthy")


def test_partly_and_wrong(drawn):
    one, two = first_of(drawn, 1), first_of(drawn, 2)
    assert mystery(one).commit("healthy").score == "wrong"
    assert mystery(first_of(drawn, 0)).commit("doubled-attention").score == "wrong"
    verdict = mystery(two).commit(drawn[two][0])
    assert (verdict.score, verdict.truth) == ("partly", drawn[two])
    other = next(name for name in lab.faults.catalogue() if name not in drawn[two])
    assert mystery(two).commit(other).score == "wrong"
    assert "It was: healthy." in repr(mystery(first_of(drawn, 0)).commit("doubled-attention"))


def test_a_declared_class_is_equivalent(monkeypatch):
    truth, twin = sorted(lab.faults.catalogue())[:2]
    assert Mystery(0, [truth]).commit(twin).score == "wrong"
    monkeypatch.setattr(room, "EQUIVALENT", ((twin, truth),))
    assert Mystery(0, [truth]).commit(twin).score == "equivalent"
    assert Mystery(0, [truth]).commit(truth).score == "right"


def test_declared_classes_hold_by_measurement():
    known = lab.faults.catalogue()
    for group in room.EQUIVALENT:
        for a, b in pairwise(name for name in group if name in known):
            first, second = room._behaviour((a,)), room._behaviour((b,))
            assert np.array_equal(first.logits, second.logits)
            assert first.error == second.error


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((1,), "fault ids or"),
        (("healthy", "doubled-attention"), "stands alone"),
        (("doubled-attention", "doubled-attention"), "each id once"),
        (("doubled-atention",), "did you mean 'doubled-attention'"),
    ],
)
def test_a_commitment_that_cannot_be_judged_is_not_counted(names, words):
    found = mystery(0)
    with pytest.raises(ValueError, match=words):
        found.commit(*names)
    found.commit("healthy")


def test_no_answer_is_not_counted_and_tells_nothing(drawn):
    found = mystery(first_of(drawn, 1))
    for _ in range(2):
        verdict = found.commit()
        assert (verdict.score, verdict.truth) == ("open", ())
        assert "No answer yet" in repr(verdict) and "open" in repr(found)
    assert found.commit(*found._truth).score == "right"


def test_what_the_machine_is_fed_can_be_checked():
    assert Mystery(0, ["doubled-attention"]).stream_check().passed
    assert "targets misplaced" in Mystery(0, ["unshifted-targets"]).stream_check().findings


def test_a_new_fault_changes_the_mysteries_that_it_comes_into_and_no_others(drawn, monkeypatch):
    def half_rate(step, config, total_steps):
        return 0.5 * config.learning_rate

    known = lab.faults.catalogue()
    grown = {**known, "newcomer": Fault("newcomer", "", {"schedule": half_rate}, "", "", "", "")}
    monkeypatch.setattr(room, "catalogue", lambda: grown)
    monkeypatch.setattr(room, "resolve", lambda names: tuple(grown[name] for name in names))
    again = {seed: mystery(seed)._truth for seed in SEEDS}
    assert all(again[seed] == drawn[seed] for seed in SEEDS if "newcomer" not in again[seed])
    assert sum("newcomer" in truth for truth in again.values()) < len(SEEDS) / 5


def test_two_faults_of_one_slot_cannot_be_meant():
    found = Mystery(0, ["doubled-attention"])
    slots = {}
    for name, fault in lab.faults.catalogue().items():
        for slot in fault.swaps:
            slots.setdefault(slot, []).append(name)
    pair = next(names[:2] for names in slots.values() if len(names) > 1)
    with pytest.raises(ValueError, match="both swap the slot"):
        found.commit(*pair)


@pytest.mark.parametrize("seed", [-1, 2**128])
def test_a_seed_out_of_range(seed):
    with pytest.raises(ValueError, match="seed"):
        mystery(seed)
    with pytest.raises(TypeError, match="seed"):
        mystery("1")  # type: ignore[arg-type]


def test_the_answers_folded_into_the_notebook_are_the_truth():
    cells = json.loads((notebooks_path() / "22_mystery_cases.ipynb").read_text(encoding="utf-8"))["cells"]
    seed, told = None, {}
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            seed = next((int(found) for found in re.findall(r"= lab\.mystery\((\d+)\)", text)), seed)
        elif answer := re.search(r"<summary>What it was</summary>\n\nIt is (.+?)\.", text):
            told[seed] = tuple(re.findall(r"`(.+?)`", answer[1]))
    assert len(told) == 5
    assert told == {seed: mystery(seed)._truth or ("healthy",) for seed in told}
    assert sorted(len(mystery(seed)._truth) for seed in told) == [0, 1, 1, 1, 2]
