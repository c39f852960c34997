from dataclasses import fields

import pytest

from cllm_lab.model.config import CHOICES, ModelConfig
from cllm_lab.model.parts.table import SLOTS, ModelParts, Part, PartEdit, table
from tests.model.configurations import CASES, TABLES, by_name


def part(name):
    return Part(name, lambda x, site: x, lambda dy, site: dy)


def full_table(*more):
    return table("made", *((slot, part(f"the {slot}")) for slot in SLOTS), *more)


def test_the_slots_are_the_fields_of_a_machine():
    assert tuple(field.name for field in fields(ModelParts)) == SLOTS


@pytest.mark.parametrize("name", TABLES)
def test_both_tables_offer_the_same_parts(name):
    offered = {slot: list(parts) for slot, parts in TABLES[name].slots.items()}
    assert offered == {slot: list(parts) for slot, parts in TABLES["reference"].slots.items()}
    assert TABLES[name].name == name
    for parts in TABLES[name].slots.values():
        assert all(part.name == key for key, part in parts.items())


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    ("field", "slot"),
    [("norm", "block"), ("attention", "attention"), ("positions", "positions"), ("activation", "activation")],
)
def test_a_choice_of_the_configuration_chooses_its_part(name, field, slot):
    for choice in CHOICES[field]:
        chosen = TABLES[name].choose(ModelConfig(**{"vocab_size": 5, field: choice}))
        assert getattr(chosen, slot) is TABLES[name].slots[slot][choice]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("tied", "choice"), [(True, "tied"), (False, "untied")])
def test_tying_chooses_the_output(name, tied, choice):
    chosen = TABLES[name].choose(ModelConfig(vocab_size=5, tied=tied))
    assert chosen.output is TABLES[name].slots["output"][choice]


# The slots whose part a setting of the configuration chooses.
CHOSEN = {"block", "attention", "positions", "heads", "keys", "symmetry", "bias", "activation", "output"}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_slot_that_the_configuration_does_not_speak_of_has_one_part(name, case):
    chosen = TABLES[name].choose(case.config)
    for slot in set(SLOTS) - CHOSEN:
        assert [getattr(chosen, slot)] == list(TABLES[name].slots[slot].values())


def test_replacing_leaves_the_machine_and_changes_one_slot():
    parts = by_name("default").model().parts
    new = part("new")
    replaced = parts.replace(norm=new)
    assert replaced.norm is new
    assert parts.norm is not new
    assert all(getattr(replaced, slot) is getattr(parts, slot) for slot in SLOTS if slot != "norm")
    assert parts.replace() == parts


def test_replacing_a_slot_that_does_not_exist_names_it_and_those_that_do():
    parts = by_name("default").model().parts
    with pytest.raises(ValueError, match="no slot gate, relu") as caught:
        parts.replace(relu=part("x"), norm=part("y"), gate=part("z"))
    assert str(caught.value).endswith("; the slots are " + ", ".join(SLOTS))


@pytest.mark.parametrize("half", ["forward", "backward"])
def test_an_edit_changes_one_half_of_a_part(half):
    parts = by_name("default").model().parts

    def other(*inputs):
        return None

    edited = parts.replace(norm=PartEdit("edited", **{half: other})).norm
    kept = "backward" if half == "forward" else "forward"
    assert edited.name == "edited"
    assert getattr(edited, half) is other
    assert getattr(edited, kept) is getattr(parts.norm, kept)


def test_replacing_by_something_that_is_no_part():
    with pytest.raises(
        TypeError, match="slot mask must be filled by a Part or changed by a PartEdit; got None"
    ):
        by_name("default").model().parts.replace(mask=None)


def test_a_table_of_ones_own():
    made = full_table(("positions", part("learned")))
    assert made.choose.__self__ is made
    assert list(made.slots["positions"]) == ["the positions", "learned"]


def test_a_table_for_a_slot_that_does_not_exist():
    with pytest.raises(ValueError, match="no slot 'relu'; the slots are transformer, block"):
        full_table(("relu", part("x")))


def test_a_table_that_leaves_slots_empty_names_them():
    with pytest.raises(ValueError, match="table 'made' has no part for mask, loss"):
        table("made", *((slot, part(slot)) for slot in SLOTS if slot not in ("mask", "loss")))
