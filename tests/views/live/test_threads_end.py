"""Nothing begins before Start, and a process can end whatever its bench does."""

import subprocess
import sys

import pytest

# Far more than any of these needs: what hangs would hang for ever.
PATIENCE = 120.0

TEXT_BENCH = "import cllm_lab as lab; bench = lab.live()"
SMALL_BENCH = """
import cllm_lab as lab
corpus = lab.InductionLanguage(n_symbols=5, block_length=3, n_tokens=49)
model = lab.Transformer(lab.ModelConfig(vocab_size=5, d_model=8, n_heads=2, n_layers=1), parts=lab.parts.{parts})
trainer = lab.Trainer(model, corpus, lab.TrainConfig(batch_size=2, sequence_length=8))
bench = lab.live(trainer)
"""
REFERENCE_BENCH, FAST_BENCH = (SMALL_BENCH.format(parts=parts) for parts in ("reference", "fast"))


def run(script: str) -> str:
    """What a script prints in a process of its own that ends as it should."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("bench", [TEXT_BENCH, REFERENCE_BENCH], ids=["default", "given"])
def test_no_thread_and_no_compiler_before_start(bench):
    asked = (
        "import sys, threading;"
        "print([name for name in ('numba', 'matplotlib', 'pandas') if name in sys.modules], "
        "threading.active_count())"
    )
    assert run(f"{bench}\n{asked}") == "[] 1"


def test_turning_knobs_before_start_compiles_nothing_either():
    script = f"""{TEXT_BENCH}
import sys, threading
bench.change(learning_rate=0.01)
bench.set_faults(["zero-init", "wrong-sign"])
bench.new_run(seed=2)
bench.reset()
bench.stop()
bench._controls.panels.selected_index = 3
print([name for name in ("numba", "matplotlib", "pandas") if name in sys.modules], threading.active_count())
"""
    assert run(script) == "[] 1"


@pytest.mark.parametrize(
    ("bench", "then"),
    [
        (REFERENCE_BENCH, ""),
        (REFERENCE_BENCH, "bench.phase()"),
        (REFERENCE_BENCH, "bench.start(); bench.runner.set_speed(1e-6)"),
        (FAST_BENCH, "bench.run(3)"),
        (FAST_BENCH, "bench.start()"),
        (FAST_BENCH, "bench.start(); import time; time.sleep(0.2)"),
        (FAST_BENCH, "bench.start(); del bench"),
        (FAST_BENCH, "bench.start(); other = lab.live(); other.start()"),
    ],
)
def test_a_process_ends_whatever_its_bench_does(bench, then):
    assert run(f"{bench}\n{then}\nprint('done')") == "done"
