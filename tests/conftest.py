"""What all tests share: no network, quiet threads, deterministic property tests, the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch, transformers or a kernel is started by any test: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# Derandomised: a red test is red for everyone, on every run. No deadline: the machines of others are slower.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """A cache of the tests' own, so that none writes into the user's."""
    os.environ["HYBRIDLIB_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, $HYBRIDLIB_DATA. Skips where it is not set; a wrong one is an error."""
    value = os.environ.get("HYBRIDLIB_DATA")
    if not value:
        pytest.skip("HYBRIDLIB_DATA is not set: the real data are not at hand")
    folder = Path(value)
    assert folder.is_dir(), f"HYBRIDLIB_DATA={value} is no folder"
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for the Hugging Face hub that this process talks to, with empty caches and no waiting."""
    import time
    import types

    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http
    from standin import StandIn

    with StandIn() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        quick = types.SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
        for module in (_http, file_download):
            monkeypatch.setattr(module, "time", quick)
        monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HYBRIDLIB_DATA", raising=False)
        yield server
