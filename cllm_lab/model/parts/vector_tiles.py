"""The innermost loop of a matrix product: a tile of the result that stays in the vector registers.

    tile (ROWS, COLUMNS) = sum over k of  a[:, k] b[k, :]

Every number of b is multiplied by ROWS numbers of a once it is in a register, and every number of a by COLUMNS of b:
that many multiply-adds for each number read keep the processor's multipliers busy, where a plain loop waits for memory
(Goto & van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication", section 4; Van Zee & van de Geijn 2015,
"BLIS", section 4.2). A compiler does not find this form by itself, so it is written here for the vector registers that
the processor has, as instructions of LLVM, which makes numba's machine code.

Addresses are whole numbers, steps are the bytes from one row to the next. A packed *line* is what fills the vectors of
one row of a tile: COLUMNS numbers, `LINE` bytes. ``like`` is any number of the dtype, float32 or float64. Each element
of a tile is one chain of multiply-adds over k in turn, fused where the processor can: neither the size of the vectors
nor the place of an element in its tile changes a bit of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features

VECTORS = 2
CACHE_LINE = 64


def _registers(features: str) -> tuple[int, int]:
    """(bytes of a vector register, rows of a tile): as many rows as leave registers for b and for a number of a."""
    present = features.split(",")
    if "+avx512f" in present:
        return 64, 13  # of 32 registers 26, 2 and 1 or 2
    if "+avx" in present:
        return 32, 6  # of 16 registers 12, 2 and 1
    if "+neon" in present:
        return 16, 8  # of 32
    return 16, 6


# What numba compiles for: this processor, or what NUMBA_CPU_FEATURES says.
_asked: str | None = vars(config)["CPU_FEATURES"]
_BYTES, ROWS = _registers(get_host_cpu_features() if _asked is None else _asked)
LINE = VECTORS * _BYTES

# Typed by what it decorates, it would seem to lack the first argument, which numba gives.
intrinsic: Any = extending.intrinsic

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)


class _Writer:
    """Writes the vector instructions for one dtype into a function that numba is compiling."""

    def __init__(self, context: Any, builder: Any, like: types.Float) -> None:
        self.builder = builder
        self.number = context.get_value_type(like)
        self.size = like.bitwidth // 8
        self.lanes = _BYTES // self.size
        self.vector = ir.VectorType(self.number, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self.suffix = f"v{self.lanes}f{like.bitwidth}"

    def function(self, name: str, result: ir.Type, *arguments: ir.Type) -> Any:
        """One of LLVM's own."""
        kind = ir.FunctionType(result, arguments)
        return cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.{self.suffix}")

    def whole(self, value: int) -> ir.Constant:
        return ir.Constant(_I64, value)

    def shifted(self, address: Any, count: Any, step: Any) -> Any:
        """address + count step."""
        return self.builder.add(address, self.builder.mul(count, step))

    def pointer(self, address: Any, offset: int = 0, kind: ir.Type | None = None) -> Any:
        place = self.builder.add(address, self.whole(offset)) if offset else address
        return self.builder.inttoptr(place, (kind or self.vector).as_pointer())

    def less(self, left: Any, right: Any) -> Any:
        return self.builder.icmp_signed("<", left, right)

    def is_set(self, value: Any) -> Any:
        return self.builder.icmp_signed("!=", value, self.whole(0))

    def smaller(self, left: Any, right: Any) -> Any:
        return self.builder.select(self.less(left, right), left, right)

    def spread(self, number: Any) -> Any:
        """A vector of one number, or of one whole number of 32 bits."""
        kind = ir.VectorType(number.type, self.lanes)
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(nothing, number, ir.Constant(_I32, 0))
        lanes = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, nothing, lanes)

    def mask(self, count: Any, start: int) -> Any:
        """Which lanes are among the first ``count`` numbers, where lane 0 is number ``start``."""
        numbers = ir.Constant(ir.VectorType(_I32, self.lanes), [start + lane for lane in range(self.lanes)])
        return self.less(numbers, self.spread(self.builder.trunc(count, _I32)))

    def only_if(self, condition: Any, mask: Any) -> Any:
        return self.builder.select(condition, mask, ir.Constant(mask.type, [0] * self.lanes))

    def load(self, address: Any, mask: Any) -> Any:
        """The numbers under the mask, 0 elsewhere; only they are read."""
        kinds = self.vector.as_pointer(), _I32, ir.VectorType(_I1, self.lanes), self.vector
        name = f"llvm.masked.load.{self.suffix}.p0"
        read = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(self.vector, kinds), name)
        return self.builder.call(read, [self.pointer(address), ir.Constant(_I32, self.size), mask, self.zero])

    def store(self, value: Any, address: Any, mask: Any) -> None:
        """The numbers under the mask; nothing else is written."""
        kinds = self.vector, self.vector.as_pointer(), _I32, ir.VectorType(_I1, self.lanes)
        name = f"llvm.masked.store.{self.suffix}.p0"
        write = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), kinds), name
        )
        self.builder.call(write, [value, self.pointer(address), ir.Constant(_I32, self.size), mask])

    def transposed(self, lines: list[Any]) -> list[Any]:
        """A square of ``lanes`` vectors, rows and columns exchanged: halves, quarters and so on change places."""
        kind = ir.VectorType(_I32, self.lanes)
        distance = self.lanes // 2
        while distance:
            low = [j + (self.lanes - distance) * bool(j & distance) for j in range(self.lanes)]
            high = [place + distance for place in low]
            for i in range(self.lanes):
                if not i & distance:
                    pair = lines[i], lines[i + distance]
                    lines[i] = self.builder.shuffle_vector(*pair, ir.Constant(kind, low))
                    lines[i + distance] = self.builder.shuffle_vector(*pair, ir.Constant(kind, high))
            distance //= 2
        return lines

    def fetch(self, address: Any) -> None:
        """Asks for what will be read soon, into the second cache."""
        kinds = ir.IntType(8).as_pointer(), _I32, _I32, _I32
        ask = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        read, second_cache, data = (ir.Constant(_I32, value) for value in (0, 2, 1))
        self.builder.call(ask, [self.pointer(address, kind=ir.IntType(8)), read, second_cache, data])

    def tile(
        self,
        count: Any,
        line: Any,
        ahead: Any,
        number: Callable[[Any, int], Any],
        start: Sequence[Sequence[Any]],
    ) -> list[list[Any]]:
        """[row][vector] of ``start`` and the sum over ``count`` lines from address ``line``.

        number(k, row) points at the number of a. Meanwhile what lies from ``ahead`` on is fetched, a line of the cache
        for each of the sum's terms.
        """
        sums = [[cgutils.alloca_once_value(self.builder, each) for each in row] for row in start]
        fused = self.function("fmuladd", self.vector, self.vector, self.vector, self.vector)
        with cgutils.for_range(self.builder, count) as loop:
            place = self.shifted(line, loop.index, self.whole(LINE))
            self.fetch(self.shifted(ahead, loop.index, self.whole(CACHE_LINE)))
            b = [self.builder.load(self.pointer(place, v * _BYTES), align=_BYTES) for v in range(VECTORS)]
            for row in range(ROWS):
                a = self.spread(self.builder.load(number(loop.index, row)))
                for v in range(VECTORS):
                    total = self.builder.load(sums[row][v])
                    self.builder.store(self.builder.call(fused, [a, b[v], total]), sums[row][v])
        return [[self.builder.load(each) for each in row] for row in sums]

    def nothing(self) -> list[list[Any]]:
        """The start of a tile's sum where nothing is there yet."""
        return [[self.zero] * VECTORS for _ in range(ROWS)]

    def rows_of(self, a: Any, a_step: Any, rows: Any) -> Callable[[Any, int], Any]:
        """For `tile`: rows as they lie; beyond ``rows`` the last stands for the others."""
        last = self.builder.sub(rows, self.whole(1))
        starts = [
            self.pointer(self.shifted(a, self.smaller(self.whole(row), last), a_step), kind=self.number)
            for row in range(ROWS)
        ]
        return lambda k, row: self.builder.gep(starts[row], [k])

    def places(self, out: Any, out_step: Any, rows: Any, columns: Any) -> Iterator[tuple[int, int, Any, Any]]:
        """(row, vector, address, mask) of each vector of a tile; outside its rows and columns the mask is 0.

        Addresses do not go beyond the last row: even what is not read or written takes long where there is no memory.
        """
        last = self.builder.sub(rows, self.whole(1))
        masks = [self.mask(columns, v * self.lanes) for v in range(VECTORS)]
        for row in range(ROWS):
            line = self.shifted(out, self.smaller(self.whole(row), last), out_step)
            for v in range(VECTORS):
                mask = self.only_if(self.less(self.whole(row), rows), masks[v])
                yield row, v, self.builder.add(line, self.whole(v * _BYTES)), mask

    def keep_transposed(
        self, sums: list[list[Any]], out: Any, out_step: Any, rows: Any, columns: Any, adds: Any
    ) -> None:
        """A tile into ``out``, where its rows are columns, or where ``adds`` is true added to what is there."""
        last = self.builder.sub(columns, self.whole(1))
        for first in range(0, ROWS, self.lanes):
            start, some = self.builder.add(out, self.whole(first * self.size)), self.mask(rows, first)
            for v in range(VECTORS):
                part = [sums[row][v] for row in range(first, min(first + self.lanes, ROWS))]
                lines = self.transposed(part + [self.zero] * (self.lanes - len(part)))
                for column, line in enumerate(lines, start=v * self.lanes):
                    place = self.shifted(start, self.smaller(self.whole(column), last), out_step)
                    mask = self.only_if(self.less(self.whole(column), columns), some)
                    there = self.load(place, self.only_if(adds, mask))
                    self.store(self.builder.fadd(there, line), place, mask)


def _written(like: types.Float, count: int, write: Callable[..., None]) -> tuple:
    """What an intrinsic of (like, ``count`` whole numbers) is: its signature, and what writes its instructions."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        write(_Writer(context, builder, like), *values[1:])
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * count), generate


def _write_tile(
    w: _Writer, number: Callable, line: Any, count: Any,
    out: Any, out_step: Any, rows: Any, columns: Any, adds: Any, ahead: Any,
) -> None:  # fmt: skip
    places = list(w.places(out, out_step, rows, columns))
    start = w.nothing()
    for row, v, place, mask in places:
        start[row][v] = w.load(place, w.only_if(w.is_set(adds), mask))
    sums = w.tile(count, line, ahead, number, start)
    for row, v, place, mask in places:
        w.store(sums[row][v], place, mask)


@intrinsic
def tile_of_rows(typingctx, like, a, a_step, line, count, out, out_step, rows, columns, adds, ahead):
    """out[i, j] = sum over k of a[i, k] line[k, j], or += where ``adds`` is not 0; ``rows`` and ``columns`` of it."""

    def write(w, a, a_step, line, count, out, out_step, rows, columns, adds, ahead):
        number = w.rows_of(a, a_step, rows)
        _write_tile(w, number, line, count, out, out_step, rows, columns, adds, ahead)

    return _written(like, 10, write)


@intrinsic
def tile_of_columns(typingctx, like, a, line, count, out, out_step, rows, columns, adds, ahead):
    """out[i, j] = sum over k of a[k, i] line[k, j], or += where ``adds`` is not 0, for a of `pack_columns`."""

    def write(w, a, line, count, out, out_step, rows, columns, adds, ahead):
        step = w.whole(ROWS * w.size)

        def number(k, row):
            return w.pointer(w.shifted(a, k, step), row * w.size, w.number)

        _write_tile(w, number, line, count, out, out_step, rows, columns, adds, ahead)

    return _written(like, 9, write)


@intrinsic
def tile_of_rows_transposed(
    typingctx, like, a, a_step, line, count, out, out_step, rows, columns, adds, ahead
):
    """out[j, i] = sum over k of a[i, k] line[k, j], or += where ``adds`` is not 0; ``rows`` of i, ``columns`` of j.

    Where ``rows`` is more than ROWS, up to a vector of what belongs to the next tile is overwritten as well.
    """

    def write(w, a, a_step, line, count, out, out_step, rows, columns, adds, ahead):
        sums = w.tile(count, line, ahead, w.rows_of(a, a_step, rows), w.nothing())
        w.keep_transposed(sums, out, out_step, rows, columns, w.is_set(adds))

    return _written(like, 10, write)


@intrinsic
def pack_line(typingctx, like, source, target):
    """A whole line, copied to where lines are aligned."""

    def write(w, source, target):
        for v in range(VECTORS):
            line = w.builder.load(w.pointer(source, v * _BYTES), align=w.size)
            w.builder.store(line, w.pointer(target, v * _BYTES), align=_BYTES)

    return _written(like, 2, write)


@intrinsic
def pack_part_of_line(typingctx, like, source, target, columns):
    """As `pack_line` where only so many columns are there; 0 after them."""

    def write(w, source, target, columns):
        for v in range(VECTORS):
            part = w.load(w.builder.add(source, w.whole(v * _BYTES)), w.mask(columns, v * w.lanes))
            w.builder.store(part, w.pointer(target, v * _BYTES), align=_BYTES)

    return _written(like, 3, write)


@intrinsic
def pack_columns(typingctx, like, source, target, rows):
    """ROWS numbers of which so many are there, 0 after them; up to a vector more is overwritten behind them."""

    def write(w, source, target, rows):
        for first in range(0, ROWS, w.lanes):
            offset = w.whole(first * w.size)
            part = w.load(w.builder.add(source, offset), w.mask(rows, first))
            w.builder.store(part, w.pointer(w.builder.add(target, offset)), align=w.size)

    return _written(like, 3, write)


@intrinsic
def pack_transposed(typingctx, like, source, source_step, rows, columns, target):
    """A square of a vector's length, rows and columns exchanged, so that its columns become parts of lines.

    Where there are fewer ``rows``, numbers of the last stand for the others.
    """

    def write(w, source, source_step, rows, columns, target):
        mask, last = w.mask(columns, 0), w.builder.sub(rows, w.whole(1))
        lines = w.transposed(
            [
                w.load(w.shifted(source, w.smaller(w.whole(row), last), source_step), mask)
                for row in range(w.lanes)
            ]
        )
        for column, line in enumerate(lines):
            with w.builder.if_then(w.less(w.whole(column), columns)):
                w.builder.store(line, w.pointer(target, column * LINE), align=_BYTES)

    return _written(like, 5, write)
