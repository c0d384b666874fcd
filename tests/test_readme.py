"""README says what the committed results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hybridlib.companion.report import claims, tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_claim_table_is_the_one_that_notebook_99_wrote():
    block = re.search(r"<!-- claims: .*? -->\n(.*?)\n<!-- end of claims -->", README, re.DOTALL)
    committed = tables.read_csv(ROOT / "results" / "demo" / "99_claims.csv")
    assert block and block.group(1) == claims.to_readme(committed)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_every_notebook_is_listed():
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert f"notebooks/{path.name}" in README


def test_committed_results_are_labelled():
    for path in (ROOT / "results" / "demo").glob("*.csv"):
        columns = set(tables.read_csv(path).columns)
        assert {"profile", "encoder", "seeds", "batch_size", "commit", "device"} <= columns, path.name
