"""Which test goes red on which planted fault, as a map."""

from __future__ import annotations

from matplotlib.colors import ListedColormap

from cllm_lab.clinic.mutation import MutationTable
from cllm_lab.views.picture import COLOURS, Picture, drawing

GREEN, RED = "0.92", COLOURS[1]


def mutation_map(table: MutationTable) -> Picture:
    """A row a test, a column a machine, the sound one first; a filled cell with a cross is red."""
    n_tests, n_machines = table.red.shape
    left, right, below, above, cell = 2.6, 0.15, 2.2, 0.1, 0.42
    width, height = left + cell * n_machines + right, below + cell * n_tests + above
    with drawing(width, height) as picture:
        place = (left / width, below / height, cell * n_machines / width, cell * n_tests / height)
        axes = picture.add_axes(place)
        axes.imshow(table.red, cmap=ListedColormap([GREEN, RED]), vmin=0, vmax=1, aspect="auto")
        axes.grid(False)
        axes.set_xticks(range(n_machines), table.machines, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(n_tests), table.tests, parse_math=False)
        axes.tick_params(length=0)
        for row, column in zip(*table.red.nonzero(), strict=True):
            axes.text(column, row, "×", ha="center", va="center", color="w", fontsize=13)
        for line in range(n_machines - 1):
            axes.axvline(line + 0.5, color="w", linewidth=3 if line == 0 else 1)
        for line in range(n_tests - 1):
            axes.axhline(line + 0.5, color="w", linewidth=1)
    picture.words = repr(table)
    return picture
