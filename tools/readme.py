"""Write README.md's table of claims from what notebook 14 found in the profile demo: python tools/readme.py"""

from __future__ import annotations

import re
from pathlib import Path

from hybridlib.companion.report import claims, tables
from hybridlib.files import replace_file

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = ROOT / "results" / "demo" / "14_claims.csv"
BLOCK = re.compile(r"(<!-- claims: [^\n]* -->\n).*?(\n<!-- end of claims -->)", re.DOTALL)


def with_claims(text: str) -> str:
    """The text of README.md with the table of claims that the results in git give."""
    table = claims.to_readme(tables.read_csv(CLAIMS))
    return BLOCK.sub(lambda block: block[1] + table + block[2], text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    with replace_file(readme) as part:
        part.write_text(with_claims(readme.read_text(encoding="utf-8")), encoding="utf-8")
