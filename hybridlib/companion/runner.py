"""The flags of run_all.sh: which notebooks run, in which profile, with which parameters.

`companion.execution` then runs them. This module imports only the standard library, so that run_all.sh can have its
flags judged by any Python before it installs anything (`--check-flags`).

Exit codes: 0 all ran, whatever the verdicts; 1 a notebook failed, all others still ran; 2 bad flag, profile, notebook
or parameter; 130 stopped by Ctrl-C. Environment: HYBRIDLIB_ROOT, the folder that holds runs/, figures/ and results/
(default: the repository); HYBRIDLIB_NOTEBOOKS, the folder of the notebooks (default: the repository's).
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
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL, LARGE = ("smoke", "demo"), ("colab", "paper")
PROFILES = (*SMALL, *LARGE)
VARIANTS = {
    "paper": {"checkpoint": ("xlm-r-base", "labse"), "benchmark": ("xquad-r", "mlqa-r")}
}  # what `paper` runs through
GO_ON = 3  # exit code of --check-flags: nothing is wrong and there is something to run


class UsageError(ValueError):
    """A flag, profile, notebook or parameter that is wrong: exit code 2."""


@dataclass(frozen=True)
class Notebook:
    """One notebook file: what can be known of it without running it."""

    path: Path
    title: str
    core: bool
    profiles: list[str]
    cost: dict[str, str]
    varies: list[str]
    needs: str
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        """File name without its ending: `04_retrieval`."""
        return self.path.stem

    @property
    def number(self) -> str:
        """The digits the name begins with: `04`."""
        return self.name.split("_")[0]


# ---- reading notebooks


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def _literals(source: str, where: str) -> dict[str, Any]:
    """The assignments `name = literal` of a parameters cell."""
    found: dict[str, Any] = {}
    try:
        for node in ast.parse(source).body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                found[ast.unparse(target)] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{where}: the parameters cell may hold only `name = literal` lines: {error}") from error
    return found


def read_notebook(path: Path) -> Notebook:
    """Read title, parameters and costs of a notebook. UsageError names the file where it is no notebook."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = [(cell["cell_type"], cell["metadata"].get("tags", []), _source(cell)) for cell in content["cells"]]
        own = content["metadata"].get("hybridlib", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read as a notebook: {type(error).__name__}: {error}") from error
    headings = (line for kind, _, text in cells if kind == "markdown" for line in text.splitlines())
    title = next((line.lstrip("# ").strip() for line in headings if line.startswith("#")), "")
    parameters: dict[str, Any] = {}
    for kind, tags, text in cells:
        if kind == "code" and "parameters" in tags:
            parameters.update(_literals(text, path.name))
    about = (own.get("core", True), own.get("profiles", list(PROFILES)), own.get("cost", {}))
    about += (own.get("varies", ["checkpoint", "benchmark"]),)
    return Notebook(path, title, *about, str(own.get("needs") or ""), parameters)


def find_notebooks(folder: Path) -> list[Notebook]:
    """All `NN_name.ipynb` of a folder, in the order of their names."""
    paths = sorted(path for path in folder.glob("*.ipynb") if re.match(r"\d+_", path.name))
    if not paths:
        raise UsageError(f"no notebooks (NN_name.ipynb) in {folder}")
    return [read_notebook(path) for path in paths]


# ---- flags


def _profile(text: str) -> str:
    if text not in PROFILES:
        raise argparse.ArgumentTypeError(f"unknown profile {text!r}; there are: {', '.join(PROFILES)}")
    return text


def build_parser() -> argparse.ArgumentParser:
    """The flags of run_all.sh."""
    parser = argparse.ArgumentParser(
        prog="run_all.sh",
        allow_abbrev=False,
        description="Execute the notebooks of a profile, write figures/ and results/, and say which claims hold.",
        epilog="Exit code: 0 all ran, whatever the verdicts; 1 a notebook failed; 2 bad flag, profile, notebook or "
        "parameter. What is complete in runs/ is used again; a run that was stopped goes on where it stopped.",
    )
    add = parser.add_argument
    add("--profile", type=_profile, default="demo", metavar="NAME", help="smoke, demo (default), colab or paper")
    add("--only", nargs="+", action="extend", metavar="NOTEBOOK", help="only these, by number or name: --only 04 05")
    add("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters",
        help="set a parameter of the notebooks; may be repeated")  # fmt: skip
    add("--all", action="store_true", help="also the notebooks that are not core (--list names them)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--figures", action="store_true", help="redraw from runs/, saying what is missing there")
    existing.add_argument("--fresh", action="store_true", help="make every run again, also those that are complete")
    add("--plan", action="store_true", help="say what would run, be fetched and cost, and run nothing")
    add("--list", action="store_true", help="list the notebooks with the cost of each, and run nothing")
    add("--check-flags", action="store_true", help=argparse.SUPPRESS)
    return parser


def select(notebooks: list[Notebook], only: list[str] | None, everything: bool, profile: str) -> list[Notebook]:
    """The notebooks to run: those named by number (`4`, `04`) or name (`retrieval`, `04_retrieval`), else the core."""
    if not only:
        chosen = [n for n in notebooks if (n.core or everything) and profile in n.profiles]
        if not chosen:
            raise UsageError("none of the notebooks is core: add --all or --only")
        return chosen
    chosen = set()
    for wanted in only:
        matches = {notebook.name for notebook in notebooks if _is_named(notebook, wanted)}
        if not matches:
            known = ", ".join(notebook.name for notebook in notebooks)
            raise UsageError(f"--only {wanted}: no such notebook; there are: {known}")
        chosen |= matches
    for notebook in notebooks:
        if notebook.name in chosen and profile not in notebook.profiles:
            raise UsageError(f"--only: {notebook.name} is made for the profiles {', '.join(notebook.profiles)}")
    return [notebook for notebook in notebooks if notebook.name in chosen]


def _is_named(notebook: Notebook, wanted: str) -> bool:
    if wanted.isdecimal():
        return int(notebook.number) == int(wanted)
    return Path(wanted).name.removesuffix(".ipynb") in (notebook.name, notebook.name.partition("_")[2])


def check_parameters(pairs: list[list[str]], notebooks: list[Notebook]) -> dict[str, Any]:
    """Turn `-p NAME VALUE` pairs into values, checked against the parameters cell of every notebook that will run.

    A value is read as a Python literal where it is one; where the default is a string it is taken as it stands.
    UsageError: a name that some notebook does not have (the nearest known one is named) or a value of another type than
    the default's (a default of None takes anything).
    """
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name == "profile":
            raise UsageError("-p profile: use --profile NAME")
        for notebook in notebooks:
            if name not in notebook.parameters:
                near = difflib.get_close_matches(name, notebook.parameters, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(notebook.parameters))}"
                raise UsageError(f"-p {name}: {notebook.name} has no such parameter; {hint}")
            values[name] = _parse_value(name, text, notebook.parameters[name])
    for notebook in notebooks:
        if "profile" not in notebook.parameters:
            raise UsageError(f"{notebook.path.name}: its parameters cell sets no `profile`")
    return values


def literal(text: str) -> Any:
    """A Python literal, or the text itself where it is none."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _parse_value(name: str, text: str, default: Any) -> Any:
    value = literal(text)
    if default is None or _same_kind(value, default):
        return value
    if isinstance(default, str):
        return text
    raise UsageError(f"-p {name} {text}: expected {type(default).__name__} (the default is {default!r})")


def _same_kind(value: Any, default: Any) -> bool:
    """Same type; an int may stand for a float and a tuple for a list, but no bool for a number."""
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, (list, tuple)):
        return isinstance(value, (list, tuple))
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))


def list_notebooks(notebooks: Sequence[Notebook]) -> str:
    """One line per notebook: number, name, core or not, cost in the small profiles, is it in the large ones, title."""
    rows = [("", "notebook", "", *SMALL, ", ".join(LARGE), "title")]
    for notebook in notebooks:
        costs = [notebook.cost.get(profile, "not measured") for profile in SMALL]
        costs.append("--plan" if set(LARGE) <= set(notebook.profiles) else "-")
        title = notebook.title + (f" (needs {notebook.needs})" if notebook.needs else "")
        rows.append((notebook.number, notebook.name, "core" if notebook.core else "--all", *costs, title))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{text:<{w}}" for text, w in zip(row, widths, strict=True)).rstrip() for row in rows)


# ---- the program


def _environment(root: Path, arguments: argparse.Namespace) -> dict[str, str | None]:
    """What the notebooks find in their environment; None: not set. Runs older than HYBRIDLIB_FRESH are made anew."""
    return {
        "HYBRIDLIB_ROOT": str(root),
        "HYBRIDLIB_ONLY_EXISTING": "1" if arguments.figures else None,
        "HYBRIDLIB_FRESH": str(time.time()) if arguments.fresh else None,
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }


def _again(argv: Sequence[str]) -> str:
    """The command that goes on after Ctrl-C: the same, but --fresh would throw away what was made."""
    return shlex.join(["./run_all.sh", *(word for word in argv if word != "--fresh")])


def variants(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The values of each time that the notebooks run: once, but `paper` runs through what is not set."""
    free = {n: options for n, options in VARIANTS.get(values["profile"], {}).items() if values.get(n) is None}
    return [values | dict(zip(free, chosen, strict=True)) for chosen in itertools.product(*free.values())]


def turns(chosen: Sequence[Notebook], runs: Sequence[dict[str, Any]]) -> list[list[Notebook]]:
    """The notebooks that run each time: one that varies with the checkpoint alone runs once for each checkpoint."""
    seen, result = set(), []
    for values in runs:
        keys = {(n.name, *(values.get(name) for name in n.varies)): n for n in chosen}
        result.append([notebook for key, notebook in keys.items() if key not in seen])
        seen |= keys.keys()
    return result


def _study(values: dict[str, Any], root: Path) -> Any:
    """The study of these values, ValueError if there can be none; a notebook's own parameters are its own business."""
    from dataclasses import fields

    from hybridlib.companion.experiment import embedded_study

    known = {field.name for profile in embedded_study.PROFILES.values() for field in fields(profile)} | {"more"}
    return embedded_study.study(root=root, **{name: value for name, value in values.items() if name in known})


def _run(chosen: list[Notebook], values: dict[str, Any], arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    from hybridlib.companion import execution

    root = Path(os.environ.get("HYBRIDLIB_ROOT") or REPOSITORY).expanduser().resolve()
    runs = variants(values)
    known = not (arguments.parameters or arguments.plan or arguments.profile in LARGE)  # spares importing torch
    try:
        studies = [] if known else [_study(variant, root) for variant in runs]
    except ValueError as error:
        print(f"error: -p {error}", file=sys.stderr)
        return 2
    if arguments.plan:
        from hybridlib.companion.plan import describe

        print("\n".join(describe(studies, [notebook.name for notebook in chosen])))
        return 0
    outcomes, places = [], [study.place for study in studies] or [arguments.profile]
    try:
        with execution.kernel_environment(_environment(root, arguments)):
            for variant, place, notebooks in zip(runs, places, turns(chosen, runs), strict=True):
                if not notebooks:
                    continue
                if len(places) > 1:
                    print(f"\n{place}")
                outcomes += execution.run_all([n.path for n in notebooks], variant, root, place)
                print(execution.report(outcomes[-len(notebooks) :], root, place))
    except KeyboardInterrupt:
        print(f"\n\nstopped. What is complete is kept; to go on:\n    {_again(argv)}", flush=True)
        return 130
    except OSError as error:
        print(f"\nerror: {error}. Make {root} writable or name another folder in HYBRIDLIB_ROOT.", file=sys.stderr)
        return 1
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


def main(argv: Sequence[str] | None = None, notebooks: Path | None = None) -> int:
    """Run the notebooks of a folder; returns the exit code (argparse leaves by SystemExit on a bad flag or --help)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    arguments = parser.parse_args(argv)
    folder = Path(notebooks or os.environ.get("HYBRIDLIB_NOTEBOOKS") or REPOSITORY / "notebooks").resolve()
    try:
        found = find_notebooks(folder)
        chosen = select(found, arguments.only, arguments.all, arguments.profile)
        values = {"profile": arguments.profile, **check_parameters(arguments.parameters, chosen)}
    except UsageError as error:
        parser.error(str(error))
    if arguments.list:
        print(list_notebooks(found))
        return 0
    return GO_ON if arguments.check_flags else _run(chosen, values, arguments, argv)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by a scheduler: tidy up as after Ctrl-C
    sys.exit(main())
