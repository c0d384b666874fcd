"""Encoder.load by a hub name: tiny checkpoints of the real architectures, at a revision, from a stand-in hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from made import parallel_corpus, tokenizer
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from torch.nn.functional import normalize
from transformers import (
    BertConfig,
    BertModel,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    MT5Config,
    MT5ForConditionalGeneration,
    NllbTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Tokenizer,
    XLMRobertaConfig,
    XLMRobertaModel,
)
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES

from hybridlib.encoder import Encoder
from hybridlib.encoder_checkpoint import CheckpointError

TEXTS = ["deask thing1", "entell thing2 of 40", "frask thing3"]
LANGUAGES = ["de", "en", "fr"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
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


# ---- the encoders of encoder-decoder models


def mbart_model(tokens: int, seed: int) -> PreTrainedModel:
    """mBART's architecture; embeddings are scaled, as in mBART-50."""
    sizes = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_layers": 2, "decoder_layers": 1}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}
    torch.manual_seed(seed)
    config = MBartConfig(vocab_size=tokens, scale_embedding=True, init_std=0.2, **sizes)
    return MBartForConditionalGeneration(config).eval()


def m2m_model(tokens: int, seed: int) -> PreTrainedModel:
    """M2M-100's architecture, which is NLLB-200's too."""
    sizes = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_layers": 2, "decoder_layers": 1}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}
    torch.manual_seed(seed)
    return M2M100ForConditionalGeneration(M2M100Config(vocab_size=tokens, init_std=0.2, **sizes)).eval()


def saved(folder: Path, model: PreTrainedModel, words: PreTrainedTokenizerBase, ids: list[list[int]]) -> torch.Tensor:
    """Write both; gives the mean of what the whole model says its encoder computed for each text."""
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    start = torch.tensor([[words.eos_token_id]])
    with torch.no_grad():
        outputs = [model(input_ids=torch.tensor([row]), decoder_input_ids=start) for row in ids]
    means = [output.encoder_last_hidden_state[0].mean(dim=0) for output in outputs]
    return normalize(torch.stack(means), dim=-1)


def spoken(words: PreTrainedTokenizerBase, codes: dict[str, str]) -> list[list[int]]:
    """TEXTS, each with its language set as transformers documents it."""
    rows = []
    for text, lang in zip(TEXTS, LANGUAGES, strict=True):
        words.src_lang = codes[lang]
        rows.append(words(text)["input_ids"])
    return rows


def mbart50(folder: Path, seed: int) -> torch.Tensor:
    """[code] text [eos], as mBART-50."""
    scored = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS)]
    words = MBart50Tokenizer(vocab=[*scored, *((code, 0.0) for code in FAIRSEQ_LANGUAGE_CODES), ("<mask>", 0.0)])
    ids = spoken(words, {"de": "de_DE", "en": "en_XX", "fr": "fr_XX"})
    assert [row[0] for row in ids] == words.convert_tokens_to_ids(["de_DE", "en_XX", "fr_XX"])
    return saved(folder, mbart_model(len(words), seed), words, ids)


def mbart(folder: Path, seed: int) -> torch.Tensor:
    """text [eos] [code], as the first mBART."""
    codes = FAIRSEQ_LANGUAGE_CODES[:25]
    scored = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS, *codes, "<mask>")]
    words = MBartTokenizer(vocab=scored)
    ids = spoken(words, {"de": "de_DE", "en": "en_XX", "fr": "fr_XX"})
    assert [row[-1] for row in ids] == words.convert_tokens_to_ids(["de_DE", "en_XX", "fr_XX"])
    return saved(folder, mbart_model(len(words), seed), words, ids)


def nllb(folder: Path, seed: int) -> torch.Tensor:
    """[code] text [eos] with the codes of NLLB-200."""
    codes = {"de": "deu_Latn", "en": "eng_Latn", "fr": "fra_Latn"}
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS])}
    words = NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=list(codes.values()))
    return saved(folder, m2m_model(len(words), seed), words, spoken(words, codes))


def m2m100(folder: Path, seed: int) -> torch.Tensor:
    """[code] text [eos] with the codes of M2M-100, in a tokenizer that needs no sentencepiece."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS, *(f"__{lang}__" for lang in LANGUAGES)]
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    around = [("__en__", tokens.index("__en__")), ("</s>", 2)]
    inner.post_processor = processors.TemplateProcessing(single="__en__ $A </s>", special_tokens=around)
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    words = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    plain = [words(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    ids = [[tokens.index(f"__{lang}__"), *row, 2] for lang, row in zip(LANGUAGES, plain, strict=True)]
    return saved(folder, m2m_model(len(words), seed), words, ids)


def mt5(folder: Path, seed: int) -> torch.Tensor:
    """text [eos], without languages."""
    words = T5Tokenizer(vocab=[(token, 0.0) for token in ("<pad>", "</s>", "<unk>", "▁", *LETTERS)], extra_ids=0)
    torch.manual_seed(seed)
    config = MT5Config(vocab_size=len(words), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    model = MT5ForConditionalGeneration(config).eval()
    return saved(folder, model, words, [words(text)["input_ids"] for text in TEXTS])


FAMILIES: dict[str, Callable[[Path, int], torch.Tensor]] = {
    make.__name__: make for make in (xlm_roberta, labse, mbart50, mbart, nllb, m2m100, mt5)
}


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES)
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
    assert torch.allclose(torch.as_tensor(newest.encode(TEXTS, languages=LANGUAGES)), second, atol=1e-5)
    pinned = Encoder.load("owner/model", revision=commit, device="cpu")
    assert torch.allclose(torch.as_tensor(pinned.encode(TEXTS, languages=LANGUAGES)), first, atol=1e-5)


def test_offline_from_the_cache(served, hub, monkeypatch):
    commit, first, _ = served
    Encoder.load("owner/model", revision=commit, device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    again = Encoder.load("owner/model", revision=commit, device="cpu")
    assert (
        torch.allclose(torch.as_tensor(again.encode(TEXTS, languages=LANGUAGES)), first, atol=1e-5)
        and len(hub.requests) == asked
    )


def test_a_dense_that_is_still_a_pickle_comes_too(hub, tmp_path):
    expected = labse(tmp_path, 0)
    state = load_file(tmp_path / "2_Dense" / "model.safetensors")
    torch.save(state, tmp_path / "2_Dense" / "pytorch_model.bin")
    (tmp_path / "2_Dense" / "model.safetensors").unlink()
    hub.add("model", "owner/model", content(tmp_path))
    assert torch.allclose(Encoder.load("owner/model", device="cpu").encode(TEXTS), expected, atol=1e-5)


REFUSALS = {
    "gated": "Accept the conditions on its page, then log in",
    "429": "run again .*429",
    "500": "run again .*500",
    "wrong": "model.safetensors: the hub states the checksum .*run again",
}


def test_what_the_hub_refuses_is_named(hub, tmp_path):
    xlm_roberta(tmp_path / "0", 0)
    hub.add("model", "owner/model", content(tmp_path / "0"))
    with pytest.raises(CheckpointError, match="owner/other is no folder here.*check the names"):
        Encoder.load("owner/other")
    with pytest.raises(CheckpointError, match=f"model owner/model at {'1' * 40}: .*check the names"):
        Encoder.load("owner/model", revision="1" * 40)
    for fault, message in REFUSALS.items():
        hub.fail("model.safetensors", fault)
        with pytest.raises(CheckpointError, match=f"owner/model is no folder here.*{message}"):
            Encoder.load("owner/model")
    hub.faults.clear()
    assert Encoder.load("owner/model", device="cpu").dimension == 32
