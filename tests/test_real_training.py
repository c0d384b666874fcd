"""The tools of a real training, from pairs to tables, on made-up pairs and the embedded benchmark."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest
from made import pairs_file, parallel_corpus

from hybridlib import __main__ as command_line
from hybridlib.encoder import Encoder

TOOLS = Path(__file__).parents[1] / "tools"


def call(tool: str, *arguments: object) -> None:
    """Run a tool in this process."""
    spec = importlib.util.spec_from_file_location(tool, TOOLS / f"{tool}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [tool, *map(str, arguments)])
        module.main()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """An encoder from scratch, and one of each strategy trained from it and measured."""
    folder = tmp_path_factory.mktemp("real")
    pairs = pairs_file(folder / "train.jsonl", parallel_corpus())
    call("scratch_encoder", "--pairs", pairs, "--output", folder / "start", "--vocabulary", 400, "--hidden", 16)
    evaluate = ["evaluate", "--benchmark", "demo", "--languages", "de", "el", "en", "--quiet"]
    assert command_line.main([*evaluate, "--checkpoint", str(folder / "start"), "--rows", str(folder / "rows")]) == 0
    for strategy in ("x-x-mono", "hybrid", "x-y"):
        out = folder / strategy
        options = ["--validation", str(pairs), "--validate-every", "2", "--validation-batches", "1", "--steps", "4"]
        options += ["--batch-size", "8", "--learning-rate", "1e-3", "--output", str(out), "--strategy", strategy]
        assert command_line.main(["train", "--checkpoint", str(folder / "start"), "--pairs", str(pairs), *options]) == 0
        assert command_line.main([*evaluate, "--checkpoint", str(out / "encoder"), "--rows", str(out / "rows")]) == 0
    return folder


def test_an_encoder_from_scratch_knows_the_words_of_its_pairs(trained):
    encoder = Encoder.load(trained / "start")
    ids = encoder.tokenize(["deask thing7"])[0]
    assert encoder.tokenizer.unk_token_id not in ids and len(encoder.tokenizer) <= 400
    assert encoder.encode(["thing1", "thing2"]).shape == (2, 16)


def test_tables_of_a_real_training(trained, capsys):
    runs = [trained / strategy for strategy in ("x-x-mono", "hybrid", "x-y")]
    output = trained / "results" / "made"
    call("real_results", "--runs", *runs, "--start", trained / "rows", "--trained", "de", "en", "--output", output)
    quality, tests, curves = (pd.read_csv(f"{output}_{name}.csv") for name in ("quality", "tests", "curves"))
    assert set(quality["strategy"]) == {"start", "x-x-mono", "hybrid", "x-y"}
    rows = pd.read_parquet(trained / "hybrid" / "rows" / "rows.parquet")
    mono = rows[rows["setting"] == "mono"].groupby("query_lang", observed=True)["map"].mean().mean()
    chosen = quality.query("strategy == 'hybrid' and setting == 'mono' and measure == 'map' and subset == 'all'")
    assert chosen["mean"].item() == pytest.approx(mono, abs=1e-6)
    assert set(tests["b"]) == {"x-x-mono", "x-y"} and tests["p_holm"].between(0, 1).all()
    assert sorted(curves["step"].unique()) == [2, 4] and len(curves) == 6
    assert "hybrid" in capsys.readouterr().out
