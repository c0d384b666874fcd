"""Files of Hugging Face repositories, pinned: what a first download brought, every later one must bring again.

A lock file in the cache folder (`lock_file`) holds commit, size and SHA-256 of each file fetched. The files lie in
huggingface_hub's own cache ($HF_HUB_CACHE), shared with every other program; HF_HUB_OFFLINE, HF_ENDPOINT and
HF_TOKEN work as they do everywhere. No loading script is ever run: a file is only fetched.

What huggingface_hub leaves open is done here: over plain HTTP it compares sizes, not contents, so the content is
checked against the hash that the hub itself states (the ETag: SHA-256 of an LFS file, git's blob id of a small one).
It tries again by itself five times, and goes on where a connection was cut; a failed download leaves no part behind.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

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

from hybridlib.corpora.files import cache_folder, parse_json
from hybridlib.storage import make_parent, write_json

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
