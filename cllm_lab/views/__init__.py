"""Figures and tables: the only room that draws, and the only one that needs matplotlib and pandas."""

from cllm_lab.views.benchmark import (
    Benchmark,
    benchmark,
    benchmark_bars,
    benchmark_curves,
    benchmark_summary,
)
from cllm_lab.views.claims import claims, claims_summary
from cllm_lab.views.curves import describe_runs, loss_curve, schedule_curves
from cllm_lab.views.diagram import training_diagram
from cllm_lab.views.heatmaps import attention_maps, dependency, dependency_maps
from cllm_lab.views.lines import line_chart
from cllm_lab.views.part_times import part_time_bars
from cllm_lab.views.picture import Picture
from cllm_lab.views.pictures import readme_picture
from cllm_lab.views.stream import stream_figure, stream_norms
from cllm_lab.views.tables import memory_table, tensor_table
from cllm_lab.views.update_sizes import update_size_curves, update_sizes
from cllm_lab.views.vital_signs import vital_signs

__all__ = [
    "Benchmark",
    "Picture",
    "attention_maps",
    "benchmark",
    "benchmark_bars",
    "benchmark_curves",
    "benchmark_summary",
    "claims",
    "claims_summary",
    "dependency",
    "dependency_maps",
    "describe_runs",
    "line_chart",
    "loss_curve",
    "memory_table",
    "part_time_bars",
    "readme_picture",
    "schedule_curves",
    "stream_figure",
    "stream_norms",
    "tensor_table",
    "training_diagram",
    "update_size_curves",
    "update_sizes",
    "vital_signs",
]
