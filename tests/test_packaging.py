"""The wheel stands on its own, and the files that name requirements agree with each other."""

import json
import math
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import cllm_lab

PROJECT = Path(__file__).resolve().parent.parent
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = METADATA["optional-dependencies"]


def bounds(requirements: list[str]) -> dict[str, SpecifierSet]:
    parsed = [Requirement(requirement) for requirement in requirements]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in parsed}


class TestRequirements:
    def test_conda_installs_what_pip_installs(self) -> None:
        environment = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))
        *conda, pip_part = environment["dependencies"]
        named = bounds([re.sub(r"(?<![<>=!~])=(?!=)", "==", line) for line in conda])
        (python,) = named.pop("python")
        assert python.version in SpecifierSet(METADATA["requires-python"])
        assert named.pop("pip") == SpecifierSet()
        assert named == bounds(METADATA["dependencies"] + EXTRAS["lab"])
        assert pip_part == {"pip": ["-e ."]}
        assert environment["channels"] == ["conda-forge", "nodefaults"]

    def test_the_tested_versions_are_those_of_every_requirement_and_within_its_bounds(self) -> None:
        lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        tested = bounds([line for line in lines if not line.startswith("#")])
        asked = bounds([*METADATA["dependencies"], *(line for extra in EXTRAS.values() for line in extra)])
        assert tested.keys() == asked.keys()
        for name, pin in tested.items():
            (exact,) = pin
            assert exact.operator == "=="
            assert asked[name].contains(exact.version), f"{name} {exact.version} is outside {asked[name]}"

    def test_every_requirement_has_a_lower_bound(self) -> None:
        for extra in [METADATA["dependencies"], *EXTRAS.values()]:
            for name, specifier in bounds(extra).items():
                assert {">=", "=="} & {part.operator for part in specifier}, name

    def test_a_package_of_several_extras_has_one_bound(self) -> None:
        named = [METADATA["dependencies"], *EXTRAS.values()]
        found = [(name, specifier) for extra in named for name, specifier in bounds(extra).items()]
        assert len(set(found)) == len(dict(found))

    def test_nbval_is_pinned_since_its_comparison_defines_the_notebook_tests(self) -> None:
        assert bounds(EXTRAS["test"])["nbval"] == SpecifierSet("==0.11.0")

    def test_the_browser_tests_use_the_oldest_ipykernel_that_is_supported(self) -> None:
        makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
        (used,) = re.findall(r"^OLDEST_IPYKERNEL := ipykernel==(\S+)", makefile, re.MULTILINE)
        lowest = [part.version for part in bounds(EXTRAS["lab"])["ipykernel"] if part.operator == ">="]
        assert [Version(used)] == [Version(version) for version in lowest]

    def test_the_tools_check_the_oldest_python_that_is_supported(self) -> None:
        tools = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
        oldest = Version(METADATA["requires-python"].removeprefix(">="))
        assert tools["mypy"]["python_version"] == str(oldest)
        assert tools["ruff"]["target-version"] == f"py{oldest.major}{oldest.minor}"


def run(arguments: list[str | Path], folder: Path, **environment: str) -> str:
    """The standard output of Python with these arguments, in a folder."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, which is built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(["-m", "build", "--no-isolation", "--outdir", folder], PROJECT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    run(["-m", "pip", "install", "--no-index", "--no-deps", "--target", folder, wheel], folder)
    return folder


class TestWheel:
    def test_it_holds_the_package_the_data_and_the_notebooks_and_nothing_else(self, wheel: Path) -> None:
        places = {"cllm_lab": "cllm_lab", "data": "cllm_lab/_data", "notebooks": "cllm_lab/_notebooks"}
        expected = {
            f"{inside}/{path.relative_to(PROJECT / folder).as_posix()}"
            for folder, inside in places.items()
            for path in (PROJECT / folder).rglob("*")
            if path.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
        }
        held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        assert held == expected

    def test_it_carries_both_licences(self, wheel: Path) -> None:
        names = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if "/licenses/" in name}
        assert names == {"LICENSE", "LICENSE-prose"}

    def test_it_trains_on_the_shipped_corpus_far_from_any_checkout(
        self, installed: Path, tmp_path: Path
    ) -> None:
        script = """if True:
            import itertools, json
            import cllm_lab as lab
            from cllm_lab.resources import data_path, notebooks_path

            corpus = lab.load_corpus("large", tokenizer="word")
            config = lab.ModelConfig(
                vocab_size=corpus.vocab_size, context_length=8, d_model=16, n_heads=2, n_layers=1, d_ff=32
            )
            settings = lab.TrainConfig(batch_size=2, sequence_length=8)
            trainer = lab.Trainer(lab.Transformer(config, seed=0), corpus, settings)
            losses = [record.loss for record in itertools.islice(trainer.steps(), 5)]
            paths = [lab.__file__, str(data_path("large_corpus.txt")), str(notebooks_path())]
            print(json.dumps([corpus.vocab_size, losses, paths]))
        """
        printed = run(["-c", script], tmp_path, PYTHONPATH=str(installed))
        vocab_size, losses, paths = json.loads(printed)
        assert math.isclose(losses[0], math.log(vocab_size), rel_tol=0.01)
        assert len(set(losses)) == 5
        assert all(Path(path).is_relative_to(installed) for path in paths)

    def test_it_brings_the_notebooks_into_a_folder(self, installed: Path, tmp_path: Path) -> None:
        command = ["-m", "cllm_lab", "lab", "my lab", "--no-launch"]
        printed = run(command, tmp_path, PYTHONPATH=str(installed))
        assert printed.startswith("Notebooks in my lab:")
        listed = json.loads((PROJECT / "notebooks" / "manifest.json").read_text(encoding="utf-8"))
        brought = sorted(path.name for path in (tmp_path / "my lab").glob("*.ipynb"))
        assert brought == [entry["file"] for entry in listed]
        for name in brought:
            shipped = (PROJECT / "notebooks" / name).read_bytes()
            assert (tmp_path / "my lab" / name).read_bytes() == shipped

    def test_it_knows_its_version(self, installed: Path, tmp_path: Path) -> None:
        printed = run(["-m", "cllm_lab", "--version"], tmp_path, PYTHONPATH=str(installed))
        assert printed == f"cllm_lab {cllm_lab.__version__}\n"
