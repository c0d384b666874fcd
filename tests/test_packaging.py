"""Versions agree, Colab keeps its packages, the library needs no notebook, the scripts set up what they should."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import hybridlib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
PINS = [line for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if line[:1] not in "#"]
SCRIPTS = ("run_all.sh", "run_tests.sh", "tools/venv.sh", ".ci/run")


def ranges(requirements: list[str]) -> dict[str, Requirement]:
    """Requirements by canonical name."""
    return {canonicalize_name(found.name): found for found in map(Requirement, requirements)}


# ---- versions


def test_every_line_of_the_lock_is_one_exact_pin() -> None:
    assert len(PINS) > 100
    pin = r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*( ; (python_version|sys_platform) \S+ \"\S+\")?"
    assert [line for line in PINS if not re.fullmatch(pin, line)] == []
    assert len(ranges(PINS)) == len(PINS)
    assert "torch==2.13.0" in PINS


def test_every_dependency_has_a_pin_inside_its_range() -> None:
    pins, extras = ranges(PINS), PROJECT["optional-dependencies"]
    wanted = ranges([*PROJECT["dependencies"], *extras["companion"], *extras["test"]])
    assert "companion" in wanted.pop("hybridlib").extras
    for name, requirement in wanted.items():
        assert name in pins, f"{name} has no pin in requirements.lock"
        pin = next(iter(pins[name].specifier)).version
        assert requirement.specifier.contains(pin), f"{name}: {pin} is outside {requirement.specifier}"
        assert pins[name].marker is None


def test_the_lock_is_closed_under_the_requirements_of_what_is_installed() -> None:
    """Every package that the installed ones require here is pinned too: nothing is left to the day of installation."""
    pins = ranges(PINS)
    for name, pin in pins.items():
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                label = canonicalize_name(needed.name)
                assert label in pins or label.startswith(("nvidia-", "cuda-", "triton")), f"{name} requires {text}"


def test_environment_yml_takes_torch_from_conda_and_the_rest_from_pyproject() -> None:
    *plain, pip = ENVIRONMENT["dependencies"]
    torch = ranges(PROJECT["dependencies"])["torch"]
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]
    assert plain == ["python=3.12", "pip", f"pytorch-cpu{torch.specifier}"]  # repo2docker reads `python=X.Y` only
    assert pip == {"pip": ["-e .[companion]"]}
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.12")


def test_the_version_is_said_once() -> None:
    assert PROJECT["dynamic"] == ["version"]  # setuptools reads hybridlib.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == hybridlib.__version__


# What a stock Colab runtime has, from googlecolab/backend-info at a72407924822ea377410b69f0a290150bcb5c9c2,
# pip-freeze.txt and pip-freeze.gpu.txt (2026-08-19); the second numpy is runtime 2026.07's.
COLAB = """
accelerate==1.14.0 babel==2.18.0 datasets==4.0.0 filelock==3.32.3 huggingface_hub==1.27.0 ipykernel==6.17.1
matplotlib==3.10.0 numpy==2.1.3 numpy==2.0.2 pandas==2.2.3 pyarrow==18.1.0 regex==2025.11.3 safetensors==0.8.0
scipy==1.16.3 sentence-transformers==5.7.0 tokenizers==0.22.2 torch==2.11.0 tqdm==4.67.3 transformers==5.15.0
""".split()


def test_the_ranges_admit_what_colab_has() -> None:
    wanted = ranges([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["companion"]])
    assert wanted.keys() - ranges(COLAB) == {"jupyterlab", "papermill", "psutil", "tabulate"}  # not in that list
    for name, _, version in (pin.partition("==") for pin in COLAB):
        assert wanted[canonicalize_name(name)].specifier.contains(version), f"{name} {version} would be replaced"


# ---- installing beside another torch and another numpy, without the companion's packages


def pip(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip of a virtual environment."""
    command = [python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def make_venv(folder: Path) -> tuple[Path, Path]:
    """A fresh virtual environment: its Python and its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python", next((folder / "lib").glob("python3.*")) / "site-packages"


def borrow_packages(site: Path, view: Path) -> None:
    """Show a venv the running environment's packages, but for torch, numpy and what is installed or must be lacking."""
    view.mkdir()
    lacking = r"(pip|torch|torchgen|functorch|numpy|numpy\.libs|hybridlib|_*editable.*)(-|$|\.)"
    lacking += "|jupyterlab|papermill|ipykernel|matplotlib|babel|tabulate"
    here = Path(importlib.metadata.distribution("torch").locate_file("")).resolve()
    for entry in here.iterdir():
        if not re.match(lacking, entry.name.lower()):
            (view / entry.name).symlink_to(entry)
    (site / "borrowed.pth").write_text(f"{view}\n", encoding="utf-8")


def borrow_torch(site: Path, version: str) -> None:
    """Install torch under another version number: the same files by links, a dist-info of our own."""
    installed = importlib.metadata.distribution("torch")
    here = Path(installed.locate_file("")).resolve()
    for name in ("torch", "torchgen", "functorch"):
        if (here / name).exists():
            (site / name).symlink_to(here / name)
    info = site / f"torch-{version}.dist-info"
    info.mkdir()
    metadata = installed.read_text("METADATA") or ""
    other = metadata.replace(f"\nVersion: {installed.version}\n", f"\nVersion: {version}\n")
    (info / "METADATA").write_text(other, encoding="utf-8")
    (info / "RECORD").write_text("", encoding="utf-8")
    (info / "INSTALLER").write_text("pip\n", encoding="utf-8")


def other_versions() -> tuple[str, str]:
    """A torch version and a numpy requirement that lie in pyproject's ranges and differ from what is installed."""
    wanted = ranges(PROJECT["dependencies"])
    torch = next(v for v in ("2.12.1", "2.11.0") if not importlib.metadata.version("torch").startswith(v))
    assert wanted["torch"].specifier.contains(torch)
    numpy = Version(importlib.metadata.version("numpy"))
    return torch, f"numpy{wanted['numpy'].specifier},<{numpy.major}.{numpy.minor}"


def copy_package(folder: Path) -> Path:
    """What is needed to build the package; pip leaves build folders in the source tree it is given."""
    shutil.copytree(ROOT / "hybridlib", folder / "hybridlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


IMPORT_ALL = """
import importlib, importlib.metadata, importlib.util, pathlib, numpy, torch, hybridlib
assert not [name for name in ("babel", "ipykernel", "matplotlib", "papermill") if importlib.util.find_spec(name)]
folder = pathlib.Path(hybridlib.__file__).parent
for path in sorted(folder.rglob("*.py")):
    parts = path.relative_to(folder).with_suffix("").parts
    if parts[0] not in ("companion", "__main__"):
        importlib.import_module(".".join(["hybridlib", *parts]).removesuffix(".__init__"))
torch.tensor([1.0]).numpy()
print(importlib.metadata.version("torch"), numpy.__version__, hybridlib.__file__)
"""


def test_installing_replaces_neither_torch_nor_numpy_and_needs_no_notebook(tmp_path: Path) -> None:
    """A plain `pip install` beside a torch and a numpy of other versions inside the ranges; the library imports then.

    numpy really is another release, from the registry. Another build of torch would be gigabytes: here torch is the
    running environment's files under a dist-info with another version number, so that what pip decides is tested, not
    whether our code works with that release. All other packages are the running environment's.
    """
    python, site = make_venv(tmp_path / "venv")
    torch, numpy = other_versions()
    done = pip(python, "install", "--only-binary=:all:", "--retries=1", numpy)
    if done.returncode and re.search("Retrying|Connection|Temporary failure|timed out", done.stderr):
        pytest.skip(f"the package registry cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    borrow_packages(site, tmp_path / "view")
    borrow_torch(site, torch)
    before = set(pip(python, "freeze").stdout.split("\n"))
    done = pip(python, "install", str(copy_package(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert "Successfully installed hybridlib" in done.stdout
    changed = before ^ set(pip(python, "freeze").stdout.split("\n"))
    assert [line.split()[0] for line in changed] == ["hybridlib"]
    seen = subprocess.run([python, "-I", "-c", IMPORT_ALL], capture_output=True, text=True)
    assert seen.returncode == 0, seen.stderr
    shown, number, where = seen.stdout.split()
    assert shown == torch
    assert number != importlib.metadata.version("numpy")
    assert Path(where).is_relative_to(site)


# ---- the scripts


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse_and_use_only_what_old_bash_and_bsd_have(script: str) -> None:
    text = (ROOT / script).read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    newer = r"mapfile|readarray|declare -[Ag]|local -n|\$\{\w+(,|\^|@)|&>>|\|&|coproc|;;&|;&|\$EPOCH|wait -n|\[\[ -v"
    not_bsd = r"readlink -f|sed -i|sha256sum|realpath|\bgrep -P|date -d|stat -c|mktemp --|timeout |\bsort -V|nproc"
    assert re.findall(rf"{newer}|{not_bsd}", code) == []
    assert not re.search(r"\$\{\w+\[@\]\}", code), "arrays: an empty one is an error under `set -u` in bash 3.2"
    if script != "tools/venv.sh":
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "\nset -eu\n" in text
        assert os.access(ROOT / script, os.X_OK)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    command = ["shellcheck", "-s", "bash", "-e", "SC1091", *SCRIPTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == ""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The scripts in a folder with a space in its name, without a .venv."""
    folder = tmp_path / "a clone"
    for name in ("run_all.sh", "run_tests.sh", "tools/venv.sh"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_help_of_the_tests_installs_nothing(clone: Path, tmp_path: Path) -> None:
    done = subprocess.run([clone / "run_tests.sh", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "usage: ./run_tests.sh" in done.stdout
    assert not (clone / ".venv").exists()


def test_without_a_new_enough_python_the_script_says_so(clone: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "env"):
        (tools / name).symlink_to(shutil.which(name) or name)
    (tools / "python3").write_text("#!/usr/bin/env bash\nexit 1\n")
    (tools / "python3").chmod(0o755)
    done = subprocess.run([clone / "run_all.sh"], env={"PATH": str(tools)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no Python >= 3.11" in done.stderr
    named = subprocess.run(
        [clone / "run_all.sh"], env={"PATH": str(tools), "HYBRIDLIB_PYTHON": "python9"}, capture_output=True, text=True
    )
    assert named.returncode == 1
    assert "HYBRIDLIB_PYTHON=python9 is no Python" in named.stderr


# What stands in for the real packages: two empty wheels, and a project that builds itself without setuptools.
BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/hybridlib-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("hybridlib.pth", __file__.rpartition("/")[0])
        wheel.writestr("hybridlib-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: hybridlib\\nVersion: 1\\n")
        wheel.writestr("hybridlib-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr("hybridlib-1.dist-info/RECORD", "")
    return "hybridlib-1-py3-none-any.whl"
"""


def fake_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel with one empty module."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def set_up(clone: Path, wheels: Path) -> subprocess.CompletedProcess[str]:
    """Call prepare_venv as the scripts do, with pip confined to a folder of wheels."""
    script = 'set -eu; ROOT="$1"; . "$ROOT/tools/venv.sh"; find_python; prepare_venv; "$VENV/bin/python" -m pip freeze'
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels.as_uri(), "PIP_CONFIG_FILE": os.devnull}
    environment |= {"HYBRIDLIB_PYTHON": sys.executable}
    return subprocess.run(["bash", "-c", script, "x", clone], env=environment, capture_output=True, text=True)


def test_set_up_installs_once_and_repairs_what_was_cut_short(clone: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, version in (("torch", "1.0"), ("papermill", "1.0"), ("papermill", "2.0")):
        fake_wheel(wheels, name, version)
    (clone / "hybridlib").mkdir()
    (clone / "hybridlib" / "__init__.py").touch()
    (clone / "backend.py").write_text(BACKEND)
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (clone / "pyproject.toml").write_text(system)
    lock = clone / "requirements.lock"
    lock.write_text("papermill==1.0\ntorch==1.0\n")

    (clone / ".venv").mkdir()  # half-made: no Python in it
    first = set_up(clone, wheels)
    assert first.returncode == 0, first.stderr
    assert "not complete, making it again" in first.stdout
    installed = re.findall(r"Successfully installed (\S+)", first.stdout)
    assert installed == ["torch-1.0", "papermill-1.0", "hybridlib-1"]
    assert "set-up" not in set_up(clone, wheels).stdout  # the second call finds all in place

    lock.write_text("papermill==2.0\ntorch==1.0\n")
    changed = set_up(clone, wheels)
    assert "making" not in changed.stdout
    assert "papermill==2.0" in changed.stdout

    lock.write_text("papermill==9.0\ntorch==1.0\n")
    failed = set_up(clone, wheels)
    assert failed.returncode == 1
    assert "No matching distribution found for papermill==9.0" in failed.stderr
    assert "pip could not install" in failed.stderr

    mark = clone / ".venv" / "hybridlib-unfinished"
    mark.write_text(f"{os.getpid()}\n")  # as if another set-up were at work
    assert f"is running (process {os.getpid()})" in set_up(clone, wheels).stderr
    mark.write_text("999999999\n")
    lock.write_text("papermill==2.0\ntorch==1.0\n")
    mended = set_up(clone, wheels)
    assert "not complete, making it again" in mended.stdout
    assert "papermill==2.0" in mended.stdout
