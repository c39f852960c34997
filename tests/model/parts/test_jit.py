"""The decorator of compiled functions: no stale machine code, and a line that says what is being compiled."""

import ast
import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numba
import numpy as np
import pytest

import cllm_lab
from cllm_lab.model.parts import jit, kernels
from cllm_lab.training import optimizer_kernels

PACKAGE = Path(cllm_lab.__file__).resolve().parent
ROOT = PACKAGE.parent
HEADER = """
from pathlib import Path
from cllm_lab.model.parts import jit
compiled = jit.decorator(Path(__file__).parent)
"""
# `total` calls `weight` of another file, which takes `FACTOR` from a third.
FILES = {
    "__init__": "",
    "constants": "FACTOR = 2.0",
    "callee": f"""{HEADER}
from toys.constants import FACTOR
@compiled
def weight(x):
    return 1.0 * x * FACTOR
""",
    "caller": f"""{HEADER}
from toys.callee import weight
@compiled
def total(values):
    return values[0] + weight(values[1])
""",
    "stranger": "x = 1",
}
VALUES = np.array([1.0, 10.0])
LINE = "toys: compiling total (float64) ..."
IN_A_PROCESS = """
import numpy as np
from toys.caller import total
print(total(np.array([1.0, 10.0])), sum(total.stats.cache_hits.values()), sum(total.stats.cache_misses.values()))
"""


def forget():
    """Makes the next import of the toys that of a new process."""
    jit._snapshot.cache_clear()
    jit.sources.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "toys"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """The folder of a package with FILES; the cache lies inside it."""
    folder = tmp_path / "toys"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield folder
    forget()


def edit(path, old, new):
    """Replaces text by other text of the same length; size and time of the file stay."""
    before, text = path.stat(), path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def loaded():
    return importlib.import_module("toys.caller").total


def run():
    """What a new import of `total` gives, and whether that came from the cache."""
    forget()
    return call(loaded())


def call(total):
    result, stats = total(VALUES), total.stats
    return result, (sum(stats.cache_hits.values()), sum(stats.cache_misses.values())) == (1, 0)


def test_in_new_processes_an_edited_callee_never_runs_from_the_cache_of_its_caller(toys):
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(toys.parent)))

    def run_process():
        finished = subprocess.run(
            [sys.executable, "-B", "-c", IN_A_PROCESS],
            env=environment,
            cwd=toys,
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        return (*map(float, finished.stdout.split()), finished.stderr.splitlines())

    assert run_process() == (21.0, 0, 1, [LINE])
    assert run_process() == (21.0, 1, 0, [])
    edit(toys / "callee.py", "1.0 * x", "5.0 * x")
    assert run_process() == (101.0, 0, 1, [LINE])


@pytest.mark.parametrize("file, old, new", [("callee", "1.0 *", "5.0 *"), ("constants", "2.0", "10.")])
def test_an_edit_of_what_a_function_uses_compiles_it_again(toys, file, old, new):
    assert [run(), run()] == [(21.0, False), (21.0, True)]
    edit(toys / f"{file}.py", old, new)
    assert [run(), run()] == [(101.0, False), (101.0, True)]
    edit(toys / f"{file}.py", new, old)
    assert run() == (21.0, False)
    assert len(list((toys / "__pycache__").glob("caller.total*.nbc"))) == 1, "old machine code is overwritten"


def test_an_edit_of_another_file_compiles_nothing(toys):
    run()
    edit(toys / "stranger.py", "x = 1", "x = 2")
    assert run() == (21.0, True)


def test_an_edit_under_a_running_process_turns_its_cache_off(toys):
    run()
    forget()
    jit.sources(toys / "caller.py", toys)
    edit(toys / "callee.py", "1.0 * x", "5.0 * x")
    assert call(loaded()) == (101.0, False)
    edit(toys / "callee.py", "5.0 * x", "1.0 * x")
    assert run() == (21.0, False), "nothing was kept by the process that may have seen both versions"
    forget()
    total = loaded()
    (toys / "constants.py").unlink()
    assert call(total) == (21.0, False)


def test_machine_code_without_a_stamp_is_not_loaded(toys):
    (toys / "caller.py").write_text(FILES["caller"].replace("@compiled", "@jit.numba.njit(cache=True)"))
    assert [run(), run()] == [(21.0, False), (21.0, True)]
    total = loaded()
    for cache, found in (
        (jit.FunctionCache(total.py_func), True),
        (jit._StampedCache(total.py_func, {}), False),
    ):
        assert (cache.load_overload(total.signatures[0], total.targetctx) is not None) == found


EVERY = sorted(FILES)


@pytest.mark.parametrize(
    "text, names",
    [
        ("import math\nfrom pathlib import Path", []),
        ("from toys.callee import weight", ["callee", "constants"]),
        ("from toys.callee import *", ["callee", "constants"]),
        ("from .callee import weight as w", ["callee", "constants"]),
        ("from toys import stranger", ["stranger"]),
        ("from . import stranger, constants", ["constants", "stranger"]),
        ("def later():\n    from toys import (\n        stranger,\n    )", ["stranger"]),
        ("from toys import handed_on", EVERY),
        ("from toys import *", EVERY),
        ("from toys import below", EVERY),
        ("from toys.below import handed_on", EVERY),
        ("from .. import toys", EVERY),
        ("import toys", EVERY),
        ("import toys.callee as c", EVERY),
    ],
)
def test_sources_follow_import_statements(toys, text, names):
    (toys / "below").mkdir()
    (toys / "below" / "__init__.py").write_text("")
    file = toys / "importer.py"
    file.write_text(text)
    found = {path.relative_to(toys).as_posix().removesuffix(".py") for path in jit.sources(file, toys)}
    assert found == {"importer", *names} | ({"below/__init__"} if names == EVERY else set())


def test_sources_of_the_compiled_functions_of_the_package():
    def found(file):
        return {path.relative_to(PACKAGE).as_posix() for path in jit.sources(PACKAGE / file, PACKAGE)}

    assert found("model/parts/kernels.py") == {"model/parts/kernels.py", "model/parts/jit.py"}
    assert "training/optimizers.py" in found("training/optimizer_kernels.py")


def test_the_options_are_in_the_stamp(toys, monkeypatch):
    run()
    options = toys.parent / "options.py"
    options.write_text("another jit.py")
    monkeypatch.setattr(jit, "__file__", str(options))
    assert [run(), run()] == [(21.0, False), (21.0, True)]


def test_beside_a_read_only_package_the_cache_is_the_users(toys, monkeypatch, tmp_path):
    (toys / "__pycache__").write_text("no folder can be made here")
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    total = loaded()
    assert Path(total.stats.cache_path).is_relative_to(tmp_path / "home")
    assert total(VALUES) == 21.0
    assert list(Path(total.stats.cache_path).glob("*.nbi"))


def test_the_cache_goes_where_the_user_says(toys, monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "chosen"))
    total = loaded()
    assert Path(total.stats.cache_path).parent == tmp_path / "chosen"


@pytest.mark.skipif(
    sys.platform == "win32", reason="the folder of a Windows user's caches comes from the registry"
)
def test_without_a_folder_to_write_nothing_is_kept(toys, monkeypatch):
    (toys / "__pycache__").write_text("no folder can be made here")
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(toys / "stranger.py" / "below"))
    total = loaded()
    assert total.stats.cache_path is None
    assert total(VALUES) == 21.0


def test_from_a_zip_file_nothing_is_kept(toys, monkeypatch, tmp_path):
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in toys.glob("*.py"):
            archive.write(path, f"toys/{path.name}")
    monkeypatch.syspath_prepend(packed)
    total = loaded()
    assert total.py_func.__code__.co_filename.startswith(str(packed))
    assert total.stats.cache_path is None
    assert total(VALUES) == 21.0


def test_sources_that_cannot_be_read_turn_the_cache_off(toys, monkeypatch):
    def refused(path):
        raise PermissionError(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert loaded().stats.cache_path is None


def test_a_source_that_is_not_python_turns_the_cache_off(toys):
    (toys / "caller.py").write_text(FILES["caller"] + "def later():\n    from toys import broken\n")
    (toys / "broken.py").write_text("def (")
    assert call(loaded()) == (21.0, False)


def test_a_function_from_outside_the_package_is_not_cached(toys):
    assert jit.decorator(toys)(edit).stats.cache_path is None
    assert jit.decorator(PACKAGE)(edit).stats.cache_path is None


@pytest.mark.parametrize("change", ["no hook", "another way to the hooks", "another error"])
def test_a_numba_that_caches_in_another_way_is_refused(toys, monkeypatch, change):
    if change == "no hook":
        monkeypatch.delattr(jit.CompileResultCacheImpl, "rebuild")
        monkeypatch.setattr(jit._StampedResults, "__abstractmethods__", frozenset())
        message = "install an earlier numba"
    elif change == "another way to the hooks":
        monkeypatch.setattr(jit._StampedCache, "_impl_class", jit.CompileResultCacheImpl)
        message = "install an earlier numba"
    else:
        monkeypatch.setattr(jit._StampedResults, "_locator_classes", [UnheardLocator])
        message = "Unheard"
    with pytest.raises(RuntimeError, match=message):
        loaded()


class UnheardLocator:
    @classmethod
    def from_function(cls, function, file):
        raise RuntimeError("Unheard")


def test_without_compilation_the_function_is_left_as_it_is(toys, monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)

    def f(x):
        return x

    assert jit.decorator(toys)(f) is f


def lines(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_one_line_for_a_function_and_a_dtype(toys, capsys):
    def _scale(counts, values, factor):
        return counts[0] * values[0, 0] * factor

    scale = jit.decorator(toys)(_scale)
    counts, values = np.ones(1, np.int32), np.ones((4, 2))
    assert lines(capsys) == []
    scale(counts, values, 1.0)
    assert lines(capsys) == ["toys: compiling scale (float64) ..."]
    scale(counts, values, 1.0)
    scale(counts, values[:, ::2], 1.0)
    assert len(scale.signatures) == 2
    assert lines(capsys) == []
    scale(counts, values.astype(np.float32), 1.0)
    assert lines(capsys) == ["toys: compiling scale (float32) ..."]


def test_lines_of_functions_without_floats_or_arrays(toys, capsys):
    compiled = jit.decorator(toys)
    compiled(lambda ids: ids[0])(np.ones(1, np.int32))

    def double(x):
        return x + x

    def nothing():
        pass

    compiled(double)(1.0)
    compiled(nothing)()
    assert lines(capsys) == [
        "toys: compiling <lambda> (int32) ...",
        "toys: compiling double (float64) ...",
        "toys: compiling nothing ...",
    ]


def test_the_dtype_is_found_inside_tuples(toys, capsys):
    jit.decorator(toys)(lambda ids, pair: pair[1][0][0])(
        np.ones(1, np.int32), (1, (np.ones(1, np.float32), 2))
    )
    assert lines(capsys) == ["toys: compiling <lambda> (float32) ..."]


def test_a_callee_is_not_named_beside_its_caller(toys, capsys):
    caller = importlib.import_module("toys.caller")
    caller.total(VALUES)
    caller.weight(10.0)
    assert lines(capsys) == ["toys: compiling total (float64) ..."]
    caller.weight(1)
    assert lines(capsys) == ["toys: compiling weight (int64) ..."]


def test_a_function_of_the_users_own_is_not_named(toys, capsys):
    total = loaded()
    theirs = numba.njit(lambda values: total(values))
    numba.njit(lambda x: x)(1.0)
    assert lines(capsys) == []
    assert theirs(VALUES) == 21.0
    assert lines(capsys) == ["toys: compiling total (float64) ..."]


def test_a_failed_compilation_does_not_silence_the_next(toys, capsys):
    compiled = jit.decorator(toys)
    with pytest.raises(numba.TypingError):
        compiled(lambda values: values.no_such_name)(np.ones(1))
    compiled(lambda values: values[0])(np.ones(1))
    assert lines(capsys) == ["toys: compiling <lambda> (float64) ..."] * 2


def test_quiet_as_a_block_and_as_a_decorator(toys, capsys):
    function = jit.decorator(toys)(lambda values: values[0])
    with jit.quiet():
        function(np.ones(1, np.float32))
    jit.quiet()(function)(np.ones(1))
    assert lines(capsys) == []
    function(np.ones(1, np.int32))
    assert lines(capsys) == ["toys: compiling <lambda> (int32) ..."]


def test_options_of_the_compiled_functions():
    for dispatcher in (kernels.layer_norm, optimizer_kernels._adam):
        assert dispatcher.targetoptions["nogil"] is True
        assert dispatcher.targetoptions["error_model"] == "numpy"
        assert dispatcher.targetoptions["fastmath"] == jit.FAST_MATH
        assert dispatcher.stats.cache_path is not None
    assert not jit.FAST_MATH & {"fast", "nnan", "ninf"}


def test_nothing_in_the_package_is_compiled_past_the_decorator():
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        named |= {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        named &= {"njit", "vectorize", "guvectorize", "cfunc", "stencil"}
        assert named == ({"njit"} if file.name == "jit.py" else set()), file
