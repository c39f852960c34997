"""Files that are complete or not there: written beside their place, then moved into it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new empty file beside ``path`` to write to; it takes the place of ``path`` when the block has ended.

    After an error in the block, or a crash, ``path`` is as it was, or absent as it was; an error leaves nothing
    behind. The new file has the permissions that the system gives any new file, whatever the writer set.
    Raises OSError as the file system does.
    """
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    unfinished.touch(exist_ok=False)
    mode = unfinished.stat().st_mode
    try:
        yield unfinished
        unfinished.chmod(mode)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
