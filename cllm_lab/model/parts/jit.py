"""The decorator of every compiled function: one set of options, a cache that is never stale, one line of news.

numba keeps machine code on disk beside a stamp of the file in which the function stands. What the function
calls or takes from another file is not in that stamp, so an edit there would change nothing. Here the machine
code carries a second stamp: the contents of that file and of all it imports from its package.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import numba
from numba import types
from numba.core import event
from numba.core.caching import CompileResultCacheImpl, FunctionCache

# NaN must stay NaN, so "nnan" and "ninf" are left out; the rest lets sums run in vector registers.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@lru_cache
def _snapshot(package: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(package.rglob("*.py"))}


@lru_cache
def sources(file: Path, package: Path) -> frozenset[Path]:
    """The files that decide what the functions of ``file`` compile to: itself and all it imports, and so on.

    Only files below the folder ``package`` count. Import statements are read, wherever they stand, and nothing
    is imported. A package can hand on anything, so an import of a package rather than of a module in it, or of
    a module that is not there, brings every file. So does no import but a statement: importlib is not seen.
    Both paths are resolved ones.

    No file at all when ``file`` is not a readable one of the package. Raises OSError when another one cannot be
    read, SyntaxError when one is not Python. Every file is read once in a process.
    """
    contents = _snapshot(package)
    if file not in contents:
        return frozenset()
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            for module in _imported_modules(ast.parse(contents[path]), path, package):
                if module not in contents:
                    return frozenset(contents)
                waiting.append(module)
    return frozenset(found)


def _imported_modules(tree: ast.Module, path: Path, package: Path) -> Iterator[Path]:
    """The file of each module of the package that is imported; the folder itself for an import of a package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            if any(alias.name.split(".")[0] == package.name for alias in node.names):
                yield package
        elif isinstance(node, ast.ImportFrom):
            names = node.module.split(".") if node.module else []
            if node.level:
                folder = path.parents[node.level - 1]
            elif names[0] == package.name:
                folder = package.parent
            else:
                continue
            module = folder.joinpath(*names)
            for alias in node.names:
                yield (module / alias.name if module.is_dir() else module).with_suffix(".py")


def _stamp(contents: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(hashlib.sha256(text).digest() for text in contents)).digest()


class _StampedResults(CompileResultCacheImpl):
    """What is written to disk is the pair (stamp, machine code); another stamp counts as nothing found."""

    sources: dict[Path, bytes]

    def reduce(self, result: Any) -> tuple[bytes | None, Any]:
        return self._current_stamp(), super().reduce(result)

    def rebuild(self, target_context: Any, data: tuple) -> Any:
        stamp = self._current_stamp()
        if stamp is None or data[0] != stamp:
            return None
        return super().rebuild(target_context, data[1])

    def _current_stamp(self) -> bytes | None:
        """None once a file is not what it was: what of it this process has imported is then unknown."""
        try:
            now = _stamp(path.read_bytes() for path in self.sources)
        except OSError:
            return None
        return now if now == _stamp(self.sources.values()) else None


class _StampedCache(FunctionCache):
    _impl_class = _StampedResults

    def __init__(self, function: Callable, sources: dict[Path, bytes]) -> None:
        super().__init__(function)
        hooks = {"reduce", "rebuild"} <= vars(CompileResultCacheImpl).keys()
        if not hooks or not isinstance(self._impl, _StampedResults):
            raise RuntimeError(
                f"numba {numba.__version__} keeps its cache in a way unknown to {__name__}, which could not tell "
                "stale machine code; install an earlier numba"
            )
        self._impl.sources = sources


class _Announcer(event.Listener):
    """Says on standard error what is being compiled. numba tells it of every compilation, never of a cache hit."""

    def __init__(self) -> None:
        self.names: WeakKeyDictionary[Callable, str] = WeakKeyDictionary()
        self._said: WeakKeyDictionary[Callable, set[str]] = WeakKeyDictionary()
        self._depth = 0

    def on_start(self, event: event.Event) -> None:
        dispatcher = event.data["dispatcher"]
        if dispatcher not in self.names:
            return
        self._depth += 1
        dtype = _dtype_name(event.data["args"])
        said = self._said.setdefault(dispatcher, set())
        if self._depth == 1 and dtype not in said and not _quiet.get():
            said.add(dtype)
            print(f"{self.names[dispatcher]}{dtype} ...", file=sys.stderr, flush=True)

    def on_end(self, event: event.Event) -> None:
        self._depth -= event.data["dispatcher"] in self.names


def _dtype_name(arguments: Iterable) -> str:
    """In brackets the dtype of the first array of floats, else of the first array, else of the first number."""
    scalars = [argument for argument in _flat(arguments) if isinstance(argument, types.Number)]
    dtypes = [argument.dtype for argument in _flat(arguments) if isinstance(argument, types.Array)]
    dtypes.sort(key=lambda dtype: not isinstance(dtype, types.Float))
    return next((f" ({dtype})" for dtype in (*dtypes, *scalars)), "")


def _flat(arguments: Iterable) -> Iterator:
    for argument in arguments:
        if isinstance(argument, types.BaseTuple):
            yield from _flat(cast(Iterable, argument))
        else:
            yield argument


_announcer = _Announcer()
event.register("numba:compile", _announcer)


@contextmanager
def quiet() -> Iterator[None]:
    """Compile without a word, in a ``with`` block or as a decorator: for callers that report themselves."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def decorator(package: Path) -> Callable[..., Callable]:
    """The decorator for the functions of the top-level package in the folder ``package``.

    Functions compile on their first call for a dtype, to code that runs without the interpreter's lock and
    divides by zero as NumPy does; under NUMBA_DISABLE_JIT=1 they stay Python. A line on standard error says what
    is being compiled, one for each function and dtype, but not for what compiles as part of another function,
    nor under `quiet`. A function that one other calls, and nobody else, compiles faster as a part of that one:
    ``inline="always"``.

    The machine code is kept on disk until one of the `sources` of its file changes: beside that file, in the
    user's cache folder where this is read-only, or in NUMBA_CACHE_DIR. Nothing is kept where a source cannot be
    read (in a zip file, say), or no folder written, or once a source has changed under a running process.

    The decorator raises RuntimeError when numba's cache works in a way unknown to this module.
    """
    package = package.resolve()

    njit: Any = numba.njit

    def compiled(function: Callable, inline: str = "never", forceinline: bool = False) -> Callable:
        options = {"inline": inline, "forceinline": forceinline}
        dispatcher = njit(nogil=True, error_model="numpy", fastmath=FAST_MATH, **options)(function)
        _announcer.names[dispatcher] = f"{package.name}: compiling {function.__name__.strip('_')}"
        cache = _cache(function, package)
        if cache is not None:
            dispatcher._cache = cache
        return dispatcher

    return compiled


def _cache(function: Callable, package: Path) -> _StampedCache | None:
    here = Path(__file__).resolve()
    try:
        options = {here: here.read_bytes()}
        files = sources(Path(inspect.getfile(function)).resolve(), package)
    except (OSError, SyntaxError):
        return None
    if not files:
        return None
    try:
        return _StampedCache(function, options | {path: _snapshot(package)[path] for path in sorted(files)})
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return None


compiled = decorator(Path(__file__).parents[2])


def compiled_callee(function: Callable) -> Callable:
    """`compiled`, for what other compiled functions call: its machine code becomes part of theirs.

    Linked to, it could be there twice, from the cache of the caller and from its own, optimised in two ways; which of
    them ran, and so the last bits, would depend on what the process had loaded first.
    """
    return compiled(function, forceinline=True)


def written_out(function: Callable) -> Callable:
    """`compiled`, for what few compiled functions call: written into them, and not compiled by itself as well."""
    return compiled(function, inline="always")


def machine_code(function: Any, arguments: tuple) -> int:
    """The address at which C code may call a compiled function for these argument types; it is compiled for them."""
    function.compile(arguments)
    result = function.overloads[arguments]
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))
