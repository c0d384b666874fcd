"""Values that users give for the parameters of a profile, checked by the kind that the settings declare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

MAY_BE_ZERO = ("alphas", "seeds", "corpus_seed", "layers", "extra_candidates", "negatives", "warmup", "weight_decay")
MAY_BE_ZERO += ("dropout",)
MAY_BE_EMPTY = "leakage"  # of the lists

SomeSettings = TypeVar("SomeSettings")


def changed(standard: SomeSettings, overrides: dict[str, Any]) -> SomeSettings:
    """Settings (a dataclass) with some values replaced; None keeps the standard one.

    Raises:
        ValueError: no such parameter, or a value of the wrong kind or range; the text names it.
    """
    kinds = get_type_hints(type(standard))
    names = [field.name for field in fields(standard) if field.name != "profile"]
    changes = {}
    for name, value in overrides.items():
        if value is None:
            continue
        if name not in names:
            raise ValueError(f"there is no parameter {name!r}; there are {', '.join(sorted(names))}")
        changes[name] = _checked(name, value, kinds[name], getattr(standard, name))
    return replace(standard, **changes)


def _checked(name: str, value: Any, kind: Any, standard: Any) -> Any:
    if get_origin(kind) is tuple:
        needed = bool(standard) and name != MAY_BE_EMPTY
        if isinstance(value, str) or not isinstance(value, Sequence) or (needed and not value):
            raise ValueError(f"{name} must be a list such as {list(standard)!r}, not {value!r}")
        item = get_args(kind)[0]
        return tuple(_checked(name, part, item, standard[0] if standard else item()) for part in value)
    if get_origin(kind) is UnionType:  # such as int | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        like = f"of the kind of {standard!r}" if standard is not None else f"a {kind.__name__}"
        raise ValueError(f"{name} must be {like}, not {value!r}")
    if kind in (int, float):
        _check_range(name, value)
    return kind(value)


def _check_range(name: str, value: float) -> None:
    if name == "alphas" and not 0 <= value <= 1:
        raise ValueError(f"alphas must be in [0, 1], not {value!r}")
    if name in MAY_BE_ZERO and value < 0:
        raise ValueError(f"{name} must be 0 or more, not {value!r}")
    if name not in MAY_BE_ZERO and not value > 0:
        raise ValueError(f"{name} must be above 0, not {value!r}")
