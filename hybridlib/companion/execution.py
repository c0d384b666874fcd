"""Execute notebooks with papermill, one after another, and put what they recorded into one verdict table.

Under the root folder lie runs/executed/<place>/NN_name.ipynb (executed copies) and, written by a notebook's last cell
through `companion.report.notebook`, runs/records/<place>/NN_name.json: {"notebook", "profile", "seconds", "peak_mb",
"numbers", "runs": {"made", "reused"}, "claims": [{"claim", "paper", "measured", "verdict"}]}.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import papermill
from ipykernel.kernelspec import get_kernel_dict

MISSING_RUN = "MissingRun"  # the error by which a notebook says that only existing runs may be used and one is missing


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended: "ran", "failed" or "missing" (a run it needs), with its message and its record."""

    name: str
    state: str
    seconds: float
    message: str = ""
    record: dict[str, Any] = field(default_factory=dict)


# ---- running


@contextmanager
def kernel_environment(variables: dict[str, str | None]) -> Iterator[None]:
    """Set environment variables (None: unset) and make the kernel `python3` this very Python, until the block ends.

    Whatever kernels are registered on the machine, the one written here is found first. The user's IPython start-up
    files and history stay out of it.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="hybridlib-kernel-") as folder:
        spec = Path(folder, "kernels", "python3", "kernel.json")
        spec.parent.mkdir(parents=True)
        # Its command is sys.executable. What a kernel logs about itself would cut up the progress lines; what happens
        # in a notebook stands in the executed copy.
        spec.write_text(json.dumps(get_kernel_dict(["--log-level=CRITICAL"])), encoding="utf-8")
        paths = {"JUPYTER_PATH": folder, "JUPYTER_RUNTIME_DIR": f"{folder}/runtime", "IPYTHONDIR": f"{folder}/ipython"}
        try:
            for name, value in {**variables, **paths}.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def run_all(notebooks: Sequence[Path], parameters: dict[str, Any], root: Path, place: str) -> list[Outcome]:
    """Execute notebooks in turn, printing a progress line for each. One that fails does not stop the others.

    `place` is the profile, or what `Study.place` says. OSError: a folder under the root cannot be written.
    KeyboardInterrupt goes through when the kernel has ended.
    """
    outcomes = []
    for position, path in enumerate(notebooks, 1):
        print(f"[{position}/{len(notebooks)}] {path.stem} ... ", end="", flush=True)
        outcomes.append(_run_one(path, parameters, root, place))
        print(_ending(outcomes[-1]), flush=True)
    return outcomes


def _run_one(path: Path, parameters: dict[str, Any], root: Path, place: str) -> Outcome:
    """Execute one notebook and read its record. What an earlier run left of either is removed first."""
    copy = root / "runs" / "executed" / place / path.name
    record = root / "runs" / "records" / place / f"{path.stem}.json"
    for old in (copy, record):
        old.parent.mkdir(parents=True, exist_ok=True)
        old.unlink(missing_ok=True)
    start = time.perf_counter()
    state, message = _execute(path, parameters, copy)
    content = json.loads(record.read_text(encoding="utf-8")) if state == "ran" and record.exists() else {}
    return Outcome(path.stem, state, time.perf_counter() - start, message, content)


def _execute(path: Path, parameters: dict[str, Any], copy: Path) -> tuple[str, str]:
    """Execute a notebook into a copy, which gets its name when the notebook has ended; returns state and message."""
    part = copy.with_suffix(".part.ipynb")
    state, message = "ran", ""
    try:
        papermill.execute_notebook(
            _escaped(path),
            _escaped(part),
            parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=os.getcwd(),  # so that file names in -p mean what they mean where the command is typed
            start_timeout=180,
        )
    except papermill.PapermillExecutionError as error:
        state, message = "missing", error.evalue
        if error.ename != MISSING_RUN:
            state, message = "failed", _failure(f"cell In [{error.exec_count}]", error.ename, error.evalue, copy)
    except Exception as error:  # a kernel that died or never started: the other notebooks still get their turn
        state, message = "failed", _failure(_last_started(part), type(error).__name__, str(error), copy)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if part.exists():
        os.replace(part, copy)
    return state, message


def _failure(cell: str, error: str, text: str, copy: Path) -> str:
    return f"{cell}: {error}: {text.strip()}\n    executed copy: {copy}"


def _escaped(path: Path) -> str:
    """papermill formats its paths with str.format: braces in a folder's name have to survive that."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _last_started(part: Path) -> str:
    """The last cell that was started, by its place in the half-finished copy."""
    cells = json.loads(part.read_text(encoding="utf-8"))["cells"] if part.exists() else []
    started = [place for place, cell in enumerate(cells, 1) if cell["metadata"].get("papermill", {}).get("start_time")]
    return f"cell {started[-1]} of {len(cells)}" if started else "before its first cell"


# ---- reporting


def _ending(outcome: Outcome) -> str:
    """What follows the dots of a progress line."""
    if outcome.state == "missing":
        return f"missing: {outcome.message}"
    if outcome.state == "failed":
        return f"FAILED after {outcome.seconds:.1f} s: {outcome.message}"
    if not outcome.record:
        return f"{outcome.seconds:.1f} s (wrote no record)"
    reused, made = (outcome.record.get("runs", {}).get(key, 0) for key in ("reused", "made"))
    return f"{outcome.seconds:.1f} s (reused {reused} run{'' if reused == 1 else 's'}, made {made})"


def merge_claims(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The claims of all records, each once, in the order they first appear; a later notebook's word on one counts."""
    claims = (claim for outcome in outcomes for claim in outcome.record.get("claims", []))
    return list({claim["claim"]: claim for claim in claims}.values())


def verdict_table(claims: Sequence[dict[str, Any]], width: int) -> str:
    """Claim, what was measured, verdict: as text at most `width` (but at least 60) columns wide."""
    last = max(len("does not hold"), *(len(claim["verdict"]) for claim in claims))
    wide = (max(width, 60) - last - 4) // 2
    blocks = [_table_row("CLAIM", "MEASURED", "VERDICT", wide)]
    for claim in claims:
        blocks.append(_table_row(claim["claim"], str(claim["measured"] or "-"), claim["verdict"], wide))
    return "\n\n".join(blocks)


def _table_row(claim: str, measured: str, verdict: str, wide: int) -> str:
    left, right = textwrap.wrap(claim, wide), textwrap.wrap(measured, wide)
    lines = []
    for place in range(max(len(left), len(right))):
        cells = [column[place] if place < len(column) else "" for column in (left, right, [verdict])]
        lines.append(f"{cells[0]:<{wide}}  {cells[1]:<{wide}}  {cells[2]}".rstrip())
    return "\n".join(lines)


def report(outcomes: Sequence[Outcome], root: Path, place: str) -> str:
    """The text that ends a run: verdicts, what is missing or failed, where everything lies, the time in all."""
    claims = merge_claims(outcomes)
    parts = [verdict_table(claims, shutil.get_terminal_size().columns)] if claims else []
    parts += [f"{o.state}: {o.name}: {o.message}" for o in outcomes if o.state != "ran"]
    named = [folder for outcome in outcomes for folder in outcome.record.get("written", [])]
    folders = [Path(folder) for folder in dict.fromkeys(named)] + [root / "runs" / "executed" / place]
    parts.append("written:\n" + "\n".join(f"    {folder}" for folder in folders if folder.exists()))
    counts = {state: sum(o.state == state for o in outcomes) for state in ("ran", "failed", "missing")}
    counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    parts.append(f"profile {place}: {counted}; {sum(o.seconds for o in outcomes):.1f} s in all")
    return "\n" + "\n\n".join(parts)
