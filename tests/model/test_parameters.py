import numpy as np
import pytest

from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import GROUPS, Parameters, TensorSpec, layout
from tests.model.configurations import CASES

# The whole machine by hand: V=5, T=3, C=4, F=6, one layer.
SMALL = {"vocab_size": 5, "context_length": 3, "d_model": 4, "n_heads": 2, "n_layers": 1, "d_ff": 6}
EMBEDDING = [("token_embedding", (5, 4)), ("position_embedding", (3, 4))]
ATTENTION = [
    ("layers.0.w_qkv", (4, 12)),
    ("layers.0.b_qkv", (12,)),
    ("layers.0.w_out", (4, 4)),
    ("layers.0.b_out", (4,)),
]
FEED_FORWARD = [
    ("layers.0.w_ff1", (4, 6)),
    ("layers.0.b_ff1", (6,)),
    ("layers.0.w_ff2", (6, 4)),
    ("layers.0.b_ff2", (4,)),
]
NORM_1 = [("layers.0.ln1.gamma", (4,)), ("layers.0.ln1.beta", (4,))]
NORM_2 = [("layers.0.ln2.gamma", (4,)), ("layers.0.ln2.beta", (4,))]
NORM_FINAL = [("ln_final.gamma", (4,)), ("ln_final.beta", (4,))]
BODY = ATTENTION + FEED_FORWARD + NORM_1 + NORM_2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, EMBEDDING + BODY + NORM_FINAL),
        ({"tied": False}, [*EMBEDDING, ("output_embedding", (5, 4)), *BODY, *NORM_FINAL]),
        ({"positions": "sinusoidal"}, EMBEDDING[:1] + BODY + NORM_FINAL),
        ({"positions": "none"}, EMBEDDING[:1] + BODY + NORM_FINAL),
        ({"norm": "post"}, EMBEDDING + BODY),
        ({"attention": "none"}, EMBEDDING + FEED_FORWARD + NORM_2 + NORM_FINAL),
    ],
    ids=str,
)
def test_the_tensors_of_a_machine_in_order(settings, expected):
    specs = layout(ModelConfig(**SMALL, **settings))
    assert [(spec.name, spec.shape) for spec in specs] == expected


def all_params(case):
    params = Parameters.zeros(case.config, "float64")
    params.flat[:] = np.arange(params.flat.size)
    return params


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_tensors_fill_the_flat_buffer_in_order_without_gap_or_overlap(case):
    params = all_params(case)
    joined = np.concatenate([view.ravel() for view in params.values()])
    assert np.array_equal(joined, np.arange(params.flat.size))
    for name, place in params.slices.items():
        assert np.array_equal(params.flat[place], params[name].ravel())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_groups_follow_one_another_and_hold_their_tensors(case):
    params = all_params(case)
    members = {group: [spec.name for spec in params.specs if spec.group == group] for group in GROUPS}
    assert [name for group in GROUPS for name in members[group]] == list(params)
    for group in GROUPS:
        joined = [params[name].ravel() for name in members[group]]
        assert np.array_equal(params.group(group), np.concatenate(joined) if joined else np.empty(0))
    assert np.array_equal(np.concatenate([params.group(group) for group in GROUPS]), params.flat)


def test_which_group_a_tensor_lies_in():
    specs = layout(ModelConfig(**SMALL, tied=False))
    group_of = {spec.name.rpartition(".")[2]: spec.group for spec in specs}
    assert group_of == {
        **dict.fromkeys(["token_embedding", "position_embedding", "output_embedding"], "embedding"),
        **dict.fromkeys(["w_qkv", "b_qkv", "w_out", "b_out"], "attention"),
        **dict.fromkeys(["w_ff1", "b_ff1", "w_ff2", "b_ff2"], "ff"),
        **dict.fromkeys(["gamma", "beta"], "ln"),
    }


def test_roles_and_fans_are_what_an_initialiser_needs():
    specs = {spec.name: spec for spec in layout(ModelConfig(**SMALL, tied=False))}
    roles = {name: spec.role for name, spec in specs.items()}
    assert {name for name, role in roles.items() if role == "residual"} == {
        "layers.0.w_out",
        "layers.0.w_ff2",
    }
    assert {name for name, role in roles.items() if role == "matrix"} == {"layers.0.w_qkv", "layers.0.w_ff1"}
    assert {name for name, role in roles.items() if role == "gain"} == {
        n for n in roles if n.endswith("gamma")
    }
    assert {name for name, role in roles.items() if role == "embedding"} == {
        name for name in roles if name.endswith("embedding")
    }
    # The three matrices that lie side by side in w_qkv map C to C each.
    assert (specs["layers.0.w_qkv"].fan_in, specs["layers.0.w_qkv"].fan_out) == (4, 4)
    assert (specs["layers.0.w_ff1"].fan_in, specs["layers.0.w_ff1"].fan_out) == (4, 6)
    assert (specs["layers.0.w_ff2"].fan_in, specs["layers.0.w_ff2"].fan_out) == (6, 4)


def small(dtype="float64"):
    return Parameters.zeros(ModelConfig(**SMALL), dtype)


def test_views_are_live_both_ways():
    params = small()
    params["layers.0.w_ff1"][2, 3] = 7.0
    assert params.flat[params.slices["layers.0.w_ff1"]].reshape(4, 6)[2, 3] == 7.0
    params.flat[:] = 3.0
    assert all((view == 3.0).all() for view in params.values())
    params.group("ff")[:] = 4.0
    assert (params["layers.0.b_ff2"] == 4.0).all()
    assert (params["layers.0.b_out"] == 3.0).all()
    params.scope("layers.0.ln1")["gamma"][:] = 5.0
    assert (params["layers.0.ln1.gamma"] == 5.0).all()


def test_a_scope_holds_the_tensors_directly_under_a_place():
    params = small()
    assert set(params.scope("")) == {"token_embedding", "position_embedding"}
    assert set(params.scope("layers.0")) == {name.rpartition(".")[2] for name, _ in ATTENTION + FEED_FORWARD}
    assert set(params.scope("ln_final")) == {"gamma", "beta"}
    assert params.scope("layers.0")["w_out"] is params["layers.0.w_out"]
    assert params.scope("layers") is None
    assert params.scope("layers.0.attention") is None


def test_a_copy_has_a_buffer_of_its_own():
    params = small()
    twin = params.copy()
    twin.flat[:] = 1.0
    assert not params.flat.any()
    assert list(twin) == list(params)


def test_like_has_the_layout_over_zeros_or_over_the_given_buffer():
    params = small("float32")
    params.flat[:] = 1.0
    fresh = params.like()
    assert not fresh.flat.any()
    assert fresh.flat.dtype == np.float32
    assert not np.shares_memory(fresh.flat, params.flat)
    buffer = np.arange(params.flat.size, dtype=float)
    assert params.like(buffer).flat is buffer


def test_a_buffer_of_another_length_is_refused():
    params = small()
    size = params.flat.size
    with pytest.raises(ValueError, match=rf"flat must have shape \({size},\) .*got \({size + 1},\)"):
        params.like(np.zeros(size + 1))


def test_a_name_that_does_not_exist_is_answered_with_those_that_do():
    params = small()
    with pytest.raises(KeyError) as caught:
        params["layers.7.w_out"]
    assert "no tensor 'layers.7.w_out'" in str(caught.value)
    assert all(name in str(caught.value) for name in params)
    assert "layers.7.w_out" not in params


def test_the_size_of_a_tensor_is_its_number_of_entries():
    assert TensorSpec("w", (3, 4), "ff", "matrix").size == 12


def test_how_parameters_show_themselves():
    assert repr(small("float32")) == "Parameters(16 tensors, 194 numbers, float32)"
    assert len(small()) == 16
