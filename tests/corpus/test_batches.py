import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.corpus.batches import batches_per_epoch, epoch_batches

arguments = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "sequence_length": st.integers(1, 40),
        "shuffle": st.booleans(),
        "seed": st.integers(0, 2**64),
        "epoch": st.integers(0, 2**31),
    }
)
token_counts = st.integers(2, 300)


@given(token_counts, arguments)
def test_every_pair_occurs_exactly_once(n_tokens, asked):
    batches = epoch_batches(np.arange(n_tokens), **asked)
    inputs = np.concatenate([batch.inputs.ravel() for batch in batches])
    targets = np.concatenate([batch.targets.ravel() for batch in batches])
    assert sorted(inputs.tolist()) == list(range(n_tokens - 1))
    assert (targets == inputs + 1).all()


@given(token_counts, arguments)
def test_windows_are_those_of_the_text_and_batches_are_full(n_tokens, asked):
    length, batch_size = asked["sequence_length"], asked["batch_size"]
    batches = epoch_batches(np.arange(n_tokens), **asked)
    n_windows, n_left = divmod(n_tokens - 1, length)
    for batch in batches:
        assert batch.inputs.dtype == batch.targets.dtype == np.int32
        assert batch.inputs.shape == batch.targets.shape
        assert (batch.inputs[:, 0] % length == 0).all()
        assert (np.diff(batch.inputs, axis=1) == 1).all()
    short = [batch for batch in batches if batch.inputs.shape[1] != length]
    assert [batch.inputs.shape for batch in short] == ([(1, n_left)] if n_left else [])
    rows = [len(batch.inputs) for batch in batches if batch.inputs.shape[1] == length]
    full, rest = divmod(n_windows, batch_size)
    assert rows == [batch_size] * full + ([rest] if rest else [])


@given(token_counts, arguments)
def test_the_count_is_known_beforehand(n_tokens, asked):
    expected = len(epoch_batches(np.arange(n_tokens), **asked))
    assert batches_per_epoch(n_tokens, asked["batch_size"], asked["sequence_length"]) == expected


@given(token_counts, arguments)
def test_same_arguments_give_the_same_epoch(n_tokens, asked):
    once = epoch_batches(np.arange(n_tokens), **asked)
    again = epoch_batches(np.arange(n_tokens), **asked)
    assert [batch.inputs.tolist() for batch in once] == [batch.inputs.tolist() for batch in again]


def starts(batches):
    """First token of each window, batch by batch; for tokens that count 0, 1, 2, ..."""
    return [int(window[0]) for batch in batches for window in batch.inputs]


def test_1241_tokens_make_38_windows_of_32_and_one_of_24():
    batches = epoch_batches(np.arange(1241), 4, 32, shuffle=True, seed=0, epoch=0)
    windows = [len(window) for batch in batches for window in batch.inputs]
    assert sorted(windows) == [24] + [32] * 38
    assert len(batches) == batches_per_epoch(1241, 4, 32) == 11


@given(token_counts, arguments)
def test_without_shuffle_windows_stand_in_the_order_of_the_text(n_tokens, asked):
    batches = epoch_batches(np.arange(n_tokens), **{**asked, "shuffle": False})
    assert starts(batches) == list(range(0, n_tokens - 1, asked["sequence_length"]))


def test_shuffle_depends_on_seed_and_epoch():
    orders = {
        tuple(starts(epoch_batches(np.arange(401), 4, 10, shuffle=True, seed=seed, epoch=epoch)))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9
    assert tuple(range(0, 400, 10)) not in orders


def test_shuffle_puts_every_window_in_every_place():
    places = {start: set() for start in range(0, 40, 10)}
    for epoch in range(200):
        for place, start in enumerate(starts(epoch_batches(np.arange(41), 2, 10, True, 0, epoch))):
            places[start].add(place)
    assert all(seen == {0, 1, 2, 3} for seen in places.values())


def test_the_short_window_may_stand_in_any_place():
    places = set()
    for epoch in range(200):
        batches = epoch_batches(np.arange(46), 2, 10, shuffle=True, seed=0, epoch=epoch)
        places.add([batch.inputs.shape[1] for batch in batches].index(5))
    assert places == {0, 1, 2}


def test_tokens_and_not_places_are_batched():
    tokens = [7, 3, 9, 3, 5]
    (batch,) = epoch_batches(tokens, 1, 10, shuffle=False, seed=0, epoch=0)
    assert batch.inputs.tolist() == [[7, 3, 9, 3]]
    assert batch.targets.tolist() == [[3, 9, 3, 5]]


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_belong_to_the_caller(shuffle):
    tokens = np.arange(46, dtype=np.int32)
    tokens.flags.writeable = False
    for batch in epoch_batches(tokens, 2, 10, shuffle=shuffle, seed=0, epoch=0):
        batch.inputs[:] = -1
        batch.targets[:] = -1
    assert (tokens == np.arange(46)).all()


GOOD = {
    "tokens": np.arange(10),
    "batch_size": 2,
    "sequence_length": 3,
    "shuffle": True,
    "seed": 0,
    "epoch": 0,
}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("tokens", [1], ValueError),
        ("tokens", [], ValueError),
        ("tokens", [1.0, 2.0], TypeError),
        ("batch_size", 0, ValueError),
        ("batch_size", 1.5, TypeError),
        ("sequence_length", 0, ValueError),
        ("sequence_length", "3", TypeError),
        ("shuffle", "no", TypeError),
        ("seed", -1, ValueError),
        ("epoch", -1, ValueError),
    ],
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_bad_argument_is_named(name, value, error, shuffle):
    with pytest.raises(error, match=name):
        epoch_batches(**{**GOOD, "shuffle": shuffle, name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("n_tokens", 1, ValueError),
        ("batch_size", 0, ValueError),
        ("sequence_length", 0, ValueError),
        ("n_tokens", 10.0, TypeError),
    ],
)
def test_a_bad_count_is_named(name, value, error):
    good = {"n_tokens": 10, "batch_size": 2, "sequence_length": 3}
    with pytest.raises(error, match=name):
        batches_per_epoch(**{**good, name: value})
