"""Where the parts of a saved encoder lie: finding its folder, on the hub too, and reading what its files say.

A sentence-transformers folder (its versions 2 to 6) lists modules in modules.json, each with the path of its class and
its own folder: Transformer (most often the folder itself), Pooling, then possibly Dense and Normalize. The versions
differ in class paths and keys; all are read. No code that comes with a checkpoint is run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import snapshot_download
from transformers.utils import logging as transformers_logging

from hybridlib.files import explained, verify

# Before version 6 a Pooling was one boolean for each kind: pooling_mode_ and these.
POOLING_FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
LAYOUTS = [["Transformer", "Pooling", *d, *n] for d in ([], ["Dense"]) for n in ([], ["Normalize"])]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the text names the folder and what to do."""


@dataclass(frozen=True)
class Layout:
    """Where a checkpoint's parts lie and what its own files say; `pooling` is None where they say nothing."""

    root: Path
    pooling: str | None = None
    dense: Path | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    max_length: int | None = None
    lower_case: bool = False


def local_folder(name: str, revision: str | None = None, *, weights: bool = True) -> Path:
    """The folder of that name, or the hub's repository, downloaded or found in its cache, with weights or without."""
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{folder} is a folder, and only the hub has revisions: leave {revision!r} out")
        return folder
    if folder.exists() or folder.is_absolute() or len(folder.parts) > 2 or name.startswith((".", "~")):
        raise CheckpointError(f"{folder} is not a folder: name the folder of a checkpoint or a repository of the hub")
    try:
        # A Dense is often left a pickle where the large weights have been converted.
        files = ["*.safetensors", "*Dense/pytorch_model.bin"] if weights else []
        local = _download(name, revision, ["*.json", "*.txt", "*.model", *files])
        if weights and not any(local.glob("*.safetensors")):
            _download(name, revision, ["*pytorch_model*.bin"])
        for path in local.rglob("*"):
            verify(path, f"{name}, {path.relative_to(local)}")
    except Exception as error:  # the hub's client raises its own errors, the network's and the file system's
        reason = explained(error, f"model {name} at {revision or 'main'}")
        raise CheckpointError(f"{name} is no folder here, and as a repository of the hub: {reason}") from error
    return local


def _download(name: str, revision: str | None, patterns: list[str]) -> Path:
    return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))


def read_layout(folder: Path) -> Layout:
    """What modules.json and the files it names say; without it the folder is a plain transformers checkpoint."""
    if not (folder / "modules.json").exists():
        if not (folder / "config.json").exists():
            raise CheckpointError(f"{folder} has no modules.json or config.json: name the folder of a checkpoint")
        return Layout(folder)
    modules = read_json(folder / "modules.json")
    names = [_class_name(folder, module["type"]) for module in modules]
    if names not in LAYOUTS:
        raise CheckpointError(
            f"{folder} consists of {', '.join(names)}: only Transformer, Pooling and after them Dense and Normalize "
            "can be read; use another checkpoint"
        )
    places = {name: _inside(folder, module["path"]) for name, module in zip(names, modules, strict=True)}
    root, dense = places["Transformer"], places.get("Dense")
    pooling = _pooling(places["Pooling"] / "config.json")
    pooling = "pooler" if pooling == "cls" and dense else pooling
    return Layout(root, pooling, dense, *_prompts(folder / "config_sentence_transformers.json"), *_limits(root))


def _class_name(folder: Path, class_path: str) -> str:
    if not class_path.startswith("sentence_transformers."):
        raise CheckpointError(f"{folder} comes with code of its own ({class_path}), never run here: use another one")
    return class_path.rpartition(".")[2]


def _inside(folder: Path, path: str) -> Path:
    if PurePath(path).is_absolute() or ".." in PurePath(path).parts:
        raise CheckpointError(f"{folder / 'modules.json'} points outside of its folder ({path}): do not use it")
    return folder / path


def _pooling(path: Path) -> str:
    """The kind of a Pooling module, "mean" or "cls"."""
    config = read_json(path)
    flagged = [flag for flag in POOLING_FLAGS if config.get(f"pooling_mode_{flag}")]
    kinds = config.get("pooling_mode") or [flag.partition("_token")[0] for flag in flagged] or "mean"
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    kinds += [] if config.get("include_prompt", True) else ["without the prompt"]
    if kinds not in (["mean"], ["cls"]):
        raise CheckpointError(
            f"{path} pools by {', '.join(kinds)}: only mean and cls can be read, use another checkpoint"
        )
    return kinds[0]


def _prompts(path: Path) -> tuple[str, str]:
    """The prefixes of queries and passages. The latter goes by three names; version 6 adds an empty "document"."""
    prompts = (read_json(path).get("prompts") if path.exists() else None) or {}
    return prompts.get("query") or "", next(filter(None, map(prompts.get, ("document", "passage", "corpus"))), "")


def _limits(root: Path) -> tuple[int | None, bool]:
    """max_seq_length and do_lower_case; old versions put the model's type into the file's name."""
    paths = sorted(root.glob("sentence_*_config.json"))
    config = read_json(paths[0]) if paths else {}
    task = config.get("transformer_task", "feature-extraction")
    if task != "feature-extraction" or "text" not in config.get("modality_config", {"text": None}):
        raise CheckpointError(f"{paths[0]} describes no encoder of texts (task {task}): use another checkpoint")
    return config.get("max_seq_length"), bool(config.get("do_lower_case"))


def read_json(path: Path) -> Any:
    """What a file says; CheckpointError names it where that cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}): fetch the checkpoint again") from error


@contextmanager
def clear_errors(folder: Path, what: str = "encoder") -> Iterator[None]:
    """What the libraries raise over missing and torn files, as one error that names the folder."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # OSError, RuntimeError, KeyError, SafetensorError, UnpicklingError and more
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise CheckpointError(f"{folder} is no complete {what} ({reason}): fetch the checkpoint again") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and load report: what they tell is checked here and raised."""
    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
