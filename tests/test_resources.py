import pytest

from cllm_lab import resources


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An empty package folder that the module takes for its own."""
    folder = tmp_path / "cllm_lab"
    folder.mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", folder)
    return folder


def test_the_shipped_corpus_is_found():
    assert resources.data_path("large_corpus.txt").is_file()


def test_the_notebooks_are_found():
    assert resources.notebooks_path().is_dir()


def test_a_checkout_has_its_folders_beside_the_package(package):
    for name in ("data", "notebooks"):
        (package.parent / name).mkdir()
    (package.parent / "data" / "a.txt").touch()
    assert resources.data_path("a.txt") == package.parent / "data" / "a.txt"
    assert resources.notebooks_path() == package.parent / "notebooks"


def test_a_wheel_has_its_folders_inside_the_package_and_they_go_first(package):
    for folder in (
        package / "_data",
        package / "_notebooks",
        package.parent / "data",
        package.parent / "notebooks",
    ):
        folder.mkdir()
    (package / "_data" / "a.txt").touch()
    (package.parent / "data" / "a.txt").touch()
    assert resources.data_path("a.txt") == package / "_data" / "a.txt"
    assert resources.notebooks_path() == package / "_notebooks"


def test_a_missing_file_is_named_beside_those_there_are(package):
    (package / "_data" / "folder").mkdir(parents=True)
    for name in ("b.txt", "a.txt"):
        (package / "_data" / name).touch()
    with pytest.raises(FileNotFoundError, match=r"'c\.txt'.*it holds: a\.txt, b\.txt$"):
        resources.data_path("c.txt")


def test_missing_folders_are_reported_with_the_places_looked_in(package):
    with pytest.raises(FileNotFoundError, match=r"'data' is missing.*_data.*data"):
        resources.data_path("a.txt")
    with pytest.raises(FileNotFoundError, match=r"'notebooks' is missing.*_notebooks"):
        resources.notebooks_path()


@pytest.mark.parametrize("name", ["", ".", "..", "../a.txt", "folder/a.txt", "/etc/passwd"])
def test_only_plain_file_names_are_taken(package, name):
    (package / "_data").mkdir()
    (package / "a.txt").touch()
    with pytest.raises(ValueError, match="plain file name"):
        resources.data_path(name)


def test_a_name_must_be_a_string():
    with pytest.raises(TypeError, match="name must be a file name"):
        resources.data_path(None)
