"""Runs on disk: load what is complete, make what is not.

A run is a folder runs/<key>/. The key names what was asked for and ends in a hash of everything the result depends on:
parameters, corpus, the source code upstream, the torch version; commit, device and path stand in manifest.json. A run
is complete when its done.json, written last, lists every file with its size and SHA-256. Whoever asks second for a run
that is being made waits for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers
import torch
import transformers
from filelock import FileLock

import hybridlib
from hybridlib.storage import write_json

PACKAGE = Path(hybridlib.__file__).parent


class MissingRun(RuntimeError):
    """A run that would have to be made, while only what exists may be used (HYBRIDLIB_ONLY_EXISTING=1)."""


@dataclass
class RunStore:
    """The runs under a folder.

    Attributes:
        folder: where the runs lie.
        made, reused: how many runs this object made and how many it found complete.
        sources: (commit, device) of the runs asked for.
    """

    folder: Path
    made: int = 0
    reused: int = 0
    sources: set[tuple[str, str]] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    def load_or_make(self, name: str, parameters: dict, rooms: Sequence[str], make: Callable[[Path], None]) -> Path:
        """Folder of the run, which `make` fills if it is not complete.

        Args:
            name: readable part of the key.
            parameters: all that decides the result, as JSON takes it.
            rooms: source files, relative to the package, whose change makes the run another one.
            make: gets the folder; what an interrupted attempt left there is still in it.

        Raises:
            MissingRun: it is not complete, and HYBRIDLIB_ONLY_EXISTING is 1.
            OSError: the folder cannot be written.
        """
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        everything = {**parameters, **versions, "tokenizers": tokenizers.__version__, "source": _source(rooms)}
        digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
        folder = self.folder / f"{name}-{digest[:12]}"
        if folder.name in self._seen:
            return folder
        _check_writable(self.folder)
        with FileLock(str(folder) + ".lock"):
            if is_complete(folder):
                self.reused += 1
            else:
                self._make(folder, everything, make)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.sources.add((manifest["commit"], manifest["device"]))
        self._seen.add(folder.name)
        return folder

    def _make(self, folder: Path, parameters: dict, make: Callable[[Path], None]) -> None:
        if os.environ.get("HYBRIDLIB_ONLY_EXISTING") == "1":
            raise MissingRun(f"{folder.name}: this run does not exist yet; run without --figures to make it")
        if folder.exists() and folder.stat().st_mtime < _fresh():
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        (folder / "done.json").unlink(missing_ok=True)
        began = time.monotonic()
        make(folder)
        manifest = {"parameters": parameters, "commit": commit(), "device": device(), "path": str(folder)}
        manifest |= {"seconds": round(time.monotonic() - began, 1), "hybridlib": hybridlib.__version__}
        write_json(folder / "manifest.json", manifest)
        write_json(folder / "done.json", {"finished": time.time(), "files": _inventory(folder)})
        self.made += 1


def is_complete(folder: Path) -> bool:
    """Whether done.json is there, not older than $HYBRIDLIB_FRESH (seconds since 1970), and every file as it was."""
    if not (folder / "done.json").exists():
        return False
    try:
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    except ValueError:  # torn by something other than us: as good as not there
        return False
    if done["finished"] < _fresh():
        return False
    return done["files"] == _inventory(folder)


def default_root() -> Path:
    """Folder that holds runs/, figures/ and results/: $HYBRIDLIB_ROOT, else the repository, else the working folder."""
    if os.environ.get("HYBRIDLIB_ROOT"):
        return Path(os.environ["HYBRIDLIB_ROOT"]).expanduser().resolve()
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else Path.cwd()


def commit() -> str:
    """Short hash of the code's commit, "+" if the package differs from it; "unknown" outside a repository."""
    git = ["git", "-C", str(PACKAGE)]
    try:
        found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip() + ("+" if changed.stdout.strip() else "")


def device() -> str:
    """The machine's accelerator, or its processor architecture with the number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _fresh() -> float:
    """Runs finished before this time (seconds since 1970) are made again; 0 where $HYBRIDLIB_FRESH is not set."""
    return float(os.environ.get("HYBRIDLIB_FRESH") or 0)


def _inventory(folder: Path) -> dict[str, list]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "done.json" and not p.name.startswith("."))
    return {str(p.relative_to(folder)): [p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()] for p in files}


def _source(rooms: Sequence[str]) -> str:
    return hashlib.sha256(b"\0".join((PACKAGE / room).read_bytes() for room in rooms)).hexdigest()


def _check_writable(folder: Path) -> None:
    """Say clearly that the folder cannot be written before an hour of work is lost to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(prefix=".writable-", dir=folder))
    except OSError as error:
        raise OSError(f"{folder}: cannot write results here ({error}); set HYBRIDLIB_ROOT to another folder") from error
