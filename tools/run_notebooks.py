"""Run the notebooks of a profile and say what became of each claim: the program of ./run_all.sh.

Under the root folder lie the executed copies, runs/executed/<place>/NN_name.ipynb, and what a notebook's last cell
writes, runs/records/<place>/NN_name.json (see `hybridlib.companion.report.notebook`). The place is the profile, in
`colab` and `paper` with checkpoint and benchmark. Environment: HYBRIDLIB_ROOT, the root folder, and
HYBRIDLIB_NOTEBOOKS, the folder of the notebooks; by default both are the repository's.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tabulate import tabulate

import hybridlib  # noqa: F401  it sets OMP_WAIT_POLICY, which the kernels inherit

REPOSITORY = Path(__file__).resolve().parents[1]
VARIANTS = {"paper": {"checkpoint": ("xlm-r-base", "labse"), "benchmark": ("xquad-r", "mlqa-r")}}
MISSING = ("MissingRun", "NeedsAnotherProfile")  # the errors by which a notebook says that it lacks something

Values = dict[str, Any]


class UsageError(ValueError):
    """A flag, profile, notebook or parameter that is wrong: exit code 2."""


def hint(name: str, known: Collection[str]) -> str:
    """The end of a refusal: the known name nearest to a wrong one, else all of them."""
    matches = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {matches[0]}?" if matches else f"there are: {', '.join(known)}"


# ---- notebooks


@dataclass(frozen=True)
class NotebookFile:
    """What is known of a notebook without running it.

    Attributes:
        core: it runs without --all and --only: it does not stand in beyond/.
        profiles: those it is made for; empty means every one.
        cost: profile -> time, in words.
        varies: the parameters of `VARIANTS` that its results depend on.
        needs: what it needs beside the package, in words.
        parameters: names and default values of its parameters cell.
    """

    path: Path
    title: str
    core: bool
    profiles: list[str]
    cost: dict[str, str]
    varies: list[str]
    needs: str
    parameters: Values

    @property
    def name(self) -> str:
        """File name without its ending: `11_retrieval_tables`."""
        return self.path.stem

    def is_called(self, wanted: str) -> bool:
        """Whether it has that number (`4`, `04`) or name (`retrieval_tables`, a path)."""
        number, _, words = self.name.partition("_")
        if wanted.isdecimal():
            return int(number) == int(wanted)
        return Path(wanted).name.removesuffix(".ipynb") in (self.name, words)

    def split(self, given: dict[str, str]) -> tuple[Values, Values]:
        """Values given by `-p` -> the notebook's own parameters, and what goes into its dict of settings.

        UsageError: a name that has no place in either, or a value of another type than the default's.
        """
        named = given.keys() & self.parameters.keys()
        own = {name: typed(name, given[name], self.parameters[name]) for name in named}
        others = {name: literal(text) for name, text in given.items() if name not in named}
        for name in others if "settings" not in self.parameters else ():
            raise UsageError(f"-p {name}: {self.name} has no such parameter; {hint(name, self.parameters)}")
        return own, own.pop("settings", {}) | others


def read_notebook(path: Path) -> NotebookFile:
    """Read title, parameters and metadata of a notebook. UsageError names the file where it is no notebook."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        about = content["metadata"].get("hybridlib", {})
        texts = {"markdown": "", "code": ""}
        for cell in content["cells"]:
            if cell["cell_type"] == "markdown" or "parameters" in cell["metadata"].get("tags", []):
                texts[cell["cell_type"]] += "".join(cell["source"]) + "\n"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read as a notebook: {type(error).__name__}: {error}") from error
    parameters = _assignments(texts["code"], path.name)
    if "profile" not in parameters:
        raise UsageError(f"{path.name}: its parameters cell sets no `profile`")
    heading = re.search(r"^#+ *(.*)", texts["markdown"], re.MULTILINE)
    return NotebookFile(
        path=path,
        title=heading.group(1).strip() if heading else "",
        core=path.parent.name != "beyond",
        profiles=about.get("profiles", []),
        cost=about.get("cost", {}),
        varies=about.get("varies", ["checkpoint", "benchmark"]),
        needs=about.get("needs", ""),
        parameters=parameters,
    )


def _assignments(source: str, file: str) -> Values:
    """The `name = literal` lines of a parameters cell."""
    values: Values = {}
    try:
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign):
                values[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{file}: the parameters cell may hold only `name = literal` lines: {error}") from error
    return values


def find_notebooks(folder: Path) -> list[NotebookFile]:
    """All `NN_name.ipynb` of a folder and its beyond/, in the order of their names."""
    paths = [path for path in (*folder.glob("*.ipynb"), *folder.glob("beyond/*.ipynb")) if re.match(r"\d+_", path.name)]
    if not paths:
        raise UsageError(f"no notebooks (NN_name.ipynb) in {folder}")
    return [read_notebook(path) for path in sorted(paths, key=lambda path: path.name)]


def select(notebooks: Sequence[NotebookFile], only: Sequence[str], beyond: bool) -> list[NotebookFile]:
    """The notebooks asked for by number or name, else the core ones or, with `beyond`, all of them."""
    for wanted in only:
        if not any(notebook.is_called(wanted) for notebook in notebooks):
            names = [notebook.name for notebook in notebooks]
            raise UsageError(f"--only {wanted}: no such notebook; {hint(wanted, names)}")
    if only:
        return [notebook for notebook in notebooks if any(map(notebook.is_called, only))]
    return [notebook for notebook in notebooks if notebook.core or beyond]


def made_for(profile: str, chosen: Sequence[NotebookFile], only: Sequence[str]) -> list[NotebookFile]:
    """Those made for the profile; a line names the others with what they need. UsageError: one was asked for."""
    others = [notebook for notebook in chosen if notebook.profiles and profile not in notebook.profiles]
    reasons = [f"{other.name} ({other.needs or 'made for ' + ', '.join(other.profiles)})" for other in others]
    sentence = f"not in the profile {profile}: {', '.join(reasons)}"
    if only and others:
        raise UsageError(f"--only: {sentence}")
    if others:
        print(sentence)
    return [notebook for notebook in chosen if notebook not in others]


def list_notebooks(notebooks: Sequence[NotebookFile]) -> str:
    """A line per notebook: name, core or not, measured costs, the profiles it is made for, title and needs."""
    measured = sorted({profile for notebook in notebooks for profile in notebook.cost})
    rows = []
    for notebook in notebooks:
        costs = [notebook.cost.get(profile, "-") for profile in measured]
        profiles = ", ".join(notebook.profiles) or "every profile"
        title = notebook.title + (f" (needs {notebook.needs})" if notebook.needs else "")
        rows.append((notebook.name, "core" if notebook.core else "--all", *costs, profiles, title))
    headers = ("notebook", "", *measured, "made for", "title")
    return tabulate(rows, headers, tablefmt="plain", disable_numparse=True)


# ---- parameters


def literal(text: str) -> Any:
    """A Python literal, or the text itself where it is none."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def typed(name: str, text: str, default: Any) -> Any:
    """A value of the default's type: an int may stand for a float, a tuple for a list, anything for None."""
    value = literal(text)
    kinds = {float: (int, float), list: (list, tuple)}.get(type(default), type(default))
    if default is None or (isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)):
        return value
    if isinstance(default, str):
        return text
    raise UsageError(f"-p {name} {text}: expected {type(default).__name__} (the default is {default!r})")


def variants(profile: str, given: dict[str, str]) -> list[dict[str, str]]:
    """The parameters of each time that the notebooks run: once, but `paper` runs through what is not given."""
    free = {name: values for name, values in VARIANTS.get(profile, {}).items() if name not in given}
    return [given | dict(zip(free, chosen, strict=True)) for chosen in itertools.product(*free.values())]


def turns(chosen: Sequence[NotebookFile], runs: Sequence[dict[str, str]]) -> list[list[NotebookFile]]:
    """The notebooks that run each time: one that varies with the checkpoint alone runs once for each checkpoint."""
    seen: set[tuple] = set()
    result = []
    for given in runs:
        keys = {(notebook.name, *map(given.get, notebook.varies)): notebook for notebook in chosen}
        result.append([notebook for key, notebook in keys.items() if key not in seen])
        seen |= keys.keys()
    return result


def find_places(profile: str, runs: Sequence[dict[str, str]], chosen: Sequence[NotebookFile]) -> list[str]:
    """The folder name of each run's records. UsageError: the package refuses the profile or a parameter.

    The package is asked in a process of its own, since torch would stay in this one's memory while the notebooks run,
    and not at all about a profile whose cost was measured, with no parameter changed.
    """
    named, further = [], []
    for given in runs:
        pairs = [notebook.split(given) for notebook in chosen]
        named.append({name: value for own, _ in pairs for name, value in own.items()})
        further.append({name: value for _, settings in pairs for name, value in settings.items()})
    if not any(runs) and all(profile in notebook.cost for notebook in chosen):
        return [profile]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        try:
            return list(child.map(judge, [profile] * len(runs), named, further))
        except ValueError as error:
            raise UsageError(str(error)) from error


def judge(profile: str, named: Values, further: Values) -> str:
    """Resolve the settings of a run and say where its records lie.

    Args:
        named: parameters that notebooks name; those that are settings of the profile are judged.
        further: what must be settings of the profile.

    Raises:
        ValueError: no such profile or setting, or a value of the wrong kind or range; the text names it.
    """
    from hybridlib.companion.experiment import profiles

    if profile not in profiles.PROFILES:
        raise ValueError(f"--profile {profile}: no such profile; {hint(profile, profiles.PROFILES)}")
    known = profiles.names(profiles.PROFILES[profile])
    for name in further.keys() - set(known):
        raise ValueError(f"-p {name}: neither the notebooks nor the profile {profile} have it; {hint(name, known)}")
    try:
        changes = {name: value for name, value in named.items() if name in known} | further
        return profiles.resolve(profile, changes).described.folder
    except ValueError as error:
        raise ValueError(f"-p {error}") from error


# ---- running


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended: "ran", "failed" or "missing" (what it needs), with its message and its record."""

    name: str
    state: str
    seconds: float
    message: str = ""
    record: Values = field(default_factory=dict)


def prepare_kernels(folder: Path, root: Path, arguments: argparse.Namespace) -> None:
    """Make the kernel `python3` this very Python, and tell it by its environment what is asked for.

    Whatever kernels are registered on the machine, the one written into the folder is found first. The user's IPython
    start-up files and history stay out of it.
    """
    from ipykernel.kernelspec import get_kernel_dict

    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    # Its command is sys.executable. What a kernel logs about itself would cut up the progress lines; what happens in a
    # notebook stands in the executed copy.
    spec.write_text(json.dumps(get_kernel_dict(["--log-level=CRITICAL"])), encoding="utf-8")
    os.environ |= {"JUPYTER_PATH": f"{folder}", "IPYTHONDIR": f"{folder}/ipython", "HYBRIDLIB_ROOT": str(root)}
    os.environ |= {"JUPYTER_RUNTIME_DIR": f"{folder}/runtime"}
    os.environ["HYBRIDLIB_ONLY_EXISTING"] = "1" if arguments.figures else ""
    os.environ["HYBRIDLIB_FRESH"] = str(time.time()) if arguments.fresh else ""  # what is older is made again


def run_notebooks(
    notebooks: Sequence[NotebookFile], profile: str, given: dict[str, str], root: Path, place: str
) -> list[Outcome]:
    """Execute notebooks in turn, printing a progress line for each. One that fails does not stop the others.

    OSError: a folder under the root cannot be written. KeyboardInterrupt goes through when the kernel has ended.
    """
    outcomes = []
    for position, notebook in enumerate(notebooks, 1):
        print(f"[{position}/{len(notebooks)}] {notebook.name} ... ", end="", flush=True)
        own, settings = notebook.split(given)
        values = {"profile": profile, **own} | ({"settings": settings} if settings else {})
        outcomes.append(_run(notebook.path, values, root / "runs", place))
        print(_ending(outcomes[-1]), flush=True)
    return outcomes


def _run(path: Path, values: Values, folder: Path, place: str) -> Outcome:
    """Execute one notebook and read its record. What an earlier run left of either is removed first."""
    copy, record = folder / "executed" / place / path.name, folder / "records" / place / f"{path.stem}.json"
    for file in (copy, record):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
    start = time.perf_counter()
    state, message = _execute(path, values, copy)
    content = json.loads(record.read_text(encoding="utf-8")) if state == "ran" and record.exists() else {}
    return Outcome(path.stem, state, time.perf_counter() - start, message, content)


def _execute(path: Path, values: Values, copy: Path) -> tuple[str, str]:
    """Execute a notebook into a copy, which gets its name when the notebook has ended; returns state and message."""
    import papermill

    part = copy.with_suffix(".part.ipynb")
    state, message = "ran", ""
    files = [str(file).replace("{", "{{").replace("}", "}}") for file in (path, part)]  # papermill formats its paths
    options = {"kernel_name": "python3", "progress_bar": False, "start_timeout": 180}
    options["cwd"] = os.getcwd()  # so that file names in -p mean what they mean where the command is typed
    try:
        papermill.execute_notebook(*files, values, **options)
    except papermill.PapermillExecutionError as error:
        state, message = "missing", error.evalue
        if error.ename not in MISSING:
            state, message = "failed", f"cell In [{error.exec_count}]: {error.ename}: {error.evalue.strip()}"
    except Exception as error:  # a kernel that died or never started: the other notebooks still get their turn
        state, message = "failed", f"{_last_started(part)}: {type(error).__name__}: {error}"
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if part.exists():
        os.replace(part, copy)
    return state, message + (f"\n    executed copy: {copy}" if state == "failed" else "")


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
    reused, made = (outcome.record["runs"][key] for key in ("reused", "made"))
    memory = f"{outcome.record['peak_mb']:.0f} MB"
    return f"{outcome.seconds:.1f} s, {memory} (reused {reused} run{'' if reused == 1 else 's'}, made {made})"


def merge_claims(outcomes: Sequence[Outcome]) -> list[Values]:
    """The claims of all records, each once, in the order they first appear; a later notebook's word on one counts."""
    claims = (claim for outcome in outcomes for claim in outcome.record.get("claims", []))
    return list({claim["claim"]: claim for claim in claims}.values())


def verdict_table(claims: Sequence[Values], width: int) -> str:
    """Claim, what was measured, verdict: as text at most `width` (but at least 60) columns wide."""
    rows = [(claim["claim"], claim["measured"] or "-", claim["verdict"]) for claim in claims]
    verdicts = max(len(row[2]) for row in rows)
    widths = [(max(width, 60) - max(verdicts, len("verdict")) - 10) // 2] * 2 + [None]
    return tabulate(rows, ("claim", "measured", "verdict"), "grid", maxcolwidths=widths, disable_numparse=True)


def report(outcomes: Sequence[Outcome], root: Path, place: str) -> str:
    """The text that ends a run: verdicts, what is missing or failed, where everything lies, the time in all."""
    claims = merge_claims(outcomes)
    parts = [verdict_table(claims, shutil.get_terminal_size().columns)] if claims else []
    parts += [f"{outcome.state}: {outcome.name}: {outcome.message}" for outcome in outcomes if outcome.state != "ran"]
    written = [Path(folder) for outcome in outcomes for folder in outcome.record.get("written", [])]
    folders = dict.fromkeys([*written, root / "runs" / "executed" / place])
    parts.append("written:\n" + "\n".join(f"    {folder}" for folder in folders if folder.exists()))
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in ("ran", "failed", "missing")}
    counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    parts.append(f"profile {place}: {counted}; {sum(outcome.seconds for outcome in outcomes):.1f} s in all")
    return "\n" + "\n\n".join(parts)


# ---- the program


def build_parser() -> argparse.ArgumentParser:
    """The flags of run_all.sh."""
    parser = argparse.ArgumentParser(
        prog="run_all.sh",
        allow_abbrev=False,
        description="Execute the notebooks of a profile, write figures/ and results/, and say which claims hold.",
        epilog="Exit code: 0 all ran, whatever the verdicts; 1 a notebook failed, all others still ran; 2 bad flag, "
        "profile, notebook or parameter; 130 stopped by Ctrl-C. What is complete in runs/ is used again; a run that "
        "was stopped goes on where it stopped.",
    )
    add = parser.add_argument
    add("--profile", default="demo", metavar="NAME", help="smoke, demo (default), colab or paper")
    add("--only", nargs="+", action="extend", default=[], metavar="NOTEBOOK", help="by number or name: --only 04 05")
    add("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters",
        help="set a parameter of the notebooks or a setting of the profile; may be repeated")  # fmt: skip
    add("--all", action="store_true", help="also the notebooks that are not core (--list names them)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--figures", action="store_true", help="redraw from runs/, saying what is missing there")
    existing.add_argument("--fresh", action="store_true", help="make every run again, also those that are complete")
    add("--list", action="store_true", help="list the notebooks with the cost of each, and run nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the notebooks; returns the exit code (argparse leaves by SystemExit on a bad flag or --help)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    arguments = parser.parse_args(argv)
    profile, given = arguments.profile, dict(arguments.parameters)
    root = Path(os.environ.get("HYBRIDLIB_ROOT") or REPOSITORY).expanduser().resolve()
    try:
        if "profile" in given:
            raise UsageError("-p profile: use --profile NAME")
        notebooks = find_notebooks(Path(os.environ.get("HYBRIDLIB_NOTEBOOKS") or REPOSITORY / "notebooks").resolve())
        if arguments.list:
            print(list_notebooks(notebooks))
            return 0
        chosen, runs = select(notebooks, arguments.only, arguments.all), variants(profile, given)
        places = find_places(profile, runs, chosen)
        chosen = made_for(profile, chosen, arguments.only)
    except UsageError as error:
        parser.error(str(error))
    outcomes: list[Outcome] = []
    try:
        with tempfile.TemporaryDirectory(prefix="hybridlib-kernel-") as folder:
            prepare_kernels(Path(folder), root, arguments)
            for place, given, turn in zip(places, runs, turns(chosen, runs), strict=True):
                if turn:
                    if len(runs) > 1:
                        print(f"\n{place}")
                    outcomes += run_notebooks(turn, profile, given, root, place)
                    print(report(outcomes[-len(turn) :], root, place))
    except KeyboardInterrupt:
        again = shlex.join(["./run_all.sh", *(word for word in argv if word != "--fresh")])  # --fresh would begin anew
        print(f"\n\nstopped. What is complete is kept; to go on:\n    {again}", flush=True)
        return 130
    except OSError as error:
        print(f"\nerror: {error}. Make {root} writable or name another folder in HYBRIDLIB_ROOT.", file=sys.stderr)
        return 1
    return int(any(outcome.state == "failed" for outcome in outcomes))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by a scheduler: tidy up as after Ctrl-C
    sys.exit(main())
