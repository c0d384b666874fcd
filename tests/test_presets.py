"""Presets: each loads from its repository's layout and computes what transformers does by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_encoder import byte_pairs, wordpiece
from test_hub_checkpoints import FAMILIES, LANGUAGES, content
from test_hub_checkpoints import TEXTS as THINGS
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel, GteConfig, GteModel, PreTrainedModel, XLMRobertaConfig, XLMRobertaModel

from hybridlib import encoder_presets
from hybridlib.encoder import Encoder
from hybridlib.encoder_checkpoint import CheckpointError
from hybridlib.encoder_presets import PRESETS, load_preset

TEXTS = ["which river", "which currency does it use", "Cologne"]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def tiny(architecture: str) -> tuple[PreTrainedModel, object]:
    """A random model with wide weights, and a tokenizer for it."""
    words = wordpiece() if architecture == "bert" else byte_pairs()
    words.model_max_length = 10**30
    about = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "initializer_range": 0.2, **SHAPE}
    torch.manual_seed(1)
    if architecture == "bert":
        return BertModel(BertConfig(**about), add_pooling_layer=False).eval(), words
    if architecture == "gte":
        return GteModel(GteConfig(**about)).eval(), words
    return XLMRobertaModel(
        XLMRobertaConfig(max_position_embeddings=8194, **about), add_pooling_layer=False
    ).eval(), words


def by_hand(model: PreTrainedModel, words: Callable, pooling: str, prefix: str) -> torch.Tensor:
    """Each text alone, as its card pools."""
    with torch.no_grad():
        ids = [torch.tensor([words(prefix + text)["input_ids"]]) for text in TEXTS]
        states = [model(input_ids=one).last_hidden_state[0] for one in ids]
    return normalize(torch.stack([one.mean(0) if pooling == "mean" else one[0] for one in states]), dim=-1)


PLAIN = [name for name, preset in PRESETS.items() if preset.architecture in ("bert", "xlm-roberta", "gte")]


@pytest.mark.parametrize("name", [name for name in PLAIN if PRESETS[name].pooling != "pooler"])
def test_a_preset_pools_prefixes_and_cuts_as_it_says(name, hub, tmp_path):
    preset = PRESETS[name]
    model, words = tiny(preset.architecture)
    model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / ("words" if preset.tokenizer else "model"))
    hub.add("model", preset.repository, content(tmp_path / "model"))
    if preset.tokenizer:
        hub.add("model", preset.tokenizer, {**content(tmp_path / "words"), "model.safetensors": b"not asked for"})
    encoder = load_preset(name, device="cpu")
    assert encoder.max_length == preset.max_length
    assert (encoder.query_prefix, encoder.passage_prefix) == (preset.query_prefix, preset.passage_prefix)
    for prefix in {"", preset.query_prefix, preset.passage_prefix}:
        expected = by_hand(model, words, preset.pooling, prefix)
        assert torch.allclose(encoder.encode(TEXTS, prefix=prefix), expected, atol=1e-5)
    asked = [path for _, path, _ in hub.requests if preset.tokenizer and path.startswith(f"/{preset.tokenizer}/")]
    assert not any(path.endswith(".safetensors") for path in asked)
    encoder.save(tmp_path / "saved")  # and what is saved holds all of it
    again = Encoder.load(tmp_path / "saved")
    assert torch.equal(again.encode(TEXTS), encoder.encode(TEXTS)) and again.query_prefix == preset.query_prefix


def test_labse_has_its_own_head(hub, tmp_path):
    expected = FAMILIES["labse"](tmp_path / "labse", 0)
    hub.add("model", PRESETS["labse"].repository, content(tmp_path / "labse"))
    encoder = load_preset("labse", max_length=24, device="cpu")
    assert (encoder.pooling, encoder.query_prefix) == ("pooler", "Query: ")
    assert torch.allclose(encoder.encode(THINGS), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "family"), [("mbart-50", "mbart50"), ("mt5-base", "mt5")])
def test_encoders_of_encoder_decoders(name, family, hub, tmp_path):
    expected = FAMILIES[family](tmp_path / "model", 0)
    hub.add("model", PRESETS[name].repository, content(tmp_path / "model"))
    encoder = load_preset(name, max_length=None, device="cpu")
    assert bool(encoder.codes) == PRESETS[name].with_codes
    assert torch.allclose(encoder.encode(THINGS, languages=LANGUAGES), expected, atol=1e-5)


def test_every_preset_is_of_an_architecture_that_can_be_loaded_and_says_where_it_is_from():
    tested = {*PLAIN, "labse", "mbart-50", "mt5-base"}
    assert tested == set(PRESETS)
    assert {preset.family for preset in PRESETS.values()} == {"xlm-r", "labse", None}
    assert all(preset.source and preset.choice for preset in PRESETS.values())


def test_overrides_take_the_presets_place(hub, tmp_path):
    model, words = tiny("xlm-roberta")
    for part in (model, words):
        part.save_pretrained(tmp_path)
    first = hub.add("model", PRESETS["xlm-r-base"].repository, content(tmp_path))
    options = {"query_prefix": "", "passage_prefix": "p: ", "max_length": 30, "pooling": "cls", "revision": first}
    encoder = load_preset("xlm-r-base", device="cpu", **options)
    assert (encoder.query_prefix, encoder.passage_prefix, encoder.max_length) == ("", "p: ", 30)
    assert torch.allclose(encoder.encode(TEXTS), by_hand(model, words, "cls", ""), atol=1e-5)


def test_unknown_names_and_architectures_say_what_to_do(monkeypatch):
    with pytest.raises(CheckpointError, match="no preset 'xlmr': choose one of xlm-r-base, labse"):
        load_preset("xlmr")
    monkeypatch.setattr(encoder_presets, "CONFIG_MAPPING_NAMES", {"bert": "BertConfig"})
    with pytest.raises(
        CheckpointError, match="gte-multilingual-base: transformers .* has no architecture 'gte': install"
    ):
        load_preset("gte-multilingual-base")


def test_the_table_in_data_md_is_that_of_the_presets():
    lines = (Path(__file__).resolve().parents[1] / "DATA.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `") and line.split("`")[1] in PRESETS}
    assert set(rows) == set(PRESETS)
    for name, preset in PRESETS.items():
        shown = [preset.repository, preset.pooling, f"{preset.max_length:,}"]
        shown += [json.dumps(prefix) for prefix in (preset.query_prefix, preset.passage_prefix) if prefix]
        assert all(f"| {value} |" in rows[name] or f"`{value}`" in rows[name] for value in shown), name
