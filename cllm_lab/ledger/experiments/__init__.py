"""The experiments by name. Each runs the library, or reads what the long runs stored, and returns plain figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cllm_lab.ledger.experiments import figures, formulas, instruments, lattice, live_bench, pinned, runs

# Figures that are counted, added up or read come out equal; those of a trained float32 machine differ between
# processors in their last bits, and training makes more of a difference.
EXACT, TRAINED = 1e-9, 2e-2


@dataclass(frozen=True)
class Experiment:
    """``run`` gives a flat dict of numbers, booleans, texts and lists of these. ``cheap``: a second or two at most.

    ``tolerance``: relative, within which a repetition must give the stored figures.
    """

    run: Callable[[], dict[str, Any]]
    cheap: bool = True
    tolerance: float = EXACT


EXPERIMENTS: Mapping[str, Experiment] = {
    "sizes": Experiment(figures.sizes),
    "activation-sizes": Experiment(figures.activation_sizes),
    "sums": Experiment(figures.sums),
    "documents-size-runs": Experiment(figures.documents_size_runs),
    "benchmark-times": Experiment(figures.benchmark_times),
    "original-program": Experiment(figures.original_program),
    "cross-entropy": Experiment(formulas.cross_entropy, tolerance=TRAINED),
    "layer-norm": Experiment(formulas.layer_norm, tolerance=TRAINED),
    "feed-forward": Experiment(formulas.feed_forward, tolerance=TRAINED),
    "squared-distance": Experiment(formulas.squared_distance, tolerance=TRAINED),
    "six-steps-of-attention": Experiment(formulas.six_steps_of_attention, tolerance=TRAINED),
    "adam": Experiment(formulas.adam, tolerance=TRAINED),
    "gradient-checking": Experiment(formulas.gradient_checking, tolerance=TRAINED),
    "plain-descent": Experiment(formulas.plain_descent, tolerance=TRAINED),
    "forward-beside-doubled": Experiment(formulas.forward_beside_doubled, tolerance=TRAINED),
    "zero-weights": Experiment(pinned.zero_weights, cheap=False, tolerance=TRAINED),
    "blamed-causes": Experiment(pinned.blamed_causes, cheap=False, tolerance=TRAINED),
    "dead-feed-forward": Experiment(pinned.dead_feed_forward, tolerance=TRAINED),
    "weight-bands": Experiment(instruments.weight_bands, cheap=False),
    "gradient-bands": Experiment(instruments.gradient_bands, cheap=False, tolerance=TRAINED),
    "documents-diagnostics": Experiment(instruments.documents_diagnostics, tolerance=TRAINED),
    "doubled-attention": Experiment(runs.doubled_attention, cheap=False, tolerance=TRAINED),
    "initialisers": Experiment(runs.initialisers, cheap=False, tolerance=TRAINED),
    "learning-rates": Experiment(runs.learning_rates, cheap=False, tolerance=TRAINED),
    "other-losses": Experiment(runs.other_losses, cheap=False, tolerance=TRAINED),
    "embeddings-alone": Experiment(runs.embeddings_alone, cheap=False, tolerance=TRAINED),
    "loss-from-ids": Experiment(runs.loss_from_ids, cheap=False, tolerance=TRAINED),
    "sorted-stream": Experiment(runs.sorted_stream, cheap=False, tolerance=TRAINED),
    "generation": Experiment(runs.generation, cheap=False, tolerance=TRAINED),
    "live-bench": Experiment(live_bench.live_bench),
    "startup-times": Experiment(live_bench.startup_times),
    "lattice-primes": Experiment(lattice.lattice_primes),
    "lattice-speed": Experiment(lattice.lattice_speed),
    "lattice-training": Experiment(lattice.lattice_training),
}
