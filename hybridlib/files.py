"""Files: written whole or not at all, read with errors that name the place, fetched pinned and checked.

Files of Hugging Face repositories, pinned: what a first download brought, every later one must bring again.

A lock file in the cache folder (`lock_file`) holds commit, size and SHA-256 of each file fetched. The files lie in
huggingface_hub's own cache ($HF_HUB_CACHE), shared with every other program; HF_HUB_OFFLINE, HF_ENDPOINT and
HF_TOKEN work as they do everywhere. No loading script is ever run: a file is only fetched.

What huggingface_hub leaves open is done here: over plain HTTP it compares sizes, not contents, so the content is
checked against the hash that the hub itself states (the ETag: SHA-256 of an LFS file, git's blob id of a small one).
It tries again by itself five times, and goes on where a connection was cut; a failed download leaves no part behind.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import re
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
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


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


# ---- reading files from elsewhere

_TORN = (EOFError, gzip.BadGzipFile, zlib.error)


def cache_folder() -> Path:
    """Where downloads are kept, shared by all runs: $HYBRIDLIB_CACHE, else .cache/hybridlib in the user's home."""
    return Path(os.environ.get("HYBRIDLIB_CACHE") or Path.home() / ".cache" / "hybridlib").expanduser()


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


def check_content(data: bytes, *, size: int, sha256: str, where: object) -> None:
    """Compare uncompressed bytes with what is pinned.

    Raises:
        ValueError: size or SHA-256 differ; the text names `where`.
    """
    if len(data) != size:
        raise ValueError(f"{where}: {len(data)} bytes (uncompressed) where {size} are expected; {_REPLACE}")
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(f"{where}: its sha256 is {found}, not the expected {sha256}; {_REPLACE}")


def parse_json(data: bytes, path: object, line: int = 1) -> Any:
    """Decode UTF-8 JSON that starts on the given line of a file.

    Raises:
        ValueError: not UTF-8 or not JSON; the text names file, line and place.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise ValueError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
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


def download(url: str, *, size: int, sha256: str, attempts: int = 3, pause: float = 1.0, timeout: float = 30) -> bytes:
    """Fetch a small file whose size and SHA-256 are known. Tries again after a cut connection; keeps no part of it.

    Args:
        pause: seconds before the second attempt; it doubles from one to the next.
        timeout: seconds the server may stay silent.

    Raises:
        ConnectionError: no attempt brought the whole file, or the server refused.
        ValueError: the whole file came and is not the pinned one.
    """
    for attempt in range(attempts):
        time.sleep(pause * 2 ** (attempt - 1) if attempt else 0)
        try:
            with urllib.request.urlopen(url, timeout=timeout) as response:
                data = response.read(size + 1)
        except urllib.error.HTTPError as error:
            failure = f"the server answered {error.code} {error.reason}"
            if error.code < 500:  # asking again would not help
                raise ConnectionError(f"{url}: {failure}") from error
        except (OSError, http.client.HTTPException) as error:
            failure = str(error)
        else:
            if len(data) >= size:
                check_content(data, size=size, sha256=sha256, where=url)
                return data
            failure = f"the connection was cut after {len(data)} of {size} bytes"
    raise ConnectionError(f"{url}: {failure} ({attempts} attempts)")


_REPLACE = "this is not the pinned version or it is damaged: remove it and get it again"


def _torn(path: Path, error: Exception, place: str = "") -> str:
    return f"{path}{place}: torn or no gzip file ({error}); get it again"


# ---- files of Hugging Face repositories

CHUNK = 1 << 20  # bytes read at once for a checksum


def lock_file() -> Path:
    """The JSON file that says which commit, size and SHA-256 each file fetched so far had."""
    return cache_folder() / "hub-lock.json"


def fetch(repo: str, filename: str, *, revision: str | None = None, repo_type: str = "dataset") -> Path:
    """Path of a repository's file in the local cache; downloads it where it is lacking, checks it in any case.

    Args:
        revision: commit, branch or tag; None is the main branch. The first download writes into the lock file which
            commit that was, and later calls ask for that commit.
        repo_type: "dataset" or "model".

    Raises:
        FileNotFoundError: no such repository, revision or file; or it is not in the cache and the hub is off limits.
        PermissionError: the repository is gated or private; the text says what to do.
        ConnectionError: the network or the hub failed, or asks for patience; the text says what to do.
        ValueError: the content is not what the hub or the lock file says.
    """
    what = f"{repo_type} {repo}, {filename} at {revision or 'main'}"
    key = f"{repo_type}s/{repo}@{revision or 'main'}/{filename}"
    known = _read_lock().get(key)
    commit = known["revision"] if known else revision
    try:
        path = Path(hf_hub_download(repo, filename, repo_type=repo_type, revision=commit))
    except Exception as error:  # the client's own, the network's, the disk's
        clear = explained(error, what, repo, repo_type)
        raise clear from (None if clear is error else error)
    sha256 = verify(path, what) or _sha256(path)
    found = {"revision": _commit(path, filename), "size": path.stat().st_size, "sha256": sha256}
    if known is None:
        _record(key, found)
    elif found != known:
        wrong = next(name for name in known if found.get(name) != known[name])
        raise ValueError(
            f"{what}: {wrong} is {found.get(wrong)}, but {lock_file()} records {known[wrong]} from the first download; "
            f"remove {path} and run again, or, if the other version is wanted, remove the entry {key!r} there"
        )
    return path


def stated_size(repo: str, filename: str, *, revision: str | None = None, repo_type: str = "dataset") -> int | None:
    """Bytes of a file as the hub states them, without fetching it; None: no answer."""
    url = hf_hub_url(repo, filename, repo_type=repo_type, revision=revision)
    try:
        return get_hf_file_metadata(url, timeout=10).size
    except Exception:  # the client's, the network's: a size is not worth a stop
        return None


def _commit(path: Path, filename: str) -> str:
    """The commit a cached file belongs to: its path is .../snapshots/<commit>/<filename>."""
    return path.parents[len(PurePosixPath(filename).parts) - 1].name


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _git_blob(path: Path) -> str:
    """The id git gives to the file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while part := stream.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()


def verify(path: Path, what: str) -> str | None:
    """Compare a cached file with the checksum the hub states, which its blob is named after; no link, no comparison.

    Returns:
        The SHA-256 where that is what was compared: for files in LFS.

    Raises:
        ValueError: they differ; the file has been removed from the cache.
    """
    if not path.is_symlink():
        return None
    blob = path.parent / os.readlink(path)
    stated = blob.name
    if re.fullmatch("[0-9a-f]{64}", stated):
        found = _sha256(path)
    elif re.fullmatch("[0-9a-f]{40}", stated):
        found = _git_blob(path)
    else:
        return None
    if found != stated:
        blob.unlink()
        path.unlink()
        raise ValueError(
            f"{what}: the hub states the checksum {stated}, the content has {found}; it was damaged on its way or in "
            "the cache and has been removed there: run again"
        )
    return found if len(found) == 64 else None


# ---- the lock file


def _read_lock() -> dict[str, dict]:
    path = lock_file()
    if not path.exists():
        return {}
    content = parse_json(path.read_bytes(), path)
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise ValueError(f"{path}: no lock file of this package; move it away and run again")
    return content["files"]


def _record(key: str, found: dict) -> None:
    make_parent(lock_file())
    with FileLock(f"{lock_file()}.lock"):
        write_json(lock_file(), {"files": dict(sorted({**_read_lock(), key: found}.items()))})


# ---- errors


def explained(error: Exception, what: str, repo: str, repo_type: str) -> Exception:
    """What the hub's client raised as an error that says what to do; as it is where the disk or a name is wrong."""
    if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno):
        return error
    page = f"{constants.ENDPOINT}/{'datasets/' if repo_type == 'dataset' else ''}{repo}"
    # LocalEntryNotFoundError only says that the cache is empty, its cause why the hub gave none.
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
    if cause is None or isinstance(cause, OfflineModeIsEnabled):
        return FileNotFoundError(
            f"{what}: not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids downloads; unset it once, "
            "or copy the cache of another machine there"
        )
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, GatedRepoError):
        return PermissionError(
            f"{what}: access is restricted. Accept the conditions at {page}, then log in with `hf auth login` or set "
            "HF_TOKEN, and run again"
        )
    if isinstance(cause, RevisionNotFoundError):
        return FileNotFoundError(f"{what}: {page} has no such revision; give another, or remove it from {lock_file()}")
    if isinstance(cause, RepositoryNotFoundError):
        return FileNotFoundError(
            f"{what}: there is no {page}, or it is private: check the name; for a private one log in with "
            "`hf auth login` or set HF_TOKEN"
        )
    if isinstance(cause, EntryNotFoundError):
        return FileNotFoundError(f"{what}: {page} has no such file at this revision; its layout may have changed")
    if status in (401, 403):
        return PermissionError(f"{what}: {page} refuses access ({status}); log in with `hf auth login` or set HF_TOKEN")
    if status == 429:
        return ConnectionError(
            f"{what}: the hub asks for fewer requests (429); wait some minutes, or log in, and run again"
        )
    if status is not None and status >= 500:
        return ConnectionError(f"{what}: the hub has failed ({status}), in several attempts; run again later")
    reason = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
    return ConnectionError(
        f"{what}: the download failed ({reason}); check the network and HF_ENDPOINT ({constants.ENDPOINT}) and run "
        "again, no damaged part is kept"
    )
