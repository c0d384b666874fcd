"""fetch() against a stand-in hub: pinned by the first download, and clear about everything that goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

from hybridlib.files import fetch, lock_file

REPO, FILE = "owner/name", "data/train.bin"
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def commit(hub):
    return hub.add("dataset", REPO, {FILE: CONTENT, "small.json": b'{"a": 1}'})


def locked() -> dict:
    return json.loads(lock_file().read_text())["files"]


def blobs() -> list[str]:
    return [path.name for path in Path(constants.HF_HUB_CACHE).rglob("blobs/*")]


# ---- what is pinned


def test_the_first_download_is_recorded_and_the_second_asks_nobody(hub, commit):
    path = fetch(REPO, FILE)
    assert path.read_bytes() == CONTENT
    entry = {"revision": commit, "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert locked() == {f"datasets/{REPO}@main/{FILE}": entry}
    asked = len(hub.requests)
    assert fetch(REPO, FILE) == path and len(hub.requests) == asked


def test_a_new_version_at_the_source_is_not_taken(hub, commit):
    fetch(REPO, FILE)
    newer = hub.add("dataset", REPO, {FILE: CONTENT[::-1]})
    assert fetch(REPO, FILE).read_bytes() == CONTENT
    assert fetch(REPO, FILE, revision=newer).read_bytes() == CONTENT[::-1]
    assert {entry["revision"] for entry in locked().values()} == {commit, newer}


def test_the_cache_may_be_emptied_and_the_pinned_version_comes_again(hub, commit):
    path = fetch(REPO, FILE)
    hub.add("dataset", REPO, {FILE: CONTENT[::-1]})
    path.resolve().unlink()
    path.unlink()
    assert fetch(REPO, FILE).read_bytes() == CONTENT


def test_a_small_file_is_checked_too(hub, commit):
    assert fetch(REPO, "small.json").read_bytes() == b'{"a": 1}'
    assert locked()[f"datasets/{REPO}@main/small.json"]["revision"] == commit


def test_a_branch_of_converted_files(hub, commit):
    assert fetch(REPO, FILE, revision="refs/convert/parquet").read_bytes() == CONTENT
    assert list(locked()) == [f"datasets/{REPO}@refs/convert/parquet/{FILE}"]


def test_damage_in_the_cache_is_noticed_and_mended(hub, commit):
    path = fetch(REPO, FILE)
    path.resolve().write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ValueError, match=f"{FILE}.*the hub states the checksum.*removed there: run again"):
        fetch(REPO, FILE)
    assert fetch(REPO, FILE).read_bytes() == CONTENT


def test_a_lock_that_says_something_else_names_file_and_entry(hub, commit):
    fetch(REPO, FILE)
    content = json.loads(lock_file().read_text())
    content["files"][f"datasets/{REPO}@main/{FILE}"]["sha256"] = "0" * 64
    lock_file().write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"(?s){FILE}.*sha256.*hub-lock.json.*remove the entry 'datasets/{REPO}@main"):
        fetch(REPO, FILE)


def test_a_damaged_lock_file(hub, commit):
    lock_file().parent.mkdir(parents=True)
    lock_file().write_text("{")
    with pytest.raises(ValueError, match="hub-lock.json, line 1"):
        fetch(REPO, FILE)
    lock_file().write_text("[]")
    with pytest.raises(ValueError, match="no lock file of this package"):
        fetch(REPO, FILE)


def test_a_disk_without_links_is_pinned_as_well(hub, commit, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    path = fetch(REPO, FILE)
    assert not path.is_symlink() and locked()[f"datasets/{REPO}@main/{FILE}"]["revision"] == commit
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(ValueError, match=f"sha256 is .*records.*remove {path} and run again"):
        fetch(REPO, FILE)
    path.unlink()
    assert fetch(REPO, FILE).read_bytes() == CONTENT


# ---- without the hub


def test_offline_takes_what_is_there_and_says_what_is_not(hub, commit, monkeypatch):
    path = fetch(REPO, FILE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert fetch(REPO, FILE) == path
    with pytest.raises(FileNotFoundError, match="small.json.*not in the cache.*HF_HUB_OFFLINE"):
        fetch(REPO, "small.json")
    assert len(hub.requests) == asked


def test_a_cache_filled_elsewhere_is_used_offline(hub, commit, monkeypatch):
    path = fetch(REPO, FILE)
    lock_file().unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(REPO, FILE) == path
    assert locked()[f"datasets/{REPO}@main/{FILE}"]["revision"] == commit


def test_nobody_listens(hub, commit, monkeypatch):
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    with pytest.raises(ConnectionError, match=f"{FILE}.*check the network and HF_ENDPOINT"):
        fetch(REPO, FILE)


# ---- what a hub may answer

REFUSALS = {
    "404": (FileNotFoundError, "no such file at this revision"),
    "429": (ConnectionError, r"fewer requests \(429\); wait some minutes"),
    "500": (ConnectionError, r"the hub has failed \(500\).*run again later"),
    "403": (PermissionError, "refuses access.*hf auth login"),
    "gated": (PermissionError, f"Accept the conditions at .*/datasets/{REPO}, then log in"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_refusal_says_what_to_do_and_leaves_nothing(hub, commit, fault):
    error, message = REFUSALS[fault]
    hub.fail(FILE, fault)
    with pytest.raises(error, match=f"dataset {REPO}, {FILE} at main: .*{message}"):
        fetch(REPO, FILE)
    assert blobs() == [] and not lock_file().exists()
    hub.faults.clear()
    assert fetch(REPO, FILE).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["429", "500"])
def test_a_passing_failure_passes(hub, commit, fault):
    hub.fail(FILE, fault, times=3)
    assert fetch(REPO, FILE).read_bytes() == CONTENT


def test_no_such_repository_or_revision(hub, commit):
    with pytest.raises(FileNotFoundError, match="there is no .*/datasets/owner/other, or it is private"):
        fetch("owner/other", FILE)
    with pytest.raises(FileNotFoundError, match="no such revision"):
        fetch(REPO, FILE, revision="v9")
    with pytest.raises(ValueError, match="Repo id"):
        fetch("no/such/name", FILE)


# ---- connections


def test_a_cut_download_goes_on_where_it_was_cut(hub, commit, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 512)  # else 10 MB: what is less starts anew
    hub.fail(FILE, "cut", times=3)  # the first is the HEAD, which has nothing to cut
    assert fetch(REPO, FILE).read_bytes() == CONTENT
    ranges = [wanted for method, _, wanted in hub.requests if method == "GET"]
    assert ranges == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) * 3 // 4}-"]


def test_a_download_cut_every_time_leaves_nothing_and_can_be_repeated(hub, commit):
    hub.fail(FILE, "cut")
    with pytest.raises(ConnectionError, match=f"{FILE}.*the download failed.*run again, no damaged part is kept"):
        fetch(REPO, FILE)
    assert blobs() == [] and not lock_file().exists()
    hub.faults.clear()
    assert fetch(REPO, FILE).read_bytes() == CONTENT


def test_wrong_content_of_the_right_length_is_not_taken(hub, commit):
    hub.fail(FILE, "wrong")
    with pytest.raises(ValueError, match=f"{FILE}.*the hub states the checksum.*run again"):
        fetch(REPO, FILE)
    assert blobs() == [] and not lock_file().exists()
    hub.faults.clear()
    assert fetch(REPO, FILE).read_bytes() == CONTENT


def test_a_silent_hub(hub, commit, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.05)
    monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", 0.05)
    hub.fail(FILE, "slow")
    with pytest.raises(ConnectionError, match="Timeout.*check the network"):
        fetch(REPO, FILE)
    hub.release.set()


def test_a_download_that_falls_silent_goes_on(hub, commit, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 512)
    hub.fail(FILE, "stalled", times=2)  # the first is the HEAD
    assert fetch(REPO, FILE).read_bytes() == CONTENT
    assert hub.requests[-1] == ("GET", f"/datasets/{REPO}/resolve/main/{FILE}", f"bytes={len(CONTENT) // 2}-")


# ---- the environment, as a user sets it


def test_datasets_reads_the_same_repository(hub, tmp_path):
    """A source that needs no script: what fetch() brings, `datasets` loads by the repository's name."""
    hub.add("dataset", REPO, {"data/train.jsonl": b'{"question": "Who?", "answer": "She."}\n', "README.md": b""})
    program = (
        "import datasets, hybridlib.files as hub\n"
        f"print(datasets.load_dataset({REPO!r}, split='train').to_list(), hub.fetch({REPO!r}, 'data/train.jsonl').name)"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[{'question': 'Who?', 'answer': 'She.'}] train.jsonl"
