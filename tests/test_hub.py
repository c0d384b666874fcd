"""fetch() against a stand-in hub: pinned by the first download, and clear about what a user can mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from hybridlib.files import fetch, local_or_hub, lock_file

REPO, FILE = "owner/name", "data/train.bin"
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def commit(hub):
    return hub.add("dataset", REPO, {FILE: CONTENT, "small.json": b'{"a": 1}'})


def locked() -> dict[str, str]:
    return json.loads(lock_file().read_text())["commits"]


def blobs() -> list[str]:
    return [path.name for path in Path(constants.HF_HUB_CACHE).rglob("blobs/*")]


# ---- what is pinned


def test_the_first_download_is_recorded_and_the_second_asks_nobody(hub, commit):
    path = fetch(REPO, FILE)
    assert path.read_bytes() == CONTENT and locked() == {f"datasets/{REPO}@main": commit}
    before = len(hub.requests)
    assert fetch(REPO, FILE) == path and len(hub.requests) == before


def test_a_new_version_at_the_source_is_not_taken(hub, commit):
    path = fetch(REPO, FILE)
    newer = hub.add("dataset", REPO, {FILE: CONTENT[::-1], "small.json": b"{}"})
    assert fetch(REPO, FILE).read_bytes() == CONTENT
    assert fetch(REPO, "small.json").read_bytes() == b'{"a": 1}', "another file of the same commit"
    path.resolve().unlink()
    path.unlink()
    assert fetch(REPO, FILE).read_bytes() == CONTENT, "with an empty cache too"
    assert fetch(REPO, FILE, revision=newer).read_bytes() == CONTENT[::-1]
    assert locked() == {f"datasets/{REPO}@main": commit, f"datasets/{REPO}@{newer}": newer}


def test_a_branch_of_converted_files(hub, commit):
    assert fetch(REPO, FILE, revision="refs/convert/parquet").read_bytes() == CONTENT
    assert locked() == {f"datasets/{REPO}@refs/convert/parquet": commit}


@pytest.mark.parametrize("file", [FILE, "small.json"])
def test_wrong_content_of_the_right_length_is_not_taken(hub, commit, file):
    hub.fail(file, "wrong")
    with pytest.raises(ValueError, match=f"{file}.*the hub states the checksum.*run again"):
        fetch(REPO, file)
    assert blobs() == [] and not lock_file().exists()
    hub.faults.clear()
    assert fetch(REPO, FILE).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "message"), [("{", "hub-lock.json, line 1"), ("[]", "no lock file of this version")]
)
def test_a_damaged_lock_file(hub, commit, content, message):
    lock_file().parent.mkdir(parents=True)
    lock_file().write_text(content)
    with pytest.raises(ValueError, match=message):
        fetch(REPO, FILE)


def test_a_local_copy_comes_before_the_hub(hub, commit, tmp_path, monkeypatch):
    assert local_or_hub("name/train.bin", REPO, FILE) == fetch(REPO, FILE)
    (tmp_path / "data" / "name").mkdir(parents=True)
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path / "data"))
    assert local_or_hub("name/train.bin", REPO, FILE) == fetch(REPO, FILE)
    for name in ("train.bin.gz", "train.bin"):
        (tmp_path / "data" / "name" / name).touch()
        assert local_or_hub("name/train.bin", REPO, FILE) == tmp_path / "data" / "name" / name


# ---- what is refused


def test_offline_takes_what_is_there_and_says_what_is_not(hub, commit, monkeypatch):
    path = fetch(REPO, FILE)
    lock_file().unlink()  # as with a cache that another machine has filled
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.requests)
    assert fetch(REPO, FILE) == path and locked() == {f"datasets/{REPO}@main": commit}
    with pytest.raises(FileNotFoundError, match="small.json.*not in the cache.*HF_HUB_OFFLINE"):
        fetch(REPO, "small.json")
    assert len(hub.requests) == before


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("429", ConnectionError, "check the network .*429"),
        ("500", ConnectionError, "check the network .*500"),
        ("gated", PermissionError, "accept the conditions on its page, then log in"),
    ],
)
def test_a_refusal_says_what_to_do_and_leaves_nothing(hub, commit, fault, error, message):
    hub.fail(FILE, fault)
    with pytest.raises(error, match=f"dataset {REPO}, {FILE} at main: .*{message}"):
        fetch(REPO, FILE)
    assert blobs() == [] and not lock_file().exists()


@pytest.mark.parametrize(
    ("repo", "file", "revision"), [("owner/other", FILE, None), (REPO, FILE, "v9"), (REPO, "none.json", None)]
)
def test_no_such_repository_revision_or_file(hub, commit, repo, file, revision):
    with pytest.raises(FileNotFoundError, match=f"{repo}, {file} at {revision or 'main'}.*check the names"):
        fetch(repo, file, revision=revision)
    with pytest.raises(ValueError, match="Repo id"):
        fetch("no/such/name", file)
