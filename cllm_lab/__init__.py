"""cllm_lab: why does my model not learn?

Break a small transformer on purpose, watch the instruments, name the fault from evidence, fix it, prove the
fix. This module is the façade: every public name, each loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cllm_lab import faults, lattice
    from cllm_lab.clinic import adapt
    from cllm_lab.clinic.dependency import dependency_matrix
    from cllm_lab.clinic.evidence_sheet import evidence_sheet
    from cllm_lab.clinic.exercises import check_exercise
    from cllm_lab.clinic.fingerprint import gradient_fingerprint
    from cllm_lab.clinic.four_tests import (
        gradient_magnitude,
        loss_sensitivity,
        proper_attention,
        weight_updates,
    )
    from cllm_lab.clinic.gradient_cosine import gradient_cosine
    from cllm_lab.clinic.gradient_flow import gradient_flow
    from cllm_lab.clinic.likeness import likeness
    from cllm_lab.clinic.mutation import mutation_table
    from cllm_lab.clinic.mystery import mystery
    from cllm_lab.clinic.norm_check import norm_check
    from cllm_lab.clinic.optimizer_replay import optimizer_replay
    from cllm_lab.clinic.part_times import part_times
    from cllm_lab.clinic.plateau_ladder import plateau_ladder
    from cllm_lab.clinic.predictions import predict, predictions, score
    from cllm_lab.clinic.qkv_thirds import qkv_thirds
    from cllm_lab.clinic.reachable_floor import reachable_floor
    from cllm_lab.clinic.recomputed_loss import recomputed_loss
    from cllm_lab.clinic.sharpness import sharpness
    from cllm_lab.clinic.stream_check import stream_check
    from cllm_lab.clinic.token_by_token import token_by_token
    from cllm_lab.clinic.update_statistics import update_statistics
    from cllm_lab.corpus.corpora import Corpus, load_corpus
    from cllm_lab.corpus.languages import ConstantLanguage, InductionLanguage, MarkovLanguage
    from cllm_lab.corpus.source import CorpusError
    from cllm_lab.faults.trainer import Trainer
    from cllm_lab.model import parts
    from cllm_lab.model.config import ConfigError, ModelConfig
    from cllm_lab.model.gradient_check import gradient_check
    from cllm_lab.model.memory import activation_memory
    from cllm_lab.model.transformer import Transformer
    from cllm_lab.training.checkpoint import CheckpointError
    from cllm_lab.training.config import TrainConfig
    from cllm_lab.training.diagnostics import NonFiniteError
    from cllm_lab.training.evidence import evidence
    from cllm_lab.training.generation import generate, repetition
    from cllm_lab.training.history import History, StepRecord, read_log
    from cllm_lab.trials.ablation import ablate
    from cllm_lab.trials.arm import Arm
    from cllm_lab.trials.lattice_report import lattice_results
    from cllm_lab.trials.result import Ablation
    from cllm_lab.views.basis_reduction import basis_reduction
    from cllm_lab.views.benchmark import benchmark, benchmark_bars, benchmark_curves
    from cllm_lab.views.cases import case_verdicts
    from cllm_lab.views.claims import claims
    from cllm_lab.views.curves import loss_curve, schedule_curves
    from cllm_lab.views.diagram import training_diagram
    from cllm_lab.views.flat_layout import flat_layout
    from cllm_lab.views.forest import control_forest, effect_forest
    from cllm_lab.views.gradient_flow import gradient_flow_curves
    from cllm_lab.views.group_tables import multiplication_tables
    from cllm_lab.views.heatmaps import attention_maps, dependency, dependency_maps
    from cllm_lab.views.lattice_distances import distance_by_ids
    from cllm_lab.views.lines import line_chart
    from cllm_lab.views.live.bench import live
    from cllm_lab.views.mutation import mutation_map
    from cllm_lab.views.number_kinds import number_wheel, ulam_square
    from cllm_lab.views.part_times import part_time_bars
    from cllm_lab.views.prime_charts import prime_gaps, token_prime_maps
    from cllm_lab.views.repairs import repair_bars
    from cllm_lab.views.similarity_maps import similarity_maps
    from cllm_lab.views.spirals import spiral_neighbours, spiral_patches, spiral_variants
    from cllm_lab.views.stream import stream_figure, stream_norms
    from cllm_lab.views.strengths import strength_ranges
    from cllm_lab.views.tables import memory_table, tensor_table
    from cllm_lab.views.token_pairs import token_pair_maps
    from cllm_lab.views.update_sizes import update_size_curves
    from cllm_lab.views.verdict_bars import verdict_bars
    from cllm_lab.views.vital_signs import vital_signs

_HOMES = {
    "check_exercise": "cllm_lab.clinic.exercises",
    "dependency_matrix": "cllm_lab.clinic.dependency",
    "gradient_fingerprint": "cllm_lab.clinic.fingerprint",
    "gradient_magnitude": "cllm_lab.clinic.four_tests",
    "loss_sensitivity": "cllm_lab.clinic.four_tests",
    "proper_attention": "cllm_lab.clinic.four_tests",
    "weight_updates": "cllm_lab.clinic.four_tests",
    "evidence_sheet": "cllm_lab.clinic.evidence_sheet",
    "gradient_cosine": "cllm_lab.clinic.gradient_cosine",
    "likeness": "cllm_lab.clinic.likeness",
    "gradient_flow": "cllm_lab.clinic.gradient_flow",
    "mutation_table": "cllm_lab.clinic.mutation",
    "mystery": "cllm_lab.clinic.mystery",
    "norm_check": "cllm_lab.clinic.norm_check",
    "optimizer_replay": "cllm_lab.clinic.optimizer_replay",
    "plateau_ladder": "cllm_lab.clinic.plateau_ladder",
    "predict": "cllm_lab.clinic.predictions",
    "predictions": "cllm_lab.clinic.predictions",
    "score": "cllm_lab.clinic.predictions",
    "qkv_thirds": "cllm_lab.clinic.qkv_thirds",
    "sharpness": "cllm_lab.clinic.sharpness",
    "stream_check": "cllm_lab.clinic.stream_check",
    "update_statistics": "cllm_lab.clinic.update_statistics",
    "part_times": "cllm_lab.clinic.part_times",
    "reachable_floor": "cllm_lab.clinic.reachable_floor",
    "recomputed_loss": "cllm_lab.clinic.recomputed_loss",
    "token_by_token": "cllm_lab.clinic.token_by_token",
    "Corpus": "cllm_lab.corpus.corpora",
    "load_corpus": "cllm_lab.corpus.corpora",
    "ConstantLanguage": "cllm_lab.corpus.languages",
    "InductionLanguage": "cllm_lab.corpus.languages",
    "MarkovLanguage": "cllm_lab.corpus.languages",
    "CorpusError": "cllm_lab.corpus.source",
    "ConfigError": "cllm_lab.model.config",
    "ModelConfig": "cllm_lab.model.config",
    "gradient_check": "cllm_lab.model.gradient_check",
    "activation_memory": "cllm_lab.model.memory",
    "Transformer": "cllm_lab.model.transformer",
    "CheckpointError": "cllm_lab.training.checkpoint",
    "TrainConfig": "cllm_lab.training.config",
    "NonFiniteError": "cllm_lab.training.diagnostics",
    "evidence": "cllm_lab.training.evidence",
    "generate": "cllm_lab.training.generation",
    "repetition": "cllm_lab.training.generation",
    "History": "cllm_lab.training.history",
    "StepRecord": "cllm_lab.training.history",
    "read_log": "cllm_lab.training.history",
    "Trainer": "cllm_lab.faults.trainer",
    "Ablation": "cllm_lab.trials.result",
    "Arm": "cllm_lab.trials.arm",
    "ablate": "cllm_lab.trials.ablation",
    "lattice_results": "cllm_lab.trials.lattice_report",
    "basis_reduction": "cllm_lab.views.basis_reduction",
    "benchmark": "cllm_lab.views.benchmark",
    "benchmark_bars": "cllm_lab.views.benchmark",
    "benchmark_curves": "cllm_lab.views.benchmark",
    "case_verdicts": "cllm_lab.views.cases",
    "claims": "cllm_lab.views.claims",
    "loss_curve": "cllm_lab.views.curves",
    "schedule_curves": "cllm_lab.views.curves",
    "training_diagram": "cllm_lab.views.diagram",
    "flat_layout": "cllm_lab.views.flat_layout",
    "control_forest": "cllm_lab.views.forest",
    "effect_forest": "cllm_lab.views.forest",
    "gradient_flow_curves": "cllm_lab.views.gradient_flow",
    "multiplication_tables": "cllm_lab.views.group_tables",
    "attention_maps": "cllm_lab.views.heatmaps",
    "dependency": "cllm_lab.views.heatmaps",
    "dependency_maps": "cllm_lab.views.heatmaps",
    "distance_by_ids": "cllm_lab.views.lattice_distances",
    "line_chart": "cllm_lab.views.lines",
    "live": "cllm_lab.views.live.bench",
    "mutation_map": "cllm_lab.views.mutation",
    "number_wheel": "cllm_lab.views.number_kinds",
    "ulam_square": "cllm_lab.views.number_kinds",
    "part_time_bars": "cllm_lab.views.part_times",
    "prime_gaps": "cllm_lab.views.prime_charts",
    "token_prime_maps": "cllm_lab.views.prime_charts",
    "repair_bars": "cllm_lab.views.repairs",
    "similarity_maps": "cllm_lab.views.similarity_maps",
    "spiral_neighbours": "cllm_lab.views.spirals",
    "spiral_patches": "cllm_lab.views.spirals",
    "spiral_variants": "cllm_lab.views.spirals",
    "stream_figure": "cllm_lab.views.stream",
    "stream_norms": "cllm_lab.views.stream",
    "strength_ranges": "cllm_lab.views.strengths",
    "memory_table": "cllm_lab.views.tables",
    "tensor_table": "cllm_lab.views.tables",
    "token_pair_maps": "cllm_lab.views.token_pairs",
    "update_size_curves": "cllm_lab.views.update_sizes",
    "verdict_bars": "cllm_lab.views.verdict_bars",
    "vital_signs": "cllm_lab.views.vital_signs",
}
_ROOMS = {
    "adapt": "cllm_lab.clinic.adapt",
    "faults": "cllm_lab.faults",
    "lattice": "cllm_lab.lattice",
    "parts": "cllm_lab.model.parts",
}

__all__ = ["__version__", *_HOMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _ROOMS:
        value = import_module(_ROOMS[name])
    else:
        raise AttributeError(f"module 'cllm_lab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
