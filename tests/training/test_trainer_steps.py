"""What a step costs besides its arithmetic: arrays, bits that wander, and other trainers in the way."""

import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import cllm_lab as lab
from cllm_lab.model.compiled_pass import CompiledPass
from cllm_lab.model.parts.threads import PIECE
from cllm_lab.model.transformer import Pass
from tests.training.machines import Fault, a_batch, bits, make_model, make_trainer

WIDE = {"d_model": 128, "n_heads": 4, "n_layers": 2, "vocab_size": 611, "context_length": 32}
# By what makes the machine's step take another path.
PATHS = {
    "compiled": ({}, (4, 32)),
    "large compiled": ({"vocab_size": 12_000}, (4, 32)),
    "parts": ({"norm": "post"}, (4, 32)),
    "parts with large products": ({"norm": "post", "vocab_size": 12_000}, (4, 32)),
}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(limits=2, user_api="blas"):
        yield


def trainer_of(path, **settings):
    special, shape = PATHS[path]
    trainer = make_trainer(make_model(**{**WIDE, **special}), sequence_length=8, **settings)
    return trainer, a_batch(trainer, shape=shape)


def kept_pass(trainer):
    (kept,) = trainer._passes.values()
    return kept


@pytest.mark.parametrize("path", PATHS)
def test_a_step_allocates_next_to_nothing(path):
    trainer, batch = trainer_of(path)
    for _ in range(3):
        trainer.step(*batch)
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        trainer.step(*batch)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    one_activation = batch[0].size * WIDE["d_model"] * 4
    assert peak - start < one_activation


@pytest.mark.parametrize("path", ["compiled", "large compiled"])
def test_a_healthy_machine_of_any_size_trains_with_the_compiled_pass(path):
    trainer, batch = trainer_of(path)
    trainer.step(*batch)
    assert type(kept_pass(trainer)) is CompiledPass
    assert len(kept_pass(trainer)._shares) == 2


@pytest.mark.parametrize("path", ["parts", "parts with large products"])
def test_any_other_machine_trains_through_its_parts(path):
    trainer, batch = trainer_of(path)
    trainer.step(*batch)
    assert type(kept_pass(trainer)) is Pass


@pytest.mark.parametrize(
    ("slot", "part"),
    [
        ("gradient_rule", lambda training_pass: training_pass.backward()),
        ("reported_loss", lambda loss, training_pass: loss),
    ],
)
def test_a_swapped_part_of_the_step_that_may_read_activations_gets_them(slot, part):
    trainer = make_trainer(faults=(Fault("same", {slot: part}),))
    trainer.step(*a_batch(trainer))
    assert type(kept_pass(trainer)) is Pass


@pytest.mark.parametrize("path", PATHS)
def test_the_same_seed_gives_the_same_bits(path):
    results = []
    for _ in range(2):
        trainer, batch = trainer_of(path)
        for _ in range(5):
            trainer.step(*batch)
        results.append(bits(trainer))
    assert results[0] == results[1]


@pytest.mark.parametrize("path", PATHS)
def test_no_bit_depends_on_the_number_of_threads(path):
    results = []
    for n_threads in (1, 2, 3):
        with threadpool_limits(limits=n_threads, user_api="blas"):
            trainer, batch = trainer_of(path, clip_norm=0.1)
            for _ in range(3):
                trainer.step(*batch)
        assert all(record.grad_norm > 0.1 for record in trainer.history)
        results.append(bits(trainer))
    assert trainer.params.flat.size > PIECE
    assert results[1] == results[0]
    assert results[2] == results[0]


@pytest.mark.parametrize("path", PATHS)
def test_the_sizes_in_a_record_are_those_of_all_pieces(path):
    trainer, batch = trainer_of(path, clip_norm=0.1)
    before = trainer.params.flat.astype(np.float64)
    gradient = trainer.gradients(*batch)[1].flat.astype(np.float64)
    trainer.step(*batch)
    change = trainer.params.flat - before
    record = trainer.history[-1]
    assert before.size > PIECE
    assert record.grad_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    assert record.update_ratio == pytest.approx(np.linalg.norm(change) / np.linalg.norm(before), rel=1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_trainers_in_several_python_threads_do_not_disturb_each_other(path):
    def train(number, results):
        trainer, batch = trainer_of(path, seed=number)
        for _ in range(6):
            trainer.step(*batch)
        results[number] = bits(trainer)

    alone: dict[int, dict] = {}
    for number in range(2):
        train(number, alone)
    together: dict[int, dict] = {}
    threads = [threading.Thread(target=train, args=(number, together)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert together == alone


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("tensor", ["token_embedding", "layers.1.w_ff2"])
def test_a_number_that_is_none_ends_the_step_before_anything_is_updated(path, tensor):
    trainer, batch = trainer_of(path)
    trainer.step(*batch)
    trainer.params[tensor][:, 5] = np.nan
    before = trainer.params.flat.copy()
    with pytest.raises(lab.NonFiniteError) as error:
        trainer.step(*batch)
    assert error.value.tensor == ("embedding" if tensor == "token_embedding" else "layers.1.ff")
    assert np.array_equal(trainer.params.flat, before, equal_nan=True)


LONG_RUN = """
import resource
import numpy as np
import cllm_lab as lab

model = lab.Transformer(lab.ModelConfig(vocab_size=50, context_length=8, d_model=16, n_heads=2, n_layers=1))
trainer = lab.Trainer(model, lab.ConstantLanguage(50, n_tokens=50), lab.TrainConfig(sequence_length=8))
tokens, targets = np.random.default_rng(0).integers(0, 50, (2, 4, 8))
before = 0
for step in range(10_500):
    trainer.step(tokens, targets)
    if step == 500:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(trainer.history))
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere the largest resident set is in bytes"
)
def test_ten_thousand_steps_take_no_more_memory_than_their_records():
    finished = subprocess.run([sys.executable, "-c", LONG_RUN], capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    kilobytes, records = map(int, finished.stdout.split())
    assert records == 10_500
    # A record is some 105 bytes; one copy of this small gradient a step would be 165,000 kB.
    assert kilobytes < 4_000
