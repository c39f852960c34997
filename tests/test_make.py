"""`make` sets an environment up once, completely, or says in one line what is missing.

A shell script stands in for Python, so that nothing is downloaded: it makes an environment by copying itself
there, and logs each call of venv and pip.
"""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
TOOLS = ("sh", "cat", "cp", "mkdir", "rm", "touch")

STAND_IN = """#!/bin/sh
case "$*" in
*"assert '' in"*|*"assert 'VERSION' in"*) ;;
*assert*) exit 1 ;;
*platform.python_version*) echo VERSION ;;
*sys.version_info*) exit OLD ;;
*"import ensurepip, venv"*) exit NO_VENV ;;
*--version*) echo "Python VERSION" ;;
"-m venv "*) echo venv >>calls; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
"-m pip install "*) echo "pip $*" >>calls; if [ -e during-pip ]; then . ./during-pip; fi ;;
"-m cllm_lab compile") ;;
"-m tests.bench"*) echo "bench $*" >>calls ;;
"-m pytest tests/browser") echo browser >>calls ;;
"-m pytest "*) echo "threads $OMP_NUM_THREADS" >>calls ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""


class Checkout:
    """A copy of what `make` reads, in a folder with a space in its name, and a path of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a folder"
        self.bin = folder / "bin"
        self.folder.mkdir()
        self.bin.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(PROJECT / name, self.folder)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)

    def add_python(self, name: str, version: str, old: bool = False, no_venv: bool = False) -> None:
        text = (
            STAND_IN.replace("VERSION", version).replace("NO_VENV", f"{no_venv:d}").replace("OLD", f"{old:d}")
        )
        path = self.bin / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        make = shutil.which("make")
        assert make is not None
        return subprocess.run(
            [make, *arguments],
            cwd=self.folder,
            env={"PATH": str(self.bin), **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def set_up(self, extra: str = "lab", **variables: str) -> list[str]:
        """The calls of venv and pip that setting up makes."""
        log = self.folder / "calls"
        log.unlink(missing_ok=True)
        done = self.make(f".venv/.ready-{extra}", **variables)
        assert done.returncode == 0, done.stderr
        return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    checkout.add_python("python3", "3.11.7")
    assert checkout.set_up() == ["venv", "pip"]
    return checkout


def test_pip_gets_the_extra_and_the_constraints(ready: Checkout) -> None:
    _, call = (ready.folder / "calls").read_text().splitlines()
    assert call.endswith("-c constraints.txt -e .[lab]")


def test_the_second_time_neither_venv_nor_pip_is_called(ready: Checkout) -> None:
    assert ready.set_up() == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_calls_pip_again(ready: Checkout, name: str) -> None:
    later = (ready.folder / ".venv" / ".ready-lab").stat().st_mtime + 10
    os.utime(ready.folder / name, (later, later))
    assert ready.set_up() == ["pip"]


def test_each_use_installs_into_the_one_environment(ready: Checkout) -> None:
    assert ready.set_up("test") == ["pip"]
    assert ready.set_up("lint") == ["pip"]
    assert ready.set_up("lab") == ready.set_up("test") == []


@pytest.mark.parametrize("ending", ["kill -KILL $PPID", "kill -INT $PPID; exit 1"])
@pytest.mark.parametrize("extra", ["lab", "test"])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_an_interrupted_installation_starts_again(
    ready: Checkout, ending: str, extra: str, shell: str
) -> None:
    if extra == "lab":
        shutil.rmtree(ready.folder / ".venv")
    (ready.folder / "during-pip").write_text(ending)
    assert ready.make(f".venv/.ready-{extra}", f"SHELL={shutil.which(shell)}").returncode != 0
    (ready.folder / "during-pip").unlink()
    assert ready.set_up("lab") == ["venv", "pip"]
    assert ready.set_up("lab") == []


def test_a_failed_installation_keeps_what_was_there(ready: Checkout) -> None:
    (ready.folder / "during-pip").write_text("exit 3")
    assert ready.make(".venv/.ready-test").returncode != 0
    assert ready.set_up("lab") == []
    (ready.folder / "during-pip").unlink()
    assert ready.set_up("test") == ["pip"]


def test_a_half_made_environment_starts_again(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.11.7")
    (checkout.folder / ".venv" / "bin").mkdir(parents=True)
    (checkout.folder / ".venv" / "bin" / "python").symlink_to(checkout.bin / "python3")
    assert checkout.set_up() == ["venv", "pip"]


def test_a_moved_folder_is_set_up_again(ready: Checkout) -> None:
    ready.folder = ready.folder.rename(ready.folder.with_name("another folder"))
    assert ready.set_up() == ["venv", "pip"]


@pytest.mark.parametrize("first", ["test", "lint", "browser"])
def test_what_brings_the_lab_along_is_enough_for_it(checkout: Checkout, first: str) -> None:
    checkout.add_python("python3", "3.11.7")
    assert checkout.set_up(first) == ["venv", "pip"]
    assert checkout.set_up("lab") == []


def test_an_environment_whose_python_is_gone_is_set_up_again(ready: Checkout) -> None:
    (ready.folder / ".venv" / "bin" / "python").unlink()
    assert ready.set_up() == ["venv", "pip"]


def test_a_python_that_is_named_is_used(ready: Checkout) -> None:
    ready.add_python("python3.12", "3.12.4")
    assert ready.set_up(PYTHON="python3.12") == ["venv", "pip"]
    assert ready.set_up(PYTHON="python3.12") == []
    assert ready.set_up() == []


@pytest.mark.parametrize("target", ["test-library", "test-notebooks"])
@pytest.mark.parametrize(("given", "used"), [({}, "1"), ({"OMP_NUM_THREADS": "3"}, "3")])
def test_each_worker_keeps_to_its_core(
    ready: Checkout, target: str, given: dict[str, str], used: str
) -> None:
    assert ready.make(target, **given).returncode == 0
    assert (ready.folder / "calls").read_text().splitlines()[-1] == f"threads {used}"


@pytest.mark.parametrize("folder", ["parity", "browser"])
def test_the_librarys_tests_leave_out_what_has_a_target_of_its_own(ready: Checkout, folder: str) -> None:
    assert f"--ignore=tests/{folder} " in ready.make("--dry-run", "test-library").stdout.replace("\n", " ")


def test_the_browser_gets_the_oldest_kernel_beside_the_newest(ready: Checkout) -> None:
    log = ready.folder / "calls"
    log.unlink()
    assert ready.make("test-browser").returncode == 0
    environment, kernel, used = log.read_text().splitlines()
    assert environment.endswith("-e .[lab,test,browser]")
    assert re.search(r"--no-deps --target \.venv/oldest-ipykernel ipykernel==[0-9.]+( |$)", kernel)
    assert used == "browser"
    log.unlink()
    assert ready.make("test-browser").returncode == 0
    assert log.read_text().splitlines() == [used]
    assert ready.set_up("test") == ready.set_up("lab") == []


def test_an_interrupted_installation_of_the_oldest_kernel_starts_again(ready: Checkout) -> None:
    assert ready.set_up("browser") == ["pip"]
    (ready.folder / "during-pip").write_text("kill -KILL $PPID")
    assert ready.make("test-browser").returncode != 0
    (ready.folder / "during-pip").unlink()
    (ready.folder / "calls").unlink()
    assert ready.make("test-browser").returncode == 0
    assert "--target" in (ready.folder / "calls").read_text().splitlines()[0]


@pytest.mark.parametrize(("name", "extras"), [("parity", "test,torch"), ("bench", "bench,torch")])
def test_what_needs_pytorch_has_an_environment_of_its_own(ready: Checkout, name: str, extras: str) -> None:
    log = ready.folder / "calls"
    log.unlink()
    assert ready.make(name).returncode == 0
    venv, pip, used = log.read_text().splitlines()
    assert venv == "venv"
    assert pip.endswith(f"-e .[{extras}]")
    assert used.startswith({"parity": "threads", "bench": "bench"}[name])
    assert (ready.folder / f".venv-{name}" / f".ready-{name}").exists()
    log.unlink()
    assert ready.make(name).returncode == 0
    assert log.read_text().splitlines() == [used]
    assert ready.set_up() == []


def test_a_moved_folder_makes_every_environment_anew(ready: Checkout) -> None:
    names = ("parity", "bench")
    for name in names:
        assert ready.make(name).returncode == 0
    ready.folder = ready.folder.rename(ready.folder.with_name("another folder"))
    for name in names:
        (ready.folder / "calls").unlink(missing_ok=True)
        assert ready.make(name).returncode == 0
        assert (ready.folder / "calls").read_text().startswith("venv\npip")


def test_the_benchmark_is_told_what_a_person_asks_of_it(ready: Checkout) -> None:
    assert ready.make("bench", "BENCH_ARGS=--quick").returncode == 0
    assert (ready.folder / "calls").read_text().splitlines()[-1] == "bench -m tests.bench --quick"


def test_every_environment_is_cleaned_away_and_ignored() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    environments = set(re.findall(r"(\.venv[a-z-]*)/\.ready", makefile))
    assert environments == {".venv", ".venv-parity", ".venv-bench"}
    (removed,) = re.findall(r"^\trm -rf (\.venv .*)$", makefile, re.MULTILINE)
    assert environments <= set(removed.split())
    ignored = (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {f"/{name}/" for name in environments} <= set(ignored)


def assert_refused(checkout: Checkout, complaint: str, **variables: str) -> None:
    for target in ("lab", "test", "parity", "bench"):
        done = checkout.make(target, **variables)
        assert done.returncode != 0
        said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
        assert said == [complaint]


def test_no_python_is_said(checkout: Checkout) -> None:
    needed = "cllm_lab needs Python 3.11 or newer (on Debian: apt install python3 python3-venv)."
    assert_refused(checkout, f"No python3 found: {needed}")


def test_an_old_python_is_said(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.9.2", old=True)
    found = "cllm_lab needs Python 3.11 or newer, but python3 is Python 3.9.2."
    assert_refused(checkout, f"{found} Name another: PYTHON=python3.12 make lab")


def test_a_missing_venv_module_is_said(checkout: Checkout) -> None:
    checkout.add_python("python3", "3.11.2", no_venv=True)
    assert_refused(checkout, "python3 lacks the venv module (on Debian: apt install python3-venv).")


def test_a_named_python_that_is_missing_leaves_the_environment_alone(ready: Checkout) -> None:
    done = ready.make("lab", PYTHON="python3.99")
    assert done.returncode != 0
    assert done.stderr.startswith("No python3.99 found")
    assert ready.set_up() == []


def test_help_is_the_default_and_names_every_target_a_person_calls() -> None:
    listed = subprocess.run(["make"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    named = [line.split()[1] for line in listed.splitlines()]
    for target in (
        "help",
        "lab",
        "test",
        "test-browser",
        "lint",
        "types",
        "notebooks",
        "evidence",
        "parity",
        "bench",
        "clean",
    ):
        assert target in named
    assert all(len(line.split()) > 3 for line in listed.splitlines())
