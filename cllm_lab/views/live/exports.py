"""What a person takes along from the bench, in files of their own: nothing is ever overwritten."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from cllm_lab.files import replacing
from cllm_lab.training.history import History
from cllm_lab.training.trainer import Trainer
from cllm_lab.views.picture import Picture

Folder = str | os.PathLike[str]


def free_path(folder: Folder, name: str, suffix: str) -> Path:
    """``folder/name.suffix``, or with -2, -3, ... after the name: the first of which there is no file.

    Raises TypeError for a name that is no str, ValueError for one that is empty, "." or "..", or holds a path
    separator, and for a suffix that does not begin with a dot or holds one.
    """
    return _free_paths(folder, name, (suffix,))[0]


def save_history(history: History, folder: Folder, name: str) -> Path:
    """Writes ``history.steps`` as CSV, in every digit; a validation loss that was not taken is an empty field.

    ``pandas.read_csv(path, engine="python")`` gives the same table, to the last bit. Raises as `free_path` does, and
    OSError as the file system does.
    """
    path = free_path(folder, name, ".csv")
    with replacing(path) as unfinished:
        history.steps.to_csv(unfinished, index=False, lineterminator="\n")
    return path


def save_figure(picture: Picture, folder: Folder, name: str) -> tuple[Path, Path]:
    """Writes a picture as PNG and as SVG, both of one name; raises as `save_history` does."""
    png, svg = _free_paths(folder, name, (".png", ".svg"))
    picture.save(png)
    picture.save(svg)
    return png, svg


def save_checkpoint(trainer: Trainer, folder: Folder, name: str) -> Path:
    """Writes a checkpoint that `cllm_lab.Trainer.load` reads; raises as `save_history` and `Trainer.save` do."""
    path = free_path(folder, name, ".safetensors")
    trainer.save(path)
    return path


def save_text(text: str, folder: Folder, name: str, suffix: str) -> Path:
    """Writes a text as it is, in UTF-8: a console, a recipe; raises as `save_history` does."""
    path = free_path(folder, name, suffix)
    with replacing(path) as unfinished:
        unfinished.write_bytes(text.encode())
    return path


def _free_paths(folder: Folder, name: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Paths that differ in their suffix alone, and of none of which there is a file."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str; got {type(name).__name__}")
    if not name.strip() or name in (".", "..") or _separated(name):
        raise ValueError(f"name must be that of a file, without a folder, such as 'run'; got {name!r}")
    for suffix in suffixes:
        if len(suffix) < 2 or suffix[0] != "." or _separated(suffix):
            raise ValueError(f"suffix must begin with a dot, such as '.csv'; got {suffix!r}")
    for number in count(1):
        stem = name if number == 1 else f"{name}-{number}"
        paths = [Path(folder) / f"{stem}{suffix}" for suffix in suffixes]
        # A broken link is a file that is in the way too.
        if not any(os.path.lexists(path) for path in paths):
            return paths
    raise AssertionError("there is always a next number")


def _separated(name: str) -> bool:
    # Of every system: a notebook may be opened on another one.
    return any(separator in name for separator in "/\\\0")
