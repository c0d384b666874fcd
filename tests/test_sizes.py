"""The benchmark of full-size models: the configurations have the published sizes, and every kind of model runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sizes
import torch
import transformers

from hybridlib.encoder import PRESETS

KNOWN = [name for name, size in sizes.SIZES.items() if hasattr(transformers, size.config)]  # to this transformers
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
SMALL |= {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "encoder_layers": 1}
SMALL |= {"decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
SMALL |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64}


@pytest.mark.parametrize("name", [name for name in KNOWN if sizes.SIZES[name].published])
def test_full_size_models_have_the_published_number_of_parameters(name):
    with torch.device("meta"):  # shapes without memory
        model, dense = sizes.build(name)
    counted = sizes.parameters(model) + (sizes.parameters(dense) if dense else 0)
    assert counted / 1e6 == pytest.approx(sizes.SIZES[name].published, rel=0.03)


def test_the_parameters_of_bert_base_by_hand():
    """Token, position and type vectors with their LayerNorm; a layer: 4 products, 2 wide ones, 2 LayerNorms."""
    with torch.device("meta"):
        model, _ = sizes.build("mbert")
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert sizes.parameters(model) == (119547 + 512 + 2 + 2) * 768 + 12 * layer


@pytest.mark.parametrize("name", KNOWN)
def test_every_kind_of_model_takes_its_step(name, monkeypatch):
    size = sizes.SIZES[name]
    settings = {key: SMALL.get(key, value) for key, value in size.settings.items()}
    monkeypatch.setitem(sizes.SIZES, name, replace(size, settings=settings))
    found = sizes.measure(name, 500)
    assert found["output"] == ("8 texts" if name.startswith("nllb") else "(8, 32)")
    assert found["peak_gb"] > 4 * found["parameters"] / 1e9 and sizes.row(name, found).count("|") == 10


def test_what_does_not_fit_is_not_run(monkeypatch):
    monkeypatch.setattr(sizes, "SPARE", 1e15)
    monkeypatch.setattr(sizes, "train", lambda *_: pytest.fail("it was run"))
    found = sizes.measure("xlm-r-base", None)
    assert "not run: needs 1000004" in sizes.row("xlm-r-base", found)


def test_every_preset_has_its_size():
    same = {"e5-small": "multilingual-minilm", "e5-base": "xlm-r-base", "e5-large": "xlm-r-large"}
    assert {same.get(name, name) for name in PRESETS} <= set(sizes.SIZES)
    for name, size in sizes.SIZES.items():
        if name in PRESETS:
            assert PRESETS[name].repository.split("/")[1] in size.source or name == "gte-multilingual-base"
