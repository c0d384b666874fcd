"""The encoders of mBART, M2M-100, NLLB-200 and mT5: each text's language, missing weights, saving."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from made import parallel_corpus
from safetensors.torch import load_file, save_file
from test_encoder import peer, plain_checkpoint
from test_hub_checkpoints import FAMILIES, LANGUAGES, TEXTS, mbart_model, xlm_roberta
from transformers import AutoTokenizer, MBartModel

from hybridlib import encoder as encoder_module
from hybridlib import encoder_checkpoint
from hybridlib.corpora import Benchmark
from hybridlib.encoder import Encoder
from hybridlib.encoder_checkpoint import CheckpointError
from hybridlib.evaluation import encode_benchmark
from hybridlib.training import tokens

WITH_CODES = ["mbart50", "mbart", "nllb", "m2m100"]
SEQ2SEQ = [*WITH_CODES, "mt5"]
MANY = [text for text in TEXTS for _ in LANGUAGES]
SPOKEN = LANGUAGES * len(TEXTS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each family; not to be changed."""
    root = tmp_path_factory.mktemp("families")
    for name in SEQ2SEQ:
        FAMILIES[name](root / name, 0)
    return {name: root / name for name in SEQ2SEQ}


# ---- the language of each text


@pytest.mark.parametrize("name", WITH_CODES)
def test_a_text_in_two_languages_has_two_vectors_in_any_order(name, folders):
    encoder = Encoder.load(folders[name])
    together = encoder.encode(MANY, languages=SPOKEN, batch_tokens=30)
    for text, lang, vector in zip(MANY, SPOKEN, together, strict=True):
        assert (vector - encoder.encode([text], languages=[lang])[0]).abs().max() < 1e-6
        others = encoder.encode([text] * 2, languages=[other for other in LANGUAGES if other != lang])
        assert (vector - others).abs().max(dim=1).values.min() > 1e-4
    again = encoder.encode([*MANY, *MANY], languages=[*SPOKEN, *SPOKEN])
    assert torch.equal(again[: len(MANY)], again[len(MANY) :])


@pytest.mark.parametrize("name", WITH_CODES)
def test_the_code_survives_where_a_long_text_is_cut(name, folders):
    encoder = Encoder.load(folders[name], max_length=8)
    short, long = encoder.tokenize(["de", "deask thing1 and so on"], ["de", "fr"])
    place = -1 if name == "mbart" else 0
    assert len(long) == 8 and (short[place], long[place]) == (encoder.codes.tokens["de"], encoder.codes.tokens["fr"])
    end = [row[-2] if place else row[-1] for row in (short, long)]
    assert end == [encoder.tokenizer.eos_token_id] * 2


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (None, "puts a language code beside each text: give languages, a list with one for each of the 3 texts"),
        (["de", None, "en"], "no code for None"),
        (["de", "el", "en"], "no code for 'el'; it knows af ar az"),
        (["de", "en_XX", "en"], "no code for 'en_XX'"),
        (["de", "en"], "one for each of the 3 texts"),
        ("den", "one for each of the 3 texts"),
    ],
)
def test_a_missing_or_wrong_language_is_named(languages, message, folders):
    encoder = Encoder.load(folders["mbart50"])
    for call in (encoder.encode, encoder.tokenize):
        with pytest.raises(ValueError, match=message):
            call(TEXTS, languages=languages)


def test_other_encoders_take_no_notice_of_languages(tmp_path, folders):
    xlm_roberta(tmp_path / "xlm-r", 0)
    for folder in (tmp_path / "xlm-r", folders["mt5"]):
        encoder = Encoder.load(folder)
        assert encoder.codes is None
        assert torch.equal(encoder.encode(TEXTS), encoder.encode(TEXTS, languages=LANGUAGES))


def test_the_codes_of_mbart_50_are_its_52_and_of_mbart_its_25(folders):
    assert len(Encoder.load(folders["mbart50"]).codes.tokens) == 52
    assert len(Encoder.load(folders["mbart"]).codes.tokens) == 25
    assert set(Encoder.load(folders["nllb"]).codes.tokens) == set(LANGUAGES)


def test_a_tokenizer_without_codes_is_refused(tmp_path):
    words = plain_checkpoint(tmp_path / "bert")
    mbart_model(500, 0).save_pretrained(tmp_path / "mbart")
    with pytest.raises(CheckpointError, match="mbart: its tokenizer puts no language code beside a text"):
        Encoder.load(tmp_path / "mbart", tokenizer=words)


# ---- computing


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_padding_packed_weights_and_half_precision(name, folders, monkeypatch):
    encoder = Encoder.load(folders[name])
    rows = [torch.tensor(row) for row in encoder.tokenize(TEXTS, LANGUAGES)]
    padded = torch.nn.utils.rnn.pad_sequence(rows, True, encoder.tokenizer.pad_token_id)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], True)
    alone = torch.cat([encoder(row[None]) for row in rows])
    assert (encoder(padded, mask) - alone).abs().max() < 1e-6
    assert (encoder.encode(TEXTS, languages=LANGUAGES, dtype=torch.bfloat16) - alone).abs().max() < 0.05
    monkeypatch.setattr(encoder_module, "PACKED_FROM", 1)
    assert (encoder.encode(TEXTS, languages=LANGUAGES) - alone).abs().max() < 1e-6


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_it_trains_and_dropout_can_be_turned_off(name, folders):
    encoder = Encoder.load(folders[name], dropout=0.0).train()
    ids = torch.tensor(encoder.tokenize(TEXTS[:1], ["de"]))
    assert torch.equal(encoder(ids), encoder(ids))
    encoder(ids).sum().backward()
    assert all(weights.grad is not None for weights in encoder.parameters())
    noisy = Encoder.load(folders[name], dropout=0.5).train()
    assert not torch.equal(noisy(ids), noisy(ids))


def test_the_decoder_is_neither_kept_nor_needed(folders, tmp_path):
    encoder = Encoder.load(folders["mbart50"])
    whole = MBartModel.from_pretrained(folders["mbart50"])
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in whole.encoder.parameters())
    assert (encoder.max_length, encoder.dimension) == (64, 32)
    state = load_file(folders["mbart50"] / "model.safetensors")
    edited(folders["mbart50"], tmp_path, {name: state[name] for name in state if ".decoder." not in name})
    assert torch.equal(
        Encoder.load(tmp_path).encode(TEXTS, languages=LANGUAGES), encoder.encode(TEXTS, languages=LANGUAGES)
    )


def test_evaluation_and_training_tokens_take_each_texts_language(folders, monkeypatch, tmp_path):
    encoder, corpus = Encoder.load(folders["mbart50"]), parallel_corpus(5)
    rows, spoken = [0, 1, 2, 3], ["de", "en", "fr", "de"]
    expected = encoder.tokenize(corpus.query_texts(rows, spoken), spoken)
    for kept, folder in ((100, None), (0, None), (0, tmp_path)):
        monkeypatch.setattr(tokens, "KEPT", kept)
        found = tokens.TokenizedPairs(corpus, encoder, folder).query_ids(rows, spoken)
        assert [ids.tolist() for ids in found] == expected
    queries = [("de:0", "de", "0", "0", "same"), ("en:0", "en", "0", "0", "same")]
    candidates = [("de:0000:000", "de", "same"), ("en:0000:000", "en", "same")]
    relevant = [(query[0], candidate[0], 1) for query in queries for candidate in candidates]
    names = (("query_id", "lang", "question_id", "cluster", "text"), ("candidate_id", "lang", "text"))
    tables = [
        pa.table(dict(zip(columns, map(list, zip(*lines, strict=True)), strict=True)))
        for columns, lines in zip(
            (*names, ("query_id", "candidate_id", "gain")), (queries, candidates, relevant), strict=True
        )
    ]
    benchmark = Benchmark.build("made", ["de", "en"], *tables)
    q, c = encode_benchmark(benchmark, encoder)
    assert torch.equal(q, encoder.encode(["same", "same"], languages=["de", "en"])) and torch.equal(q, c)
    assert not torch.allclose(q[0], q[1], atol=1e-4)


# ---- what is missing


def edited(source: Path, target: Path, state: dict[str, torch.Tensor]) -> None:
    """A copy of a checkpoint with other weights."""
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})


MISSING = {
    "mbart50": ["model.encoder.layers.1.fc1.weight", "model.encoder.layer_norm.bias", "model.shared.weight"],
    "nllb": ["model.encoder.layers.0.self_attn.k_proj.weight", "model.shared.weight"],
    "mt5": ["encoder.block.1.layer.1.DenseReluDense.wi_0.weight", "shared.weight"],
}


@pytest.mark.parametrize(("name", "missing"), [(name, key) for name, keys in MISSING.items() for key in keys])
def test_a_missing_weight_of_the_encoder_is_named(name, missing, folders, tmp_path):
    state = load_file(folders[name] / "model.safetensors")
    del state[missing]
    edited(folders[name], tmp_path, state)
    with pytest.raises(CheckpointError, match=f"{tmp_path} lacks .* weights .*encoder"):
        Encoder.load(tmp_path)


def test_packages_for_a_sentencepiece_model_are_named(folders, tmp_path, monkeypatch):
    for path in folders["mt5"].iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "spiece.model").write_bytes(b"")
    monkeypatch.setattr(encoder_checkpoint, "is_sentencepiece_available", lambda: False)
    with pytest.raises(
        CheckpointError, match=r"SentencePiece model \(spiece.model\): pip install sentencepiece protobuf"
    ):
        Encoder.load(tmp_path)


def test_a_tokenizer_of_another_folder(folders, tmp_path):
    """As Multilingual-MiniLM wants it."""
    expected = xlm_roberta(tmp_path / "whole", 0)
    (tmp_path / "words").mkdir()
    for path in (tmp_path / "whole").glob("tokenizer*"):
        path.rename(tmp_path / "words" / path.name)
    with pytest.raises(CheckpointError):
        Encoder.load(tmp_path / "whole")
    encoder = Encoder.load(tmp_path / "whole", tokenizer=tmp_path / "words")
    assert torch.allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    with pytest.raises(CheckpointError, match="nothing is not a folder"):
        Encoder.load(tmp_path / "whole", tokenizer=tmp_path / "nothing")


# ---- saving


def test_mt5_is_saved_for_sentence_transformers(folders, tmp_path):
    encoder = Encoder.load(folders["mt5"], max_length=12, query_prefix="ask ")
    encoder.save(tmp_path / "saved")
    again, theirs = Encoder.load(tmp_path / "saved"), peer(tmp_path / "saved")
    assert (again.max_length, again.query_prefix) == (12, "ask ")
    assert torch.equal(again.encode(TEXTS), encoder.encode(TEXTS))
    assert (encoder.encode(TEXTS) - torch.as_tensor(theirs.encode(TEXTS))).abs().max() < 1e-6
    assert (encoder.encode(TEXTS, prefix="ask ") - torch.as_tensor(theirs.encode_query(TEXTS))).abs().max() < 1e-6


@pytest.mark.parametrize("name", WITH_CODES)
def test_an_encoder_with_codes_is_not_saved_half(name, folders, tmp_path):
    with pytest.raises(CheckpointError, match="saved: sentence-transformers can neither give each text its language"):
        Encoder.load(folders[name]).save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_is_left_as_it_was(folders):
    encoder = Encoder.load(folders["mbart50"])
    encoder.encode(TEXTS, languages=LANGUAGES)
    fresh = AutoTokenizer.from_pretrained(folders["mbart50"])
    assert encoder.tokenizer.src_lang == fresh.src_lang
    assert encoder.tokenizer(TEXTS)["input_ids"] == fresh(TEXTS)["input_ids"]
