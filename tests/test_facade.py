"""The façade gives every public name, costs little, and the rooms behind it know their order."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cllm_lab as lab

PACKAGE = Path(lab.__file__).parent
MODULES = {
    ".".join(("cllm_lab", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# From the ground up: a room uses itself and those before it.
ROOMS = ("corpus", "lattice", "model", "training", "faults", "trials", "clinic", "ledger", "views")
GROUND = ("cllm_lab.streams", "cllm_lab.resources", "cllm_lab.files", "cllm_lab.provenance")
DRAWING = {"matplotlib", "ipywidgets", "IPython"}


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


def imports_of(path):
    """Every module that a file names in an import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def test_every_public_name_is_there():
    assert len(lab.__all__) == len(set(lab.__all__)) > 20
    for name in lab.__all__:
        assert getattr(lab, name) is not None
    assert set(lab.__all__) <= set(dir(lab))


PROMISED = (
    "load_corpus ModelConfig Transformer TrainConfig Trainer gradient_check parts StepRecord History "
    "ConfigError CorpusError CheckpointError NonFiniteError read_log generate repetition"
).split()


@pytest.mark.parametrize("name", PROMISED)
def test_names_that_others_rely_on(name):
    assert name in lab.__all__


def test_names_come_from_where_they_are_made():
    assert lab.Trainer.__module__ == "cllm_lab.faults.trainer"
    assert lab.parts.__name__ == "cllm_lab.model.parts"
    assert lab.parts.reference.name == "reference"
    assert lab.parts.fast.name == "fast"


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(lab.__file__).read_text(encoding="utf-8"))
    guard = next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {alias.name: node.module for node in guard.body for alias in node.names}
    homes = {**lab._HOMES, **{name: home.rpartition(".")[0] for name, home in lab._ROOMS.items()}}
    assert seen == homes


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="module 'cllm_lab' has no attribute 'nonexistent'"):
        lab.nonexistent  # noqa: B018
    with pytest.raises(ImportError):
        from cllm_lab import nonexistent  # noqa: F401


def loaded_after(code):
    """The top-level packages that are loaded in a new process after some code."""
    program = f"{code}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(found.stdout.splitlines()[-1].split())


def test_importing_the_library_loads_nothing_heavy():
    loaded = loaded_after("import cllm_lab")
    assert "cllm_lab" in loaded
    assert not loaded & {"numba", "matplotlib", "pandas", "ipywidgets", "scipy", "llvmlite"}


REFERENCE_RUN = """
import cllm_lab as lab
corpus = lab.load_corpus("large")
config = lab.ModelConfig(vocab_size=corpus.vocab_size, d_model=8, n_heads=2, n_layers=1)
trainer = lab.Trainer(lab.Transformer(config, parts=lab.parts.reference), corpus)
trainer.run(steps=2)
trainer.generate("the", n_tokens=2)
"""


def test_the_reference_parts_train_with_numpy_alone():
    assert not loaded_after(REFERENCE_RUN) & {"numba", "matplotlib", "pandas", "ipywidgets", "scipy"}


def test_the_scan_sees_imports_wherever_they_stand(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import numpy.random\n"
        "from cllm_lab.views import tables\n"
        "def f():\n    from cllm_lab.training.trainer import Trainer\n    import cllm_lab.clinic as c\n"
        "    import_module('cllm_lab.model')\n"
    )
    assert set(imports_of(path)) == {
        "numpy.random",
        "cllm_lab.views.tables",
        "cllm_lab.training.trainer",
        "cllm_lab.clinic",
        "cllm_lab.model",
    }


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name)])
def test_a_room_uses_those_below_it_and_never_those_above(module):
    own = ROOMS.index(room_of(module))
    for imported in imports_of(MODULES[module]):
        if imported.partition(".")[0] != "cllm_lab":
            continue
        room = room_of(imported)
        assert room is not None or imported in GROUND, f"{module} imports {imported}"
        assert room is None or ROOMS.index(room) <= own, f"{module} imports {imported} from above"


@pytest.mark.parametrize("module", GROUND)
def test_the_ground_stands_on_nothing_of_the_library(module):
    assert not [name for name in imports_of(MODULES[module]) if name.startswith("cllm_lab")]


@pytest.mark.parametrize("module", MODULES)
def test_only_the_views_draw(module):
    drawn = {name.partition(".")[0] for name in imports_of(MODULES[module])} & DRAWING
    assert not drawn or room_of(module) == "views"


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
NETWORK_MODULES = {"socket", "urllib", "http", "requests", "ftplib", "aiohttp", "httpx", "distributed"}
# The one place that hands work to other processes: this machine's own, or a cluster that a person names.
SPREADS_WORK = {"cllm_lab.trials.backends": {"joblib", "distributed"}}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_unpickled_evaluated_or_fetched(module):
    path = MODULES[module]
    used = {name.partition(".")[0] for name in imports_of(path)}
    assert used & (UNSAFE_MODULES | NETWORK_MODULES) == SPREADS_WORK.get(module, set())
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "__import__"}
            allowed = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            assert all(isinstance(value, ast.Constant) and value.value is False for value in allowed)
