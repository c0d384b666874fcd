"""Strip notebooks of what running them leaves behind: python tools/strip_notebooks.py notebooks/*.ipynb

Outputs, execution counts, widget state and editor metadata go; sources, cell ids, tags and the notebook's own metadata
(`hybridlib`) stay. The kernel becomes `python3`. Files that are clean already are not touched.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def strip(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook as it is committed."""
    cells = []
    for cell in notebook["cells"]:
        kept = {"tags": cell["metadata"]["tags"]} if cell.get("metadata", {}).get("tags") else {}
        clean = {key: cell[key] for key in ("cell_type", "id", "source") if key in cell} | {"metadata": kept}
        if cell["cell_type"] == "code":
            clean |= {"execution_count": None, "outputs": []}
        cells.append(clean)
    own = {key: value for key, value in notebook["metadata"].items() if key == "hybridlib"}
    metadata = {**own, "kernelspec": KERNEL, "language_info": {"name": "python"}}
    return {**{key: notebook[key] for key in ("nbformat", "nbformat_minor")}, "cells": cells, "metadata": metadata}


def main(paths: list[str]) -> int:
    """Strip each file in place; returns 1 if one was changed, as a pre-commit hook should."""
    changed = False
    for path in map(Path, paths):
        before = path.read_text(encoding="utf-8")
        after = json.dumps(strip(json.loads(before)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if after != before:
            part = path.with_name(f".{path.name}.part")
            part.write_text(after, encoding="utf-8")
            os.replace(part, path)
            print(f"stripped {path}")
            changed = True
    return int(changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
