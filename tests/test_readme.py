"""README says what the committed results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import readme

from hybridlib.companion.report import tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_claim_table_is_the_one_that_notebook_14_wrote():
    assert readme.BLOCK.search(README)
    assert README == readme.with_claims(README), "write it again: python tools/readme.py"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_every_notebook_is_listed():
    for path in (ROOT / "notebooks").rglob("[0-9]*.ipynb"):
        assert str(path.relative_to(ROOT)) in README


def test_committed_results_say_what_they_are_of_and_change_only_with_a_number():
    for path in (ROOT / "results" / "demo").glob("*.csv"):
        columns = set(tables.read_csv(path).columns)
        assert {"profile", "encoder", "seeds", "batch_size"} <= columns, path.name
        assert not {"commit", "device"} & columns, path.name
