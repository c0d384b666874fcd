"""Hits as a file: safetensors with a checksum, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hybridlib.companion.search.topk import Hits
from hybridlib.files import replace_file

TENSORS = ("scores", "places", "rows", "ids")


def write_hits(path: Path, hits: Hits, about: dict[str, str]) -> None:
    """Write hits that have ids, and texts about them.

    The tensors: scores (Q, k) float32; places (Q, k) int32, a passage's place among rows (P,) int64, the rows that
    occur; ids (any,) uint8, a JSON list of the ids of these rows.

    Raises:
        OSError: the file cannot be written, for one because the disk is full; nothing is left of it.
    """
    rows, first, places = np.unique(hits.rows, return_index=True, return_inverse=True)
    ids = json.dumps(hits.ids.reshape(-1)[first].tolist()).encode()
    tensors = {"scores": np.ascontiguousarray(hits.scores), "places": places.reshape(hits.rows.shape).astype(np.int32)}
    tensors |= {"rows": rows, "ids": np.frombuffer(ids, np.uint8)}
    content = save(tensors, {**about, "sha256": _checksum(tensors)})
    try:
        with replace_file(path) as new:
            new.write_bytes(content)
    except OSError as error:
        reason = f"{path}: not written ({error.strerror or error}); make room or choose another folder and start again"
        raise OSError(error.errno, f"{reason}: what is finished stays") from error


def read_hits(path: Path) -> tuple[Hits, dict[str, str]]:
    """Hits and the texts about them.

    Raises:
        ValueError: the file is cut off, damaged or something else; the text names it.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors, about = {name: file.get_tensor(name) for name in TENSORS}, file.metadata()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cut off or no file of hits ({error})") from error
    if about.pop("sha256", None) != _checksum(tensors):
        raise ValueError(f"{path}: damaged, its content does not match its checksum")
    ids = np.array(json.loads(tensors["ids"].tobytes()), dtype=object)
    places = tensors["places"]
    return Hits(tensors["rows"][places], tensors["scores"], ids[places]), about


def _checksum(tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in TENSORS:
        digest.update(f"{name} {tensors[name].shape} {tensors[name].dtype}".encode())
        digest.update(np.ascontiguousarray(tensors[name]))
    return digest.hexdigest()
