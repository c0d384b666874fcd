"""Files: written whole or not at all, read with errors that name the place, fetched from public sources and pinned.

huggingface_hub downloads, goes on where a connection was cut, and keeps files in its own cache ($HF_HUB_CACHE), shared
with every other program; HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN work as they do everywhere. What this module adds: a
record of the commits that the first downloads brought (`lock_file`), which later downloads ask for, and a comparison of
what came over plain HTTP with the checksum that the hub states; there huggingface_hub compares sizes only.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.sha import git_hash


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
    """Give a temporary folder beside `folder` that takes its place when the block ends well; else the old one stays.

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


# ---- where files lie


def cache_folder() -> Path:
    """Where downloads are kept, shared by all runs: $HYBRIDLIB_CACHE, else .cache/hybridlib in the user's home."""
    return Path(os.environ.get("HYBRIDLIB_CACHE") or Path.home() / ".cache" / "hybridlib").expanduser()


def data_folder() -> Path | None:
    """Folder with local copies of the public data sets ($HYBRIDLIB_DATA), or None where the variable is not set."""
    folder = os.environ.get("HYBRIDLIB_DATA")
    return Path(folder).expanduser() if folder else None


def local_file(relative: str | Path, folder: Path | None = None) -> Path | None:
    """`<folder>/<relative>`, or that with .gz behind it, where there is such a file, else None.

    Args:
        folder: default $HYBRIDLIB_DATA.
    """
    folder = folder or data_folder()
    paths = [Path(folder) / f"{relative}{suffix}" for suffix in ("", ".gz")] if folder else []
    return next((path for path in paths if path.is_file()), None)


def local_or_hub(
    relative: str | Path, repo: str, filename: str, *, revision: str | None = None, folder: Path | None = None
) -> Path:
    """A file of a public data set: the copy in $HYBRIDLIB_DATA where there is one, else from the hub by `fetch`.

    Args:
        relative: path of the copy in the folder, with or without .gz.
        repo, filename, revision: as for `fetch`.
        folder: default $HYBRIDLIB_DATA.

    Raises:
        OSError, ValueError: as `fetch`.
    """
    return local_file(relative, folder) or fetch(repo, filename, revision=revision)


# ---- reading

_TORN = (EOFError, gzip.BadGzipFile, zlib.error)


def read_bytes(path: Path) -> bytes:
    """Content of a file, uncompressed if its name ends in .gz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the gzip stream is torn or is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    data = path.read_bytes()
    try:
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except _TORN as error:
        raise ValueError(_torn(path, error)) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_content(data: bytes, *, size: int, sha256: str, where: object) -> None:
    """Compare uncompressed bytes with what is pinned.

    Raises:
        ValueError: size or SHA-256 differ; the text names `where`.
    """
    if len(data) != size:
        raise ValueError(f"{where}: {len(data)} bytes (uncompressed) where {size} are expected; {_REPLACE}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise ValueError(f"{where}: its sha256 is {digest}, not the expected {sha256}; {_REPLACE}")


def parse_json(data: bytes, path: object, line: int = 1) -> Any:
    """Decode UTF-8 JSON that starts on the given line of a file.

    Raises:
        ValueError: not UTF-8 or not JSON; the text names file, line and place.
    """
    try:
        return json.loads(data.decode("utf-8-sig"))  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line += error.object.count(b"\n", 0, error.start)
        raise ValueError(
            f"{path}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file as UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {line + error.lineno - 1}, column {error.colno}: invalid JSON ({error.msg}); "
            "the file is cut off or damaged there"
        ) from error


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number (from 1) and value of each line of a .jsonl or .jsonl.gz file, one at a time, without blank lines.

    Raises:
        ValueError: as `parse_json`; or the gzip stream is torn.
    """
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as stream:
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, parse_json(line.rstrip(), path, number)
        except _TORN as error:
            raise ValueError(_torn(path, error, f", after line {number}")) from error


_REPLACE = "this is not the pinned version or it is damaged: remove it and get it again"


def _torn(path: Path, error: Exception, place: str = "") -> str:
    return f"{path}{place}: torn or no gzip file ({error}); get it again"


# ---- downloads

ATTEMPTS = 3


def download(url: str, *, size: int, sha256: str) -> bytes:
    """Fetch a small file whose size and SHA-256 are known. Tries again after a cut connection; keeps no part of it.

    Raises:
        ConnectionError: no attempt brought the whole file, or the server refused.
        ValueError: the whole file came and is not the pinned one.
    """
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                data = response.read(size + 1)
        except urllib.error.HTTPError as error:
            failure = f"the server answered {error.code} {error.reason}"
            if error.code < 500:  # asking again would not help
                break
        except (OSError, http.client.HTTPException) as error:
            failure = str(error)
        else:
            if len(data) >= size:
                check_content(data, size=size, sha256=sha256, where=url)
                return data
            failure = f"the connection was cut after {len(data)} of {size} bytes"
        time.sleep(2**attempt)
    raise ConnectionError(f"{url}: {failure}")


def lock_file() -> Path:
    """The JSON file that says which commit of each repository and revision the first download brought."""
    return cache_folder() / "hub-lock.json"


def fetch(repo: str, filename: str, *, revision: str | None = None, repo_type: str = "dataset") -> Path:
    """Path of a repository's file in huggingface_hub's cache, where it is downloaded if it is lacking.

    Args:
        revision: commit, branch or tag; None is the main branch. The first download writes into the lock file which
            commit that was, and later calls ask for that commit.
        repo_type: "dataset" or "model".

    Raises:
        FileNotFoundError: no such repository, revision or file; or it is not in the cache and the hub is off limits.
        PermissionError: the repository is gated or private; the text says what to do.
        ConnectionError: the network or the hub failed, or asks for patience; the text says what to do.
        ValueError: the content that came is not what the hub states, or the lock file is damaged.
    """
    what = f"{repo_type} {repo}, {filename} at {revision or 'main'}"
    key = f"{repo_type}s/{repo}@{revision or 'main'}"
    commits = _read_lock()
    commit = commits.get(key, revision)
    cached = try_to_load_from_cache(repo, filename, revision=commit, repo_type=repo_type)
    try:
        path = Path(hf_hub_download(repo, filename, repo_type=repo_type, revision=commit))
    except Exception as error:  # the client's own, the network's, the disk's
        clear = explained(error, what)
        raise clear from (None if clear is error else error)
    if str(path) != cached:
        verify(path, what)
    if key not in commits:
        _record(key, path.parents[len(PurePosixPath(filename).parts) - 1].name)  # .../snapshots/<commit>/<filename>
    return path


def verify(path: Path, what: str) -> None:
    """Compare a cached file with the checksum the hub states, which its blob is named after; no link, no comparison.

    Raises:
        ValueError: they differ; the file has been removed from the cache.
    """
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


def _read_lock() -> dict[str, str]:
    path = lock_file()
    content = parse_json(path.read_bytes(), path) if path.exists() else {"commits": {}}
    if not isinstance(content, dict) or not isinstance(content.get("commits"), dict):
        raise ValueError(f"{path}: no lock file of this version of the package; move it away and run again")
    return content["commits"]


def _record(key: str, commit: str) -> None:
    make_parent(lock_file())
    with FileLock(f"{lock_file()}.lock"):
        write_json(lock_file(), {"commits": dict(sorted({**_read_lock(), key: commit}.items()))})


def explained(error: Exception, what: str) -> Exception:
    """What the hub's client raised as an error that says what to do; as it is where the disk or a name is wrong."""
    if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno):
        return error
    # LocalEntryNotFoundError only says that the cache is empty, its cause why the hub gave none.
    if isinstance(error, LocalEntryNotFoundError):
        error = error.__cause__ or OfflineModeIsEnabled()
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, OfflineModeIsEnabled):
        kind = FileNotFoundError
        advice = f"not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids downloads; unset it once"
    elif isinstance(error, GatedRepoError):
        kind = PermissionError
        advice = f"access is restricted. Accept the conditions on its page, then {log_in}"
    elif isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError)):
        kind = FileNotFoundError
        advice = f"there is no such repository, revision or file: check the names; if it is private, {log_in}"
    else:
        kind = ConnectionError
        advice = f"the download failed; check the network and {constants.ENDPOINT}, and run again"
    reason = str(error).strip().partition("\n")[0]
    return kind(f"{what}: {advice} ({type(error).__name__}: {reason})")
