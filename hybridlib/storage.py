"""Writing files and folders so that nothing half written is taken for whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, delete it when it does not.

    Raises:
        OSError: the folder cannot be made or written; the text names it.
    """
    path = Path(path)
    make_parent(path)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield new
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """Write JSON, whole or not at all.

    Raises:
        OSError: the folder cannot be made or written; the text names it.
    """
    with replace_file(path) as new:
        new.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """The same for a folder: its old content stays until the new one is complete.

    Raises:
        OSError: the folder cannot be made or written; the text names it.
    """
    folder = Path(folder)
    make_parent(folder)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        new.mkdir()
        yield new
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def make_parent(path: Path) -> None:
    """Make the folder that a file or folder will lie in; OSError names it if that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"{path.parent}: this folder cannot be made ({error.strerror}); choose another place to write"
        ) from error
