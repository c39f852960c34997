"""Results on disk: found again, and never trusted when damaged."""

import json
import shutil
from pathlib import Path

import pytest

from cllm_lab.provenance import provenance
from cllm_lab.trials import store as module
from cllm_lab.trials.store import Store

DESCRIPTION = {
    "corpus": {"kind": "text", "sha256": "0f", "text": "long"},
    "model": {"betas": (0.9, 0.99)},
    "steps": 3,
}
RESULT = {"validation": [[0, 1.25], [3, 0.1]], "diverged": None}


@pytest.fixture
def heard():
    return []


@pytest.fixture
def store(tmp_path, heard):
    return Store(tmp_path / "runs", heard.append)


def test_what_was_put_is_got(store, heard):
    assert store.get(DESCRIPTION) is None
    store.put(DESCRIPTION, RESULT)
    assert store.get(DESCRIPTION) == RESULT
    assert store.get({**DESCRIPTION, "steps": 4}) is None
    assert heard == []
    content = json.loads(store.path(DESCRIPTION).read_text())
    assert content["description"]["corpus"] == {"kind": "text", "sha256": "0f"}
    assert content["machine"] == provenance()["machine"]
    assert [path.suffix for path in store.folder.iterdir()] == [".json"]


def altered(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "another kind": lambda path: path.write_text("[]"),
    "version": lambda path: altered(path, lambda content: content.update(version=0)),
    "figure": lambda path: altered(path, lambda content: content["result"]["validation"][1].append(2)),
    "another run": lambda path: altered(path, lambda content: content["description"].update(steps=4)),
    "no result": lambda path: altered(path, lambda content: content.pop("result")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_said_and_made_again(store, heard, damage):
    store.put(DESCRIPTION, RESULT)
    DAMAGES[damage](store.path(DESCRIPTION))
    assert store.get(DESCRIPTION) is None
    assert len(heard) == 1
    assert "is damaged and is made again" in heard[0]
    store.put(DESCRIPTION, RESULT)
    assert store.get(DESCRIPTION) == RESULT


def test_a_result_of_other_code_is_not_found(store, monkeypatch):
    store.put(DESCRIPTION, RESULT)
    monkeypatch.setattr(module, "code", lambda: "0" * 64)
    assert store.get(DESCRIPTION) is None


def test_a_result_of_other_libraries_is_not_found(store, monkeypatch):
    store.put(DESCRIPTION, RESULT)
    monkeypatch.setattr(module, "provenance", lambda: {"machine": {}, "versions": {"numpy": "2.0.0"}})
    assert store.get(DESCRIPTION) is None


@pytest.mark.parametrize(
    "changed",
    [
        "corpus/tokenizer.py",
        "lattice/primes.py",
        "model/parts/table.py",
        "training/config.py",
        "streams.py",
        "trials/run.py",
    ],
)
def test_other_code_is_any_byte_that_a_run_depends_on(changed, tmp_path, monkeypatch):
    package = tmp_path / "cllm_lab"
    shutil.copytree(
        Path(module.__file__).parent.parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(module, "__file__", str(package / "trials" / "store.py"))
    before = module.code.__wrapped__()
    assert module.code.__wrapped__() == before == module.code()
    with open(package / changed, "ab") as file:
        file.write(b"\n")
    assert module.code.__wrapped__() != before


def test_a_number_that_json_has_no_word_for(store):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put(DESCRIPTION, {"loss": float("nan")})
    assert list(store.folder.iterdir()) == []
