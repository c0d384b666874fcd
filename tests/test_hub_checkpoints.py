"""Encoder.load by a hub name: tiny checkpoints of the real architectures, at a revision, from a stand-in hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from made import parallel_corpus, tokenizer
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from hybridlib.checkpoint import CheckpointError
from hybridlib.encoder import Encoder

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
    config = XLMRobertaConfig(
        vocab_size=len(words), max_position_embeddings=66, pad_token_id=words.pad_token_id, **SHAPE
    )
    model = XLMRobertaModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return normalize(torch.stack([states.mean(dim=0) for states in hidden(model, words)]), dim=-1)


def labse(folder: Path, seed: int) -> torch.Tensor:
    """LaBSE's layout: BertModel with its pooler, then the first token, a Dense with tanh of its own, and Normalize."""
    words = tokenizer(parallel_corpus())
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=len(words), max_position_embeddings=64, pad_token_id=words.pad_token_id, **SHAPE)
    model, linear = BertModel(config).eval(), nn.Linear(32, 32)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{path[2:] or 'Transformer'}"}
        for i, path in enumerate(("", "1_Pooling", "2_Dense", "3_Normalize"))
    ]
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    dense = {"in_features": 32, "out_features": 32, "bias": True}
    dense["activation_function"] = "torch.nn.modules.activation.Tanh"
    files = {"modules.json": modules, "1_Pooling/config.json": pooling, "2_Dense/config.json": dense}
    files["sentence_bert_config.json"] = {"max_seq_length": 24, "do_lower_case": False}
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    state = {f"linear.{name}": tensor.detach() for name, tensor in linear.state_dict().items()}
    save_file(state, folder / "2_Dense" / "model.safetensors")
    with torch.no_grad():
        return normalize(torch.stack([torch.tanh(linear(states[0])) for states in hidden(model, words)]), dim=-1)


@pytest.fixture(params=[xlm_roberta, labse], ids=lambda make: make.__name__)
def served(request, hub, tmp_path):
    """Two commits of a checkpoint: (id of the first, its vectors, vectors of the second)."""
    vectors, commits = [], []
    for seed in range(2):
        vectors.append(request.param(tmp_path / str(seed), seed))
        commits.append(hub.add("model", "owner/model", content(tmp_path / str(seed))))
    assert not torch.allclose(*vectors, atol=1e-2)
    return commits[0], *vectors


def test_the_newest_and_a_pinned_revision(served):
    commit, first, second = served
    newest = Encoder.load("owner/model", device="cpu")
    assert torch.allclose(torch.as_tensor(newest.encode(TEXTS)), second, atol=1e-5)
    pinned = Encoder.load("owner/model", revision=commit, device="cpu")
    assert torch.allclose(torch.as_tensor(pinned.encode(TEXTS)), first, atol=1e-5)


def test_offline_from_the_cache(served, hub, monkeypatch):
    commit, first, _ = served
    Encoder.load("owner/model", revision=commit, device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    again = Encoder.load("owner/model", revision=commit, device="cpu")
    assert torch.allclose(torch.as_tensor(again.encode(TEXTS)), first, atol=1e-5) and len(hub.requests) == asked


REFUSALS = {
    "gated": "Accept the conditions at .*/owner/model, then log in",
    "429": "wait some minutes",
    "500": "the hub has failed",
    "wrong": "model.safetensors: the hub states the checksum .*run again",
}


def test_what_the_hub_refuses_is_named(hub, tmp_path):
    xlm_roberta(tmp_path / "0", 0)
    hub.add("model", "owner/model", content(tmp_path / "0"))
    with pytest.raises(
        CheckpointError, match="owner/other is no folder here.*there is no .*/owner/other, or it is private"
    ):
        Encoder.load("owner/other")
    with pytest.raises(CheckpointError, match=f"model owner/model at {'1' * 40}: .*no such revision"):
        Encoder.load("owner/model", revision="1" * 40)
    for fault, message in REFUSALS.items():
        hub.fail("model.safetensors", fault)
        with pytest.raises(CheckpointError, match=f"owner/model is no folder here.*{message}"):
            Encoder.load("owner/model")
    hub.faults.clear()
    assert Encoder.load("owner/model", device="cpu").dimension == 32
