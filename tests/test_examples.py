"""The examples run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from made import encoder, parallel_corpus

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *options: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, options)]
    ran = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_dataloader():
    steps = re.findall(r"step \d+ +(\S+) +loss (\S+)", run("dataloader.py", "--steps", 12))
    assert len(steps) == 12
    assert {mode for mode, _ in steps} == {"x-x-mono", "x-y"}
    assert float(steps[-1][1]) < float(steps[0][1])


def test_sentence_transformers_trainer(tmp_path):
    from sentence_transformers import SentenceTransformer

    encoder(parallel_corpus(), layers=1).save(tmp_path / "start")
    options = ("--checkpoint", tmp_path / "start", "--output", tmp_path / "out", "--steps", 3)
    assert run("sentence_transformers_trainer.py", *options).count("'loss'") == 3
    before, after = (SentenceTransformer(str(tmp_path / name), device="cpu") for name in ("start", "out/encoder"))
    assert after.prompts["query"] == "Query: "
    assert abs(after.encode("thing1") - before.encode("thing1")).max() > 0
