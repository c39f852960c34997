"""The compiled matrix products: a b, a b^T and a^T b, each on the calling thread.

A step of training multiplies few rows, the tokens of a batch, by large matrices, each of which it needs once forward
and once back. A general library packs both operands anew for every product; here the operand whose numbers are spread
over a vector is read as it lies (but for a^T b, whose a is small), and only the other is packed into lines for
`vector_tiles`, as much at a time as stays in the caches (Goto & van de Geijn 2008, section 4), while the rows of b that
come next are fetched from memory.

Each element is one chain of multiply-adds over k; for a b^T the chain is cut every `DEPTH_TRANSPOSED`. How the rows or
columns of a product are shared out between threads changes no bit.

Arguments: ``like``, any number of the dtype, float32 or float64, and ``size``, its bytes; the addresses of a, b and out
with the bytes from one row to the next, the numbers of a row lying side by side; out has m rows and n columns, and k
products are summed. ``packed``: the address of `WORKSPACE` bytes, a multiple of `LINE`.
"""

from __future__ import annotations

from cllm_lab.model.parts.jit import compiled, compiled_callee
from cllm_lab.model.parts.vector_tiles import (
    CACHE_LINE,
    LINE,
    ROWS,
    pack_columns,
    pack_line,
    pack_part_of_line,
    pack_transposed,
    tile_of_columns,
    tile_of_rows,
    tile_of_rows_transposed,
)

# Bytes of packed lines that stay in a core's second cache.
PACKED = 1 << 20
# Bytes of b that are fetched into it while others are used, in pieces of rows that long.
BLOCK = 1 << 18
PIECE = 1 << 12
# Products that are summed before an element is written, and where that is dearer because it is transposed.
DEPTH = 512
DEPTH_TRANSPOSED = 2048
WORKSPACE = PACKED + DEPTH * ROWS * 8 + LINE


@compiled
def multiply(like, size, a, a_step, b, b_step, out, out_step, m, k, n, packed):
    """out = a b: (m, k), (k, n)."""
    width = PIECE // size if n * size > PIECE else max(n, 1)
    depth = BLOCK // (width * size) if width * DEPTH * size > BLOCK else DEPTH
    for left in range(0, n, width):
        right = left + width if left + width < n else n
        for first in range(0, max(k, 1), depth):
            count = depth if first + depth < k else k - first
            start = b + first * b_step
            ahead = start + count * b_step + left * size
            end = ahead + (depth if first + count + depth < k else k - first - count) * b_step
            for column in range(left, right, LINE // size):
                _pack_lines(like, size, start + column * size, b_step, count, n - column, packed)
                for row in range(0, m, ROWS):
                    tile_of_rows(
                        like,
                        a + row * a_step + first * size,
                        a_step,
                        packed,
                        count,
                        out + row * out_step + column * size,
                        out_step,
                        m - row,
                        n - column,
                        first,
                        ahead if ahead < end else packed,
                    )
                    ahead += count * CACHE_LINE


@compiled
def multiply_by_transpose(like, size, a, a_step, b, b_step, out, out_step, m, k, n, packed):
    """out = a b^T: (m, k), (n, k). The tile is one of b a^T: b, the weights, is read as it lies."""
    lanes = LINE // size // 2
    for first in range(0, max(k, 1), DEPTH_TRANSPOSED):
        depth = DEPTH_TRANSPOSED if first + DEPTH_TRANSPOSED < k else k - first
        panel = _panel(depth)
        height = PACKED // panel * LINE // size
        for top in range(0, m, height):
            bottom = top + height if top + height < m else m
            for row in range(top, bottom, lanes):
                part = (row - top) // lanes
                lines = packed + part // 2 * panel + part % 2 * (LINE // 2)
                for number in range(0, depth, lanes):
                    pack_transposed(
                        like,
                        a + row * a_step + (first + number) * size,
                        a_step,
                        m - row,
                        depth - number,
                        lines + number * LINE,
                    )
            for column in range(0, n, ROWS):
                lines = packed
                here = b + column * b_step + first * size
                ahead = here + ROWS * b_step
                for row in range(top, bottom, LINE // size):
                    tile_of_rows_transposed(
                        like,
                        here,
                        b_step,
                        lines,
                        depth,
                        out + row * out_step + column * size,
                        out_step,
                        n - column,
                        m - row,
                        first,
                        ahead,
                    )
                    lines += panel
                    ahead += depth * CACHE_LINE


@compiled
def multiply_transpose_by(like, size, a, a_step, b, b_step, out, out_step, m, k, n, packed):
    """out = a^T b: (k, m), (k, n)."""
    columns_of_a = packed + PACKED
    for first in range(0, max(k, 1), DEPTH):
        depth = DEPTH if first + DEPTH < k else k - first
        panel = _panel(depth)
        width = PACKED // panel * LINE // size
        for left in range(0, n, width):
            right = left + width if left + width < n else n
            for column in range(left, right, LINE // size):
                lines = packed + (column - left) * size // LINE * panel
                source = b + first * b_step + column * size
                _pack_lines(like, size, source, b_step, depth, n - column, lines)
            for row in range(0, m, ROWS):
                for number in range(depth):
                    pack_columns(
                        like,
                        a + (first + number) * a_step + row * size,
                        columns_of_a + number * ROWS * size,
                        m - row,
                    )
                lines = packed
                for column in range(left, right, LINE // size):
                    tile_of_columns(
                        like,
                        columns_of_a,
                        lines,
                        depth,
                        out + row * out_step + column * size,
                        out_step,
                        m - row,
                        n - column,
                        first,
                        lines,
                    )
                    lines += panel


@compiled
def _pack_lines(like, size, source, step, rows, columns, lines):
    """The first LINE bytes of each row, or where there are fewer columns those."""
    if columns * size >= LINE:
        for row in range(rows):
            pack_line(like, source + row * step, lines + row * LINE)
    else:
        for row in range(rows):
            pack_part_of_line(like, source + row * step, lines + row * LINE, columns)


@compiled_callee
def _panel(depth):
    """Bytes from one panel to the next: an odd number of lines, or all would want the same places in the cache."""
    return (depth | 1) * LINE
