"""The store of runs: a complete run is loaded, any other run is made.

A run is a folder runs/<key>/. The key begins with the name of the run and ends in a hash of everything that the result
depends on: parameters, the source files in the import closure of the module that makes the run, and the versions of
torch, transformers and tokenizers. Commit, device and path are recorded in manifest.json and nowhere else. A run is
complete when its done.json, written last, lists every file with its size and SHA-256. A process that needs a run which
another process is making waits for it. The processes of one `accelerate launch` can make a run together.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
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
LARGE = 1 << 28  # bytes; a larger file is not hashed again if it was not written since its run was complete


class MissingRun(RuntimeError):
    """A run does not exist, and no run may be made (HYBRIDLIB_ONLY_EXISTING=1)."""


@dataclass
class RunStore:
    """The runs under a folder.

    Attributes:
        folder: the folder that holds the runs.
        made, reused: how many runs this object made and how many it found complete.
    """

    folder: Path
    made: int = 0
    reused: int = 0
    _seen: set[str] = field(default_factory=set)

    def path(self, name: str, parameters: dict, code: str) -> Path:
        """Folder of a run, whether it exists or not; the arguments are those of `load_or_make`."""
        everything = json.dumps(_resolved(parameters, code), sort_keys=True)
        return self.folder / f"{name}-{hashlib.sha256(everything.encode()).hexdigest()[:12]}"

    def load_or_make(
        self,
        name: str,
        parameters: dict,
        make: Callable[[Path], None],
        *,
        code: str,
        together: PartialState | None = None,
    ) -> Path:
        """Return the folder of a run; if the run is not complete, `make` fills the folder first.

        Args:
            name: readable part of the key.
            parameters: everything else that decides the result, as JSON can hold it.
            make: takes the folder, which still holds the files of an interrupted attempt.
            code: module whose import closure computes the result; a change in one of these files gives another run.
            together: processes that all call this method and make the run together; `make` is then called in each.
                None: the first caller makes the run, and other callers wait.

        Raises:
            MissingRun: the run is not complete, and HYBRIDLIB_ONLY_EXISTING is 1.
            OSError: the folder cannot be written.
        """
        folder = self.path(name, parameters, code)
        if folder.name in self._seen:
            return folder
        _check_writable(self.folder)
        parameters = _resolved(parameters, code)
        if together is not None and together.num_processes > 1:
            self._make_together(folder, parameters, make, together)
        else:
            with FileLock(f"{folder}.lock"):
                if is_complete(folder):
                    self.reused += 1
                else:
                    self._make(folder, parameters, make)
        self._seen.add(folder.name)
        return folder

    def _make_together(
        self, folder: Path, parameters: dict, make: Callable[[Path], None], processes: PartialState
    ) -> None:
        """Make a run with several processes: all call `make`; only the main one checks, prepares and records."""
        if processes.is_main_process:
            with FileLock(f"{folder}.lock"):
                complete = is_complete(folder)
                if not complete:
                    self._make(folder, parameters, lambda folder: (_broadcast(True), make(folder)))
                else:
                    _broadcast(False)
                self.reused += complete
        elif _broadcast(None):
            make(folder)
            self.made += 1
        else:
            self.reused += 1
        processes.wait_for_everyone()

    def _make(self, folder: Path, parameters: dict, make: Callable[[Path], None]) -> None:
        if os.environ.get("HYBRIDLIB_ONLY_EXISTING") == "1":
            raise MissingRun(f"{folder.name}: this run does not exist yet; run without --figures to make it")
        if folder.exists() and folder.stat().st_mtime < _fresh_since():
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
    """Whether done.json exists, is not older than $HYBRIDLIB_FRESH (seconds since 1970), and matches every file."""
    try:
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        return done["finished"] >= _fresh_since() and _is_as_listed(folder, done)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # torn or of another program: treated as missing
        return False


def default_root() -> Path:
    """Folder of runs/, figures/ and results/: $HYBRIDLIB_ROOT, else the repository, else the working directory."""
    if os.environ.get("HYBRIDLIB_ROOT"):
        return Path(os.environ["HYBRIDLIB_ROOT"]).expanduser().resolve()
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else Path.cwd()


def commit() -> str:
    """Short hash of the code's commit, "+" if the package differs from it; "unknown" outside a repository."""
    git = ["git", "-C", str(PACKAGE)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def device() -> str:
    """The machine's accelerator, or its processor architecture with the number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


@cache
def import_closure(module: str) -> tuple[Path, ...]:
    """Source files of this package that a module imports, itself included, however deep; sorted.

    The closure is computed from the sources, including imports inside functions, so that no list is kept by hand.
    `hybridlib/__init__.py`, which only re-exports names, is left out.
    """
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in files else _source_file(name)
        if path is not None:
            files[name] = path
            waiting += _imported_names(path)
    if not files:
        raise ValueError(f"{module} is no module of {PACKAGE.name}")
    return tuple(sorted(files.values()))


def _imported_names(path: Path) -> Iterator[str]:
    """Every module or member of this package that a file imports; a member's module is among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _source_file(name: str) -> Path | None:
    """The file of a module of this package; None for a module of another package and for a name that is no module."""
    package, *parts = name.split(".")
    if package != PACKAGE.name or not parts:
        return None
    path = PACKAGE.joinpath(*parts)
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _resolved(parameters: dict, code: str) -> dict:
    """Everything that a run's key depends on."""
    source = hashlib.sha256(b"\0".join(path.read_bytes() for path in import_closure(code))).hexdigest()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {**parameters, **versions, "tokenizers": tokenizers.__version__, "source": source}


def _fresh_since() -> float:
    """Runs finished before this time (seconds since 1970) are made again; 0 where $HYBRIDLIB_FRESH is not set."""
    return float(os.environ.get("HYBRIDLIB_FRESH") or 0)


def _files(folder: Path) -> dict[str, Path]:
    """Relative name -> path of the files of a run, without done.json and hidden ones."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): p for p in paths if p.name != "done.json" and not p.name.startswith(".")}


def _inventory(folder: Path) -> dict[str, list]:
    """Size and SHA-256 of each file."""
    return {name: [path.stat().st_size, sha256_of(path)] for name, path in _files(folder).items()}


def _is_as_listed(folder: Path, done: dict) -> bool:
    """Whether the files are those of done.json; sizes come first, since they are cheap and show most changes."""
    files, listed = _files(folder), done["files"]
    if {name: path.stat().st_size for name, path in files.items()} != {
        name: size for name, (size, _) in listed.items()
    }:
        return False
    old = {n for n, p in files.items() if p.stat().st_size > LARGE and p.stat().st_mtime <= done["finished"]}
    return all(sha256_of(path) == listed[name][1] for name, path in files.items() if name not in old)


def _broadcast(make: bool | None) -> bool:
    """Send the main process's decision, whether to make the run, to all processes; the others pass None."""
    message = [make]
    broadcast_object_list(message)
    return bool(message[0])


def _check_writable(folder: Path) -> None:
    """Raise a clear error if the folder cannot be written, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(prefix=".writable-", dir=folder))
    except OSError as error:
        raise OSError(f"{folder}: cannot write results here ({error}); set HYBRIDLIB_ROOT to another folder") from error
