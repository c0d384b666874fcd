"""Encoder.load by a hub name: checkpoints of the real architectures, at a revision, from a stand-in hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from made import parallel_corpus, tokenizer
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import normalize
from transformers import (
    BertConfig,
    BertModel,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Tokenizer,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from hybridlib.encoder import CheckpointError, Encoder

TEXTS = ["deask thing1", "entell thing2 of 40", "frask thing3"]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def hidden(model: nn.Module, words) -> torch.Tensor:
    """The last layer of each text alone, so that there is no padding: a list of (T, H)."""
    with torch.no_grad():
        return [model(input_ids=torch.tensor([words(text)["input_ids"]])).last_hidden_state[0] for text in TEXTS]


def xlm_roberta(folder: Path, seed: int) -> torch.Tensor:
    """A plain transformers checkpoint as XLM-R's; gives the mean vectors, computed here."""
    words = tokenizer(parallel_corpus())
    torch.manual_seed(seed)
    sizes = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, **SHAPE}
    model = XLMRobertaModel(XLMRobertaConfig(max_position_embeddings=66, **sizes), add_pooling_layer=False).eval()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return normalize(torch.stack([states.mean(dim=0) for states in hidden(model, words)]), dim=-1)


def labse(folder: Path, seed: int) -> torch.Tensor:
    """LaBSE's folder, as sentence-transformers writes it: the first token, a Dense with tanh of its own, Normalize."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer

    words = tokenizer(parallel_corpus())
    torch.manual_seed(seed)
    sizes = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, **SHAPE}
    model = BertModel(BertConfig(max_position_embeddings=64, **sizes)).eval()
    model.save_pretrained(folder / "plain")
    words.save_pretrained(folder / "plain")
    dense = Dense(32, 32)
    modules = [Transformer(str(folder / "plain"), max_seq_length=24), Pooling(32, pooling_mode="cls")]
    SentenceTransformer(modules=[*modules, dense, Normalize()], device="cpu").save(str(folder))
    with torch.no_grad():
        first = torch.stack([states[0] for states in hidden(model, words)])
        return normalize(torch.tanh(dense.linear(first)), dim=-1)


def mt5(folder: Path, seed: int) -> torch.Tensor:
    """A whole mT5; gives the means of what it says that its encoder computed."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    words = T5Tokenizer(vocab=[(token, 0.0) for token in ("<pad>", "</s>", "<unk>", "▁", *letters)], extra_ids=0)
    torch.manual_seed(seed)
    config = MT5Config(vocab_size=len(words), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    model = MT5ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    ids, start = [torch.tensor([words(text)["input_ids"]]) for text in TEXTS], torch.tensor([[words.eos_token_id]])
    with torch.no_grad():
        states = [model(input_ids=row, decoder_input_ids=start).encoder_last_hidden_state[0] for row in ids]
    return normalize(torch.stack([state.mean(dim=0) for state in states]), dim=-1)


@pytest.mark.parametrize("make", [xlm_roberta, labse, mt5])
def test_the_newest_a_pinned_revision_and_the_cache(make, hub, tmp_path, monkeypatch):
    vectors, commits = [], []
    for seed in range(2):
        vectors.append(make(tmp_path / str(seed), seed))
        commits.append(hub.add("model", "owner/model", content(tmp_path / str(seed))))
    assert not torch.allclose(*vectors, atol=1e-2)
    newest = Encoder.load("owner/model", device="cpu")
    assert torch.allclose(newest.encode(TEXTS), vectors[1], atol=1e-5)
    pinned = Encoder.load("owner/model", revision=commits[0], device="cpu")
    assert torch.allclose(pinned.encode(TEXTS), vectors[0], atol=1e-5)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    requests = len(hub.requests)
    cached = Encoder.load("owner/model", revision=commits[0], device="cpu")
    assert torch.equal(cached.encode(TEXTS), pinned.encode(TEXTS)) and len(hub.requests) == requests
    pinned.save(tmp_path / "saved")
    assert torch.equal(Encoder.load(tmp_path / "saved").encode(TEXTS), pinned.encode(TEXTS))


def test_a_dense_that_is_still_a_pickle_comes_too(hub, tmp_path):
    expected = labse(tmp_path, 0)
    torch.save(load_file(tmp_path / "2_Dense" / "model.safetensors"), tmp_path / "2_Dense" / "pytorch_model.bin")
    (tmp_path / "2_Dense" / "model.safetensors").unlink()
    hub.add("model", "owner/model", content(tmp_path))
    assert torch.allclose(Encoder.load("owner/model", device="cpu").encode(TEXTS), expected, atol=1e-5)


def test_packages_for_a_sentencepiece_model_are_named(tmp_path):
    mt5(tmp_path, 0)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "spiece.model").write_bytes(b"")
    with pytest.raises(CheckpointError, match="pip install sentencepiece protobuf"):
        Encoder.load(tmp_path)


def test_what_the_hub_refuses_is_named(hub, tmp_path):
    xlm_roberta(tmp_path / "0", 0)
    hub.add("model", "owner/model", content(tmp_path / "0"))
    with pytest.raises(CheckpointError, match="owner/other is not a folder here.*model owner/other at main"):
        Encoder.load("owner/other")
    with pytest.raises(CheckpointError, match=f"model owner/model at {'1' * 40}: "):
        Encoder.load("owner/model", revision="1" * 40)
    wrong = "model.safetensors: the hub states the checksum .*run again"
    for fault, message in {"gated": "accept the conditions .* log in", "wrong": wrong}.items():
        hub.fail("model.safetensors", fault)
        with pytest.raises(CheckpointError, match=f"owner/model.*{message}"):
            Encoder.load("owner/model")
    hub.faults.clear()
    assert Encoder.load("owner/model", device="cpu").dimension == 32
