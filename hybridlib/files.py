"""Files: written whole or not at all, read with errors that name the place, fetched from public sources and pinned.

huggingface_hub keeps downloads in its own cache ($HF_HUB_CACHE) and obeys HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN.
What it does not do is done here: the commits that first downloads brought are recorded and asked for from then on, and
what came is compared with the checksum that the hub states, not only with the size.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock
from huggingface_hub import errors, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.utils.sha import git_hash

# ---- writing; what cannot be made or written is named by an OSError


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well; else the old file stays."""
    path = Path(path)
    make_parent(path)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield new
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when the block ends well; else the old one stays."""
    folder = Path(folder)
    make_parent(folder)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", ignore_cleanup_errors=True) as beside:
        new = Path(beside) / "new"
        new.mkdir()
        yield new
        if folder.exists():
            os.rename(folder, Path(beside) / "old")
        os.rename(new, folder)


def write_json(path: Path, content: dict) -> None:
    """Write JSON, whole or not at all."""
    with replace_file(path) as new:
        new.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def make_parent(path: Path) -> None:
    """Make the folder that a file or folder will lie in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"{path.parent}: this folder cannot be made ({error.strerror}); choose another place to write"
        raise type(error)(what) from error


# ---- where files lie


def cache_folder() -> Path:
    """Where downloads are kept, shared by all runs: $HYBRIDLIB_CACHE, else .cache/hybridlib in the user's home."""
    return Path(os.environ.get("HYBRIDLIB_CACHE") or Path.home() / ".cache" / "hybridlib").expanduser()


def data_folder() -> Path | None:
    """Folder with local copies of the public data sets ($HYBRIDLIB_DATA), or None where the variable is not set."""
    folder = os.environ.get("HYBRIDLIB_DATA")
    return Path(folder).expanduser() if folder else None


def local_file(relative: str | Path, folder: Path | None = None) -> Path | None:
    """`<folder>/<relative>`, or that with .gz behind it, where there is such a file; the default is $HYBRIDLIB_DATA."""
    folder = folder or data_folder()
    paths = [Path(folder) / f"{relative}{suffix}" for suffix in ("", ".gz")] if folder else []
    return next((path for path in paths if path.is_file()), None)


def local_or_hub(
    relative: str | Path, repo: str, filename: str, *, revision: str | None = None, folder: Path | None = None
) -> Path:
    """A file of a public data set: `local_file` where there is a copy, else `fetch`, which see for what it raises."""
    return local_file(relative, folder) or fetch(repo, filename, revision=revision)


# ---- reading; a ValueError names the file, the line and what to do


_TORN = (EOFError, gzip.BadGzipFile, zlib.error)


def read_bytes(path: Path) -> bytes:
    """Content of a file, uncompressed if its name ends in .gz."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except _TORN as error:
        raise ValueError(f"{path}: torn or no gzip file ({error}); get it again") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_content(data: bytes, *, size: int, sha256: str, where: object) -> None:
    """Compare uncompressed bytes with the size and SHA-256 that are pinned; the ValueError names `where`."""
    digest = hashlib.sha256(data).hexdigest()
    if (len(data), digest) != (size, sha256):
        lengths = f"{len(data)} bytes (uncompressed) where {size} are expected"
        reason = f"its sha256 is {digest}, not the expected {sha256}" if len(data) == size else lengths
        advice = "this is not the pinned version or it is damaged: remove it and get it again"
        raise ValueError(f"{where}: {reason}; {advice}")


def parse_json(data: bytes, path: object, line: int = 1) -> Any:
    """Decode UTF-8 JSON that starts on the given line of a file."""
    try:
        return json.loads(data.decode("utf-8-sig"))  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line += error.object.count(b"\n", 0, error.start)
        what = f"not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file as UTF-8"
        raise ValueError(f"{path}, line {line}: {what}") from error
    except json.JSONDecodeError as error:
        what = f"column {error.colno}: invalid JSON ({error.msg}); the file is cut off or damaged there"
        raise ValueError(f"{path}, line {line + error.lineno - 1}, {what}") from error


def read_json(path: Path) -> Any:
    """Content of a .json or .json.gz file."""
    return parse_json(read_bytes(path), path)


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number (from 1) and value of each line of a .jsonl or .jsonl.gz file, one at a time, without blank lines."""
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, parse_json(line.rstrip(), path, number)
        except _TORN as error:
            raise ValueError(f"{path}, after line {number}: torn or no gzip file ({error}); get it again") from error


# ---- downloads

ATTEMPTS = 3


def download(url: str, *, size: int, sha256: str) -> bytes:
    """Fetch a small file whose size and SHA-256 are known. Tries again after a cut connection; keeps no part of it.

    Raises:
        ConnectionError: no attempt brought the whole file, or the server refused.
        ValueError: the whole file came and is not the pinned one.
    """
    for attempt in range(ATTEMPTS):
        time.sleep(2**attempt - 1)
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                data = response.read(size + 1)
        except (OSError, http.client.HTTPException) as error:
            failure = str(error)
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:  # asking again would not help
                break
        else:
            if len(data) >= size:
                check_content(data, size=size, sha256=sha256, where=url)
                return data
            failure = f"the connection was cut after {len(data)} of {size} bytes"
    raise ConnectionError(f"{url}: {failure}")


def lock_file() -> Path:
    """The JSON file that says which commit of each repository and revision the first download brought."""
    return cache_folder() / "hub-lock.json"


def _read_lock() -> dict[str, str]:
    content = read_json(lock_file()) if lock_file().exists() else {"commits": {}}
    if not isinstance(content, dict) or not isinstance(content.get("commits"), dict):
        raise ValueError(f"{lock_file()}: no lock file of this version of the package; move it away and run again")
    return content["commits"]


def fetch(repo: str, filename: str, *, revision: str | None = None) -> Path:
    """Path of a data set's file in huggingface_hub's cache, where it is downloaded if it is lacking.

    revision: commit, branch or tag; None is the main branch. The first download writes into the lock file which commit
    that was, and later calls ask for that commit.

    Raises:
        FileNotFoundError: no such repository, revision or file; or it is not in the cache and the hub is off limits.
        PermissionError: the repository is gated or private.
        ConnectionError: the network or the hub failed, or asks for patience.
        ValueError: the content that came is not what the hub states, or the lock file is damaged.
    """
    revision = revision or "main"
    what, key, commits = f"dataset {repo}, {filename} at {revision}", f"datasets/{repo}@{revision}", _read_lock()
    place = {"repo_type": "dataset", "revision": commits.get(key, revision)}
    cached = try_to_load_from_cache(repo, filename, **place)
    with _clear_errors(what):
        path = Path(hf_hub_download(repo, filename, **place))
    if str(path) != cached:
        _verify(path, what)
    if key not in commits:
        commit = path.parents[len(PurePosixPath(filename).parts) - 1].name  # .../snapshots/<commit>/<filename>
        make_parent(lock_file())
        with FileLock(f"{lock_file()}.lock"):
            write_json(lock_file(), {"commits": dict(sorted({**_read_lock(), key: commit}.items()))})
    return path


def fetch_folder(repo: str, patterns: Sequence[str], *, revision: str | None = None) -> Path:
    """Folder of a model in huggingface_hub's cache, named by its commit, with its files that fit one of the patterns.

    No commit is recorded: without a revision it is the newest. Raises what `fetch` raises.
    """
    what = f"model {repo} at {revision or 'main'}"
    with _clear_errors(what):
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    for path in {path for pattern in patterns for path in folder.rglob(pattern)}:
        _verify(path, f"{what}, {path.relative_to(folder)}")
    return folder


def _verify(path: Path, what: str) -> None:
    """Compare a cached file with the checksum that its blob is named after; remove it where they differ."""
    blob = path.parent / os.readlink(path) if path.is_symlink() else None
    if blob is None or len(blob.name) not in (40, 64):
        return
    in_lfs = len(blob.name) == 64  # named after its SHA-256, and a small file after git's id of it
    checksum = sha256_of(blob) if in_lfs else git_hash(blob.read_bytes())
    if checksum != blob.name:
        blob.unlink()
        path.unlink()
        raise ValueError(
            f"{what}: the hub states the checksum {blob.name}, the content has {checksum}; it was damaged on its way "
            "and has been removed from the cache: run again"
        )


_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
_NAMES = f"check the names of repository, revision and file; if it is private, {_LOG_IN}"
# What the hub's client raises, what that becomes, and what to do; the first that fits.
_ADVICE = (
    (errors.OfflineModeIsEnabled, FileNotFoundError, "not in the cache, and HF_HUB_OFFLINE forbids downloads"),
    (errors.GatedRepoError, PermissionError, f"accept the conditions on its page, then {_LOG_IN}"),
    (errors.RepositoryNotFoundError, FileNotFoundError, _NAMES),
    (errors.RevisionNotFoundError, FileNotFoundError, _NAMES),
    (errors.EntryNotFoundError, FileNotFoundError, _NAMES),
    (Exception, ConnectionError, "the download failed: check the network and HF_ENDPOINT, and run again"),
)


@contextmanager
def _clear_errors(what: str) -> Iterator[None]:
    """Say what to do where the hub's client or the network fails; where the disk or a name is wrong, they say so."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno):
            raise
        if isinstance(error, errors.LocalEntryNotFoundError):  # says that the cache is empty; its cause says why
            error = error.__cause__ or errors.OfflineModeIsEnabled()
        kind, advice = next(row[1:] for row in _ADVICE if isinstance(error, row[0]))
        reason = str(error).strip().partition("\n")[0]
        raise kind(f"{what}: {advice} ({type(error).__name__}: {reason})") from error
