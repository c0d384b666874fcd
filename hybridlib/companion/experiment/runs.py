"""Runs on disk: load what is complete, make what is not.

A run is a folder runs/<key>/. The key names what was asked for and ends in a hash of everything the result depends on:
parameters, corpus, the source code upstream, the torch version; commit, device and path stand in manifest.json. A run
is complete when its done.json, written last, lists every file with its size and SHA-256. Whoever asks second for a run
that is being made waits for it. The processes of one `accelerate launch` can make a run together.
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
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock

import hybridlib
from hybridlib.files import sha256_of, write_json

PACKAGE = Path(hybridlib.__file__).parent
LARGE = 1 << 28  # bytes; a larger file that was not written since its run was complete is not hashed again


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

    def load_or_make(
        self,
        name: str,
        parameters: dict,
        rooms: Sequence[str],
        make: Callable[[Path], None],
        *,
        together: PartialState | None = None,
    ) -> Path:
        """Folder of the run, which `make` fills if it is not complete.

        Args:
            name: readable part of the key.
            parameters: all that decides the result, as JSON takes it.
            rooms: source files, relative to the package, whose change makes the run another one.
            make: gets the folder; what an interrupted attempt left there is still in it.
            together: processes that all ask for this run and make it together; `make` is then called on each. None: who
                asks first makes it, whoever else asks waits.

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
        if together is not None and together.num_processes > 1:
            self._make_together(folder, everything, make, together)
        else:
            with FileLock(str(folder) + ".lock"):
                if is_complete(folder):
                    self.reused += 1
                else:
                    self._make(folder, everything, make)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.sources.add((manifest["commit"], manifest["device"]))
        self._seen.add(folder.name)
        return folder

    def _make_together(
        self, folder: Path, parameters: dict, make: Callable[[Path], None], processes: PartialState
    ) -> None:
        """The main process looks, prepares and records as if it were alone; the others only help it to make."""
        if processes.is_main_process:
            with FileLock(str(folder) + ".lock"):
                complete = is_complete(folder)
                if not complete:
                    self._make(folder, parameters, lambda folder: (_tell(True), make(folder)))
                else:
                    _tell(False)
                self.reused += complete
        elif _tell(None):
            make(folder)
            self.made += 1
        else:
            self.reused += 1
        processes.wait_for_everyone()

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
    return _is_as_listed(folder, done)


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


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "done.json" and not p.name.startswith("."))


def _inventory(folder: Path) -> dict[str, list]:
    """Size and SHA-256 of each file."""
    return {str(path.relative_to(folder)): [path.stat().st_size, sha256_of(path)] for path in _files(folder)}


def _is_as_listed(folder: Path, done: dict) -> bool:
    """Whether the files are those of done.json; sizes first, since they say most of it at no cost."""
    found = {str(path.relative_to(folder)): path for path in _files(folder)}
    if {name: path.stat().st_size for name, path in found.items()} != {
        k: size for k, (size, _) in done["files"].items()
    }:
        return False
    old = [n for n, p in found.items() if p.stat().st_size > LARGE and p.stat().st_mtime <= done["finished"]]
    return all(sha256_of(path) == done["files"][name][1] for name, path in found.items() if name not in old)


def _tell(make: bool | None) -> bool:
    """What the main process says to all others; they ask with None."""
    said = [make]
    broadcast_object_list(said)
    return bool(said[0])


def _source(rooms: Sequence[str]) -> str:
    return hashlib.sha256(b"\0".join((PACKAGE / room).read_bytes() for room in rooms)).hexdigest()


def _check_writable(folder: Path) -> None:
    """Say clearly that the folder cannot be written before an hour of work is lost to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(prefix=".writable-", dir=folder))
    except OSError as error:
        raise OSError(f"{folder}: cannot write results here ({error}); set HYBRIDLIB_ROOT to another folder") from error
