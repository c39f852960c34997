"""The memory table: document 003's figures, and ours against what a pass really keeps."""

import pytest

import cllm_lab as lab

CONFIG = lab.ModelConfig(vocab_size=611, context_length=32, d_model=512, n_heads=8, n_layers=6)


def test_document_003_counts_what_it_says() -> None:
    rows = lab.activation_memory(CONFIG, batch_size=4, sequence_length=32)
    assert [row.counted for row in rows if row.counted] == [65_536, 393_216, 1_572_864, 78_208]
    assert sum(row.counted for row in rows) == 2_109_824


def test_its_structure_holds_more_than_it_counted() -> None:
    rows = lab.activation_memory(CONFIG, batch_size=4, sequence_length=32)
    assert sum(row.held for row in rows) == 3_355_008


@pytest.mark.parametrize("positions", ["learned", "lattice", "none"])
@pytest.mark.parametrize("parts", ["reference", "fast"])
def test_needed_is_what_a_pass_keeps(parts: str, positions: str) -> None:
    config = lab.ModelConfig(
        vocab_size=23, context_length=7, d_model=12, n_heads=3, n_layers=2, d_ff=20, positions=positions
    )
    acts = lab.Transformer(config, parts=getattr(lab.parts, parts)).forward(
        [[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]]
    )
    owners = {}
    for array in acts.values():
        while array.base is not None:
            array = array.base
        owners[id(array)] = array.size
    rows = lab.activation_memory(config, batch_size=2, sequence_length=5)
    assert sum(owners.values()) == sum(row.needed for row in rows)


def test_every_name_of_the_table_can_be_asked_for() -> None:
    acts = lab.Transformer(
        lab.ModelConfig(vocab_size=23, context_length=7, d_model=12, n_heads=3, n_layers=1)
    ).forward([[1, 2]])
    for row in lab.activation_memory(CONFIG, 1, 1):
        parts = [part.strip() for part in row.here.replace("layers.i", "layers.0").split(",")]
        for part in parts:
            name = parts[0].rpartition(".")[0] + part if part.startswith(".") else part
            assert name in acts, name


@pytest.mark.parametrize(
    ("field", "made_for", "other"),
    [
        ("norm", "pre", "post"),
        ("attention", "multi-head", "none"),
        ("activation", "tanh", "gelu"),
        ("keys", "projected", "shared"),
        ("head_symmetry", "none", "cyclic"),
        ("attention_bias", "none", "phase"),
    ],
)
def test_other_wirings_are_refused(field: str, made_for: str, other: str) -> None:
    config = lab.ModelConfig(**{"vocab_size": 23, field: other})
    with pytest.raises(lab.ConfigError, match=f"made for {field}='{made_for}'; got {field}='{other}'"):
        lab.activation_memory(config, 1, 1)


def test_a_batch_of_no_sequence_is_refused() -> None:
    with pytest.raises(lab.ConfigError, match="batch_size"):
        lab.activation_memory(CONFIG, 0, 32)
