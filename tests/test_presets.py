"""Names of checkpoints: presets load and pool as they say, and the identity of a checkpoint is its content."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from made import encoder, parallel_corpus
from test_encoder import byte_pairs, sizes, wordpiece
from test_hub_checkpoints import TEXTS as THINGS
from test_hub_checkpoints import content, labse, mt5, xlm_roberta
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel, PreTrainedModel, XLMRobertaConfig, XLMRobertaModel

from hybridlib.encoder import PRESETS, CheckpointError, Encoder, identity

TEXTS = ["which river", "which currency does it use", "Cologne"]
BERTS = ("multilingual-minilm", "mbert", "e5-small")
XLMRS = ("xlm-r-base", "e5-base", "e5-large", "bge-m3")


def tiny(name: str) -> tuple[PreTrainedModel, object]:
    """A random model of a preset's architecture, with wide weights, and a tokenizer for it."""
    words = wordpiece() if name in BERTS else byte_pairs()
    words.model_max_length = 10**30
    torch.manual_seed(1)
    if name in BERTS:
        return BertModel(BertConfig(**sizes(words)), add_pooling_layer=False).eval(), words
    if name not in XLMRS:
        return transformers.GteModel(transformers.GteConfig(**sizes(words))).eval(), words
    config = XLMRobertaConfig(max_position_embeddings=8194, **sizes(words))
    return XLMRobertaModel(config, add_pooling_layer=False).eval(), words


def by_hand(model: PreTrainedModel, words: Callable, pooling: str, prefix: str) -> torch.Tensor:
    """Each text alone, as its card pools."""
    with torch.no_grad():
        ids = [torch.tensor([words(prefix + text)["input_ids"]]) for text in TEXTS]
        states = [model(input_ids=row).last_hidden_state[0] for row in ids]
    return normalize(torch.stack([state.mean(0) if pooling == "mean" else state[0] for state in states]), dim=-1)


@pytest.mark.parametrize("name", [*BERTS, *XLMRS, "gte-multilingual-base"])
def test_a_preset_pools_prefixes_and_cuts_as_it_says(name, hub, tmp_path):
    if name.startswith("gte") and not hasattr(transformers, "GteModel"):
        pytest.skip(f"transformers {transformers.__version__} has no gte")
    preset = PRESETS[name]
    model, words = tiny(name)
    model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / ("words" if preset.tokenizer else "model"))
    hub.add("model", preset.repository, content(tmp_path / "model"))
    if preset.tokenizer:
        hub.add("model", preset.tokenizer, {**content(tmp_path / "words"), "model.safetensors": b"not asked for"})
    encoder = Encoder.load(name, device="cpu")
    settings = {key: getattr(encoder, key) for key in ("pooling", "query_prefix", "passage_prefix", "max_length")}
    assert settings == preset.settings
    for prefix in {"", preset.query_prefix, preset.passage_prefix}:
        expected = by_hand(model, words, preset.pooling, prefix)
        assert torch.allclose(encoder.encode(TEXTS, prefix=prefix), expected, atol=1e-5)
    paths = [path for _, path, *_ in hub.requests if preset.tokenizer and path.startswith(f"/{preset.tokenizer}/")]
    assert not any(path.endswith(".safetensors") for path in paths)


@pytest.mark.parametrize(("name", "make"), [("labse", labse), ("mt5-base", mt5)])
def test_labse_has_its_own_head_and_mt5_is_its_encoder(name, make, hub, tmp_path):
    expected = make(tmp_path / "model", 0)
    hub.add("model", PRESETS[name].repository, content(tmp_path / "model"))
    encoder = Encoder.load(name, max_length=24, device="cpu")
    assert (encoder.pooling, encoder.query_prefix) == (PRESETS[name].pooling, PRESETS[name].query_prefix)
    assert torch.allclose(encoder.encode(THINGS), expected, atol=1e-5)


def test_every_preset_is_tested_and_says_where_it_is_from():
    assert {*BERTS, *XLMRS, "gte-multilingual-base", "labse", "mt5-base"} == set(PRESETS)
    assert {preset.family for preset in PRESETS.values()} == {"xlm-r", "labse", None}
    assert all(preset.source and preset.choice for preset in PRESETS.values())
    paper = [name for name, preset in PRESETS.items() if preset.paper_prefixes]
    assert {(PRESETS[name].query_prefix, PRESETS[name].passage_prefix) for name in paper} == {("Query: ", "Passage: ")}


def test_parameters_take_the_presets_place_and_a_folder_too(hub, tmp_path, monkeypatch):
    model, words = tiny("xlm-r-base")
    for part in (model, words):
        part.save_pretrained(tmp_path / "model")
    first = hub.add("model", PRESETS["xlm-r-base"].repository, content(tmp_path / "model"))
    options = {"query_prefix": "", "passage_prefix": "p: ", "max_length": 30, "pooling": "cls", "revision": first}
    encoder = Encoder.load("xlm-r-base", device="cpu", **options)
    assert (encoder.query_prefix, encoder.passage_prefix, encoder.max_length) == ("", "p: ", 30)
    assert torch.allclose(encoder.encode(TEXTS), by_hand(model, words, "cls", ""), atol=1e-5)
    monkeypatch.chdir(tmp_path)
    encoder.save("xlm-r-base")
    assert Encoder.load("xlm-r-base").max_length == 30
    assert set(identity("xlm-r-base")) == {"files"}


def test_unknown_names_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = r"xlmr is not a folder here and no preset \(xlm-r-base, labse.*model xlmr at main: not in the cache"
    for call in (Encoder.load, identity):
        with pytest.raises(CheckpointError, match=message):
            call("xlmr")


# ---- identity


@pytest.mark.parametrize("name", ["tokenizer.json", "1_Pooling/config.json", "modules.json", "model.safetensors"])
def test_any_file_of_a_folder_changes_its_identity_and_its_path_does_not(tmp_path, name):
    encoder(parallel_corpus()).save(tmp_path / "saved")
    before = identity(tmp_path / "saved")
    assert json.loads(json.dumps(before)) == before == identity(str(tmp_path / "saved"))
    folder = (tmp_path / "saved").rename(tmp_path / "elsewhere")
    (folder / ".hidden").write_text("a file manager's")
    assert identity(folder) == before
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert identity(folder) != before


def test_a_commit_of_the_hub_changes_the_identity(hub, tmp_path):
    names, commits = ("owner/model", PRESETS["mbert"].repository), {}
    for seed in range(2):
        xlm_roberta(tmp_path / str(seed), seed)
        for name in names:
            commits[name, seed] = hub.add("model", name, content(tmp_path / str(seed)))
    for name, repository in zip(("owner/model", "mbert"), names, strict=True):
        assert identity(name)["commits"] == {repository: commits[repository, 1]}
        assert identity(name, commits[repository, 0])["commits"] == {repository: commits[repository, 0]}
    assert not any(path.endswith(".safetensors") for _, path, *_ in hub.requests)


def test_what_a_preset_says_changes_its_identity(hub, tmp_path, monkeypatch):
    xlm_roberta(tmp_path, 0)
    preset = PRESETS["multilingual-minilm"]
    for repository in (preset.repository, preset.tokenizer):
        hub.add("model", repository, content(tmp_path))
    before = identity("multilingual-minilm")
    assert len(before["commits"]) == 2
    for change in ({"pooling": "cls"}, {"query_prefix": "q "}, {"max_length": 99}):
        monkeypatch.setitem(PRESETS, "multilingual-minilm", replace(preset, **change))
        assert identity("multilingual-minilm") != before


def test_the_table_in_data_md_is_that_of_the_presets():
    lines = (Path(__file__).resolve().parents[1] / "DATA.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `") and line.split("`")[1] in PRESETS}
    assert set(rows) == set(PRESETS)
    for name, preset in PRESETS.items():
        shown = [preset.repository, preset.pooling, f"{preset.max_length:,}"]
        shown += [json.dumps(prefix) for prefix in (preset.query_prefix, preset.passage_prefix) if prefix]
        assert all(f"| {value} |" in rows[name] or f"`{value}`" in rows[name] for value in shown), name
