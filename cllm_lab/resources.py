"""Where the files that travel with the package lie: corpora in `data/`, notebooks in `notebooks/`."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _shipped_folder(name: str) -> Path:
    """The folder `cllm_lab/_<name>` of a wheel, or the folder `<name>` beside the package in a checkout."""
    candidates = (_PACKAGE / f"_{name}", _PACKAGE.parent / name)
    for folder in candidates:
        if folder.is_dir():
            return folder
    looked_in = " nor ".join(str(folder) for folder in candidates)
    raise FileNotFoundError(f"the folder {name!r} is missing: neither {looked_in} exists; reinstall cllm_lab")


def data_path(name: str) -> Path:
    """The path of the shipped data file `name`, such as "large_corpus.txt".

    Raises TypeError when `name` is not a string, ValueError when it is not a plain file name, and
    FileNotFoundError, listing the files there are, when no such file is shipped.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a file name (str), got {type(name).__name__}")
    if name in ("", "..") or Path(name).name != name:
        raise ValueError(f"name must be a plain file name without folders, got {name!r}")
    folder = _shipped_folder("data")
    path = folder / name
    if not path.is_file():
        shipped = ", ".join(sorted(entry.name for entry in folder.iterdir() if entry.is_file())) or "nothing"
        raise FileNotFoundError(f"no data file {name!r} in {folder}; it holds: {shipped}")
    return path


def notebooks_path() -> Path:
    """The folder of the shipped notebooks. Raises FileNotFoundError when it is missing."""
    return _shipped_folder("notebooks")
