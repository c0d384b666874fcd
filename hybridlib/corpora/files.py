"""Careful reading of files from elsewhere: plain or gzip, JSON, JSON Lines, checksums, downloads.

Every error names the file, and the line or row where there is one, and says what to do.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
