"""Test collections by name: the loaders of `miracl`, `tydi`, `xtreme` and `beir` under one roof.

Names are those that the collections carry: miracl-sw, miracl-hard-negatives-sw, mr-tydi-sw, tydiqa-goldp-sw,
tydiqa-goldp-pooled-bn-sw (one pool of several languages), tatoeba-deu (two collections, there and back), mewsli-x;
any other name is a data set of BEIR.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hybridlib.companion.search import beir, miracl, tydi, xtreme
from hybridlib.companion.search.collection import Collection

FORMS = {
    "miracl-hard-negatives-<lang>": partial(miracl.load, form="hard-negatives"),
    "miracl-<lang>": miracl.load,
    "mr-tydi-<lang>": tydi.load_mr_tydi,
    "tydiqa-goldp-pooled-<lang>": lambda langs, **options: tydi.load_goldp(langs.split("-"), **options),
    "tydiqa-goldp-<lang>": tydi.load_goldp,
    "tatoeba-<lang>": xtreme.load_tatoeba,
    "mewsli-x": xtreme.load_mewsli_x,
    "<name of BEIR>": beir.load,
}


def load(name: str, *, folder: Path | None = None, empty: str = "error", **options) -> list[Collection]:
    """The collection of that name; of Tatoeba both directions.

    Args:
        folder: local copies; default $HYBRIDLIB_DATA.
        empty: a passage without any text is an "error", or "keep" keeps it: of MIRACL, Mr. TyDi and BEIR, since the
            others have no such passage.
        options: what else the loader takes, such as split="dev".

    Raises:
        ValueError, OSError: as the loaders raise them; for a name that is nowhere the text lists FORMS too.
    """
    loader, arguments = _loader(name)
    options |= {"empty": empty} if "empty" in inspect.signature(loader).parameters else {}
    try:
        found = loader(*arguments, folder=folder, **options)
    except FileNotFoundError as error:
        if loader is not beir.load or name in beir.REVISIONS:
            raise
        raise FileNotFoundError(f"{name}: no such collection; names are {', '.join(FORMS)}. {error}") from error
    return list(found.values()) if isinstance(found, dict) else [found]


def _loader(name: str) -> tuple[Callable, list[str]]:
    for form, loader in FORMS.items():
        if name == form:
            return loader, []
        prefix, variable, _ = form.partition("<")
        if prefix and variable and name.startswith(prefix):
            return loader, [name.removeprefix(prefix)]
    return beir.load, [name]
