"""Sizes, sums and times: counted, added up, or read from the results that the long runs stored."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cllm_lab.ledger.machines import (
    BATCH_SIZE,
    DOCUMENTS_VOCABULARY,
    SEQUENCE_LENGTH,
    corpus,
    machine,
)
from cllm_lab.model.memory import activation_memory
from cllm_lab.model.parameters import layout
from cllm_lab.resources import data_path
from cllm_lab.training.evidence import DOCUMENTS_MODEL, evidence

BYTES_PER_FLOAT = 4


def sizes() -> dict[str, Any]:
    """Counts of the shipped text in the documents' batches, and of the documents' machine."""
    text = corpus()
    pairs = text.n_tokens - 1
    windows = pairs // SEQUENCE_LENGTH
    batch = BATCH_SIZE * SEQUENCE_LENGTH
    specs = {spec.name: spec for spec in layout(DOCUMENTS_MODEL)}
    return {
        "tokens": text.n_tokens,
        "vocabulary": text.vocab_size,
        "pairs": pairs,
        "tokens_per_batch": batch,
        "full_windows": windows,
        "full_batches": windows // BATCH_SIZE,
        "batches_with_the_partial_one": math.ceil(windows / BATCH_SIZE),
        "batches_with_the_short_window": machine().steps_per_epoch,
        "pairs_in_full_batches": windows // BATCH_SIZE * batch,
        "embedding_floats": specs["token_embedding"].size,
        "all_floats": sum(spec.size for spec in specs.values()),
        "ln_vocabulary": math.log(text.vocab_size),
        "ln_10000": math.log(DOCUMENTS_VOCABULARY),
    }


def activation_sizes() -> dict[str, Any]:
    """Floats of a forward pass at the documents' size: 003's own fields, what its structure holds, what is needed."""
    found: dict[str, Any] = {"bytes_per_float": BYTES_PER_FLOAT}
    for vocabulary in (corpus().vocab_size, DOCUMENTS_VOCABULARY):
        config = type(DOCUMENTS_MODEL)(
            vocab_size=vocabulary,
            context_length=SEQUENCE_LENGTH,
            d_model=DOCUMENTS_MODEL.d_model,
            n_heads=DOCUMENTS_MODEL.n_heads,
            n_layers=DOCUMENTS_MODEL.n_layers,
            d_ff=DOCUMENTS_MODEL.d_ff,
        )
        rows = activation_memory(config, BATCH_SIZE, SEQUENCE_LENGTH)
        for field in ("input_embeddings", "layer_inputs", "ff_hidden", "logits"):
            found[f"{field}_{vocabulary}"] = next(row.counted for row in rows if row.field == field)
        for column in ("counted", "held", "needed"):
            found[f"{column}_{vocabulary}"] = sum(getattr(row, column) for row in rows)
    return found


def sums() -> dict[str, Any]:
    """The documents' own addends, added up."""
    completion = [100, 100, 40, 90, 30, 50]
    hours_002 = [(2, 3), (3, 4), (2, 3)]
    hours_003 = [2, 2, 2, 4, 1, 1]
    milliseconds = [(10, 20), (15, 25)]
    least, most = (sum(side) for side in zip(*milliseconds, strict=True))
    return {
        "completion_mean": sum(completion) / len(completion),
        "hours_002": [sum(side) for side in zip(*hours_002, strict=True)],
        "hours_003": sum(hours_003),
        "milliseconds_a_batch": [least, most],
        "milliseconds_for_nine": [9 * least, 9 * most],
    }


def documents_size_runs() -> dict[str, Any]:
    """The stored runs at the documents' size, and the character model beside its control."""
    found: dict[str, Any] = {"ln_10000": math.log(DOCUMENTS_VOCABULARY)}
    for name in ("adam", "sgd"):
        run = evidence(f"documents-{name}")
        found[name] = run["epoch_loss"]
        steps = run["step_loss"]
        found[f"{name}_first_epoch_steps"] = steps[: len(steps) // len(run["epoch_loss"])]
        found[f"{name}_clip_norm"] = run["train"]["clip_norm"]
        found[f"{name}_learning_rate"] = run["train"]["learning_rate"]
    characters = evidence("character")
    found["with_attention"] = characters["with_attention"]["validation_loss"]
    found["without_attention"] = characters["without_attention"]["validation_loss"]
    found["character_bigram"] = characters["validation_bigram_entropy"]
    return found


def benchmark_times() -> dict[str, Any]:
    """Milliseconds a batch at the documents' size, from the stored benchmark, the fastest of those measured."""
    stored = json.loads(data_path("benchmark.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {"threads": max(stored["threads"])}
    for phase in ("forward", "backward"):
        rows = [row for row in stored["phases"] if row["phase"] == phase]
        found[f"{phase}_ours"] = next(
            1e3 * row["median"] for row in rows if row["contender"] == stored["reference"]
        )
        found[f"{phase}_fastest"] = min(1e3 * row["median"] for row in rows)
    for vocabulary in (corpus().vocab_size, DOCUMENTS_VOCABULARY):
        sizes_wanted = (DOCUMENTS_MODEL.d_model, DOCUMENTS_MODEL.n_layers, vocabulary)
        rows = [
            row
            for row in stored["steps"]
            if (row["d_model"], row["n_layers"], row["vocab_size"]) == sizes_wanted
        ]
        found[f"step_fastest_{vocabulary}"] = min(1e3 * row["median"] for row in rows if row["trains"])
        found[f"bare_products_{vocabulary}"] = min(1e3 * row["median"] for row in rows if not row["trains"])
        found[f"step_ours_{vocabulary}"] = min(
            1e3 * row["median"] for row in rows if row["contender"] == stored["reference"]
        )
    found["steps_an_epoch"] = machine().steps_per_epoch
    return found


def original_program() -> dict[str, Any]:
    """Whether the original's sources are part of this library: without them its program cannot be run here."""
    package = Path(__file__).resolve().parents[2]
    places = (package, data_path("README.md").parent)
    sources = [path for place in places for path in place.rglob("*") if path.suffix in (".c", ".h")]
    return {"c_sources": len(sources)}
