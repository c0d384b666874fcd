"""Content hash of Arrow tables: the same whether they are in memory or mapped, in one chunk or in many."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WINDOW = 65_536  # rows hashed at once


def fingerprint(name: str, *tables: pa.Table) -> str:
    """SHA-256 of a name and of what tables hold, as 64 hexadecimal digits.

    The order of the rows counts. What does not: the order of the columns, how rows are cut into chunks, which of
    Arrow's string types or dictionary holds a text, and the width of an integer.

    Raises:
        TypeError: a column holds something else than texts, numbers, or lists of them.
    """
    content = [{column: _digests(table[column]) for column in table.column_names} for table in tables]
    return hashlib.sha256(json.dumps([name, content], sort_keys=True).encode()).hexdigest()


def _digests(column: pa.ChunkedArray) -> dict[str, str]:
    """A digest of each of the streams that a column consists of: which values are null, lengths, text, numbers."""
    streams = defaultdict(hashlib.sha256)
    for chunk in column.chunks:
        for start in range(0, len(chunk), WINDOW):
            _update(streams, "", chunk.slice(start, WINDOW))
    return {name: stream.hexdigest() for name, stream in streams.items()}


def _update(streams: defaultdict, level: str, values: pa.Array) -> None:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    streams[f"{level}valid"].update(np.asarray(values.is_valid()).tobytes())
    values = values.drop_null() if values.null_count else values
    if not len(values):
        return
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        streams[f"{level}lengths"].update(_bytes(pc.list_value_length(values), "<i8"))
        _update(streams, f"{level}item ", values.flatten())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        streams[f"{level}numbers"].update(_bytes(values, "<f8" if pa.types.is_floating(kind) else "<i8"))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = values.cast(pa.large_string())
        offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
        streams[f"{level}lengths"].update(np.diff(offsets).astype("<i8").tobytes())
        if offsets[-1] > offsets[0]:
            streams[f"{level}text"].update(memoryview(texts.buffers()[2])[offsets[0] : offsets[-1]])
    else:
        raise TypeError(f"a column of {values.type} has no fingerprint; use strings, numbers or lists of them")


def _bytes(numbers: pa.Array, dtype: str) -> bytes:
    return numbers.to_numpy(zero_copy_only=False).astype(dtype).tobytes()
