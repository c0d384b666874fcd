"""Translation: tiny models with random weights, saved and loaded as real ones; shards, kills, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made import parallel_corpus
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer, PreTrainedTokenizerFast

from hybridlib.companion.sources import translation
from hybridlib.companion.sources.flags import FLAGS
from hybridlib.companion.sources.languages import NLLB, WITHOUT_SPACES
from hybridlib.companion.sources.translation import TranslationSettings, Translator, translate_pairs
from hybridlib.corpora import ParallelPairs
from hybridlib.encoder import CheckpointError

LANGUAGES = ("en", "de", "ru", "zh")
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
LETTERS = [
    *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!",
    *"абвгдежзиклмнопрст的一是不了人我在有他",
]
VOCABULARY = {token: i for i, token in enumerate([*SPECIAL, "▁", *LETTERS])}
TEXTS = [f"Item {i} is {'very ' * (i % 5)}small{'.?!'[i % 3]}" for i in range(24)]

SHORT = TranslationSettings(growth=1)


def save_model(folder: Path, tokens: int) -> None:
    """A model whose random weights are wide enough that no two tokens are nearly equally likely.

    The published ones use the token vectors for the output too; with random weights that repeats one letter for ever.
    """
    sizes = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_layers": 1, "decoder_layers": 1}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = M2M100Config(vocab_size=tokens, init_std=0.4, tie_word_embeddings=False, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        M2M100ForConditionalGeneration(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def nllb(tmp_path_factory) -> Path:
    """NLLB-200's layout: a tokenizer of characters with the languages as deu_Latn."""
    folder = tmp_path_factory.mktemp("models") / "nllb"
    codes = [NLLB[lang] for lang in LANGUAGES]
    tokenizer = NllbTokenizer(vocab=dict(VOCABULARY), merges=[], extra_special_tokens=codes)
    tokenizer.save_pretrained(folder)
    save_model(folder, len(tokenizer))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_length": 200}))  # as the published one says
    return folder


@pytest.fixture(scope="session")
def m2m100(tmp_path_factory) -> Path:
    """M2M-100's languages (__de__) in a tokenizer that needs no sentencepiece."""
    folder = tmp_path_factory.mktemp("models") / "m2m100"
    inner = Tokenizer(models.BPE(vocab=dict(VOCABULARY), merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"__{lang}__" for lang in LANGUAGES]})
    tokenizer.save_pretrained(folder)
    save_model(folder, len(tokenizer))
    return folder


@pytest.fixture(scope="session")
def translator(nllb) -> Translator:
    return Translator.load(nllb, device="cpu")


def english(n: int = 40) -> ParallelPairs:
    """Pairs in English; every fourth passage has a German text already."""
    made = parallel_corpus(n, languages=("en",), negatives=True)
    passages = made.passages.append_column(
        "de", pa.array([f"Sache {i}" if i % 4 == 0 else None for i in range(n)], pa.string())
    )
    ids = {"query_id": made.queries["query_id"], "passage_id": made.passages["passage_id"]}
    negatives = [[str((i + 1) % n)] for i in range(n)]
    pairs = pa.table({**ids, "source": ["made"] * n, "negatives": negatives})
    return ParallelPairs.build(made.queries.drop_columns("positives"), passages, pairs, name="made")


# ---- the model


@pytest.mark.parametrize("family", ["nllb", "m2m100"])
def test_translations_keep_the_order_and_follow_the_language(family, request):
    translator = Translator.load(request.getfixturevalue(family), device="cpu")
    assert set(translator.languages) == set(LANGUAGES)
    german = translator.translate(TEXTS, target="de", settings=SHORT)
    assert german == translator.translate(TEXTS[::-1], target="de", settings=SHORT)[::-1]
    assert len(german) == len(TEXTS) and all(isinstance(text, str) for text in german)
    assert len(set(german)) > 10, "the tiny model says the same to everything: it tests nothing"
    assert german != translator.translate(TEXTS, target="ru", settings=SHORT)
    assert german != translator.translate(TEXTS, target="de", source="ru", settings=SHORT)


def test_a_text_alone_is_translated_as_in_a_batch(translator):
    together = translator.translate(TEXTS, target="de", settings=TranslationSettings(growth=1, batch_tokens=400))
    alone = [translator.translate([text], target="de", settings=SHORT)[0] for text in TEXTS]
    assert together == alone


def test_languages_keep_the_tokens_of_the_file(tmp_path):
    """The layout of the published NLLB-200: languages behind the vocabulary, the mask last, no list in the config."""
    inner = Tokenizer(models.BPE(vocab=dict(VOCABULARY), merges=[], unk_token="<unk>", fuse_unk=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.add_special_tokens([*SPECIAL, *sorted(NLLB.values()), AddedToken("<mask>", lstrip=True, special=True)])
    save_model(tmp_path, inner.get_vocab_size())
    inner.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "NllbTokenizer", "additional_special_tokens": None, "src_lang": "eng_Latn"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    found = Translator.load(tmp_path, device="cpu").languages
    assert found == {lang: inner.token_to_id(code) for lang, code in NLLB.items()}


def test_weights_may_be_a_pickle_of_tensors(nllb, translator, tmp_path, caplog):
    """As those of the published NLLB-200 are."""
    for path in nllb.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(translator.model.state_dict(), tmp_path / "pytorch_model.bin")
    pickled = Translator.load(tmp_path, device="cpu")
    assert "read by torch.load(weights_only=True)" in caplog.text
    assert pickled.translate(TEXTS[:5], target="de") == translator.translate(TEXTS[:5], target="de")
    assert pickled.fingerprint != translator.fingerprint


def test_the_same_as_generating_by_hand(translator):
    """transformers' documented way for NLLB, a sentence at a time."""
    translator.tokenizer.src_lang = NLLB["en"]
    for text in TEXTS[:5]:
        inputs = translator.tokenizer(text, return_tensors="pt")
        most = TranslationSettings().most_tokens(inputs["input_ids"].shape[1] - 2)
        language = translator.tokenizer.convert_tokens_to_ids(NLLB["de"])
        output = translator.model.generate(**inputs, forced_bos_token_id=language, max_new_tokens=most + 1)
        by_hand = translator.tokenizer.batch_decode(output, skip_special_tokens=True)[0].strip()
        assert translator.translate([text], target="de") == [by_hand]


def test_equal_sentences_are_translated_once_and_joined(translator, monkeypatch):
    seen = []
    generate = translator._generate
    monkeypatch.setattr(translator, "_generate", lambda tokens, *rest: seen.extend(tokens) or generate(tokens, *rest))
    one, two = translator.translate(["Small item.", "Large item."], target="de")
    seen.clear()
    both = translator.translate(["Small item. Large item.", "Large item.", "", "Small item."], target="de")
    assert both == [f"{one} {two}", two, "", one] and len(seen) == 2
    chinese = translator.translate(["Small item.", "Large item.", "Small item. Large item."], target="zh")
    assert "zh" in WITHOUT_SPACES and chinese[2] == chinese[0] + chinese[1]


def test_long_sentences_are_cut(translator):
    settings = TranslationSettings(max_source_tokens=12)
    text = "one two three four five " * 5
    assert translator._pieces(text.strip(), settings)[:2] == ["one two", "three four"]
    assert max(translator._count(translator._pieces(text + "abcdefghijklmnopqrst" * 3, settings))) <= 12
    assert translator.translate([text], target="de", settings=settings)[0]


def test_mistakes_are_named(translator, nllb, tmp_path):
    for options, message in (
        ({"target": "xx"}, "unknown language 'xx'"),
        ({"target": "fi"}, "does not translate 'fi'; it knows de en ru zh"),
        ({"target": "de", "settings": TranslationSettings(max_source_tokens=900)}, "lower one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            translator.translate(["a"], **options)
    with pytest.raises(ValueError, match="beams is 0"):
        TranslationSettings(beams=0)
    for texts, message in (("a", "one string"), ([1], r"texts\[0\] is of type int"), (["\ud800"], "half a character")):
        with pytest.raises(ValueError, match=message):
            translator.translate(texts, target="de")
    with pytest.raises(CheckpointError, match="no such folder|is not a folder"):
        Translator.load(tmp_path / "none")
    (tmp_path / "torn").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "torn" / name).write_bytes((nllb / name).read_bytes()[:400])
    with pytest.raises(CheckpointError, match="torn"):
        Translator.load(tmp_path / "torn")


SENTENCEPIECE = '''
class SentencePieceProcessor:
    """Stands in for the library: a piece per character."""
    def __init__(self, **options): pass
    def Load(self, path): self.path = path
    def encode(self, text, out_type=str): return [piece for word in text.split() for piece in ("\\u2581", *word)]
    def decode(self, pieces): return "".join(pieces).replace("\\u2581", " ").strip()
'''
M2M100 = """
import sys
from hybridlib.companion.sources.translator import Translator
translator = Translator.load(sys.argv[1], device="cpu")
tokenizer = translator.tokenizer
assert type(tokenizer).__name__ == "M2M100Tokenizer"
assert translator.languages["de"] == tokenizer.get_lang_id("de") and "te" not in translator.languages
tokenizer.src_lang = "ru"
ids, mask = translator._batch(translator._tokenize(["Item 1"]), translator.languages["ru"])
assert ids.tolist() == [tokenizer("Item 1")["input_ids"]], (ids, tokenizer("Item 1"))
print(translator.translate(["Item 1", "Item 2."], target="de"))
"""


def test_the_real_m2m100_tokenizer(tmp_path):
    """transformers' own class, in a process of its own where sentencepiece is a stand-in."""
    folder = tmp_path / "model"
    save_model(folder, len(VOCABULARY) + 108)  # M2M-100 has 100 languages and 8 tokens that only fill up
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    (folder / "sentencepiece.bpe.model").write_bytes(b"stands in")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "M2M100Tokenizer"}))
    (tmp_path / "sentencepiece.py").write_text(SENTENCEPIECE)
    path = os.pathsep.join([str(tmp_path), str(Path(translation.__file__).parents[3])])
    done = subprocess.run(
        [sys.executable, "-c", M2M100, str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(eval(done.stdout)) == 2
    if not any(Path(entry, "sentencepiece").exists() for entry in sys.path):
        with pytest.raises(CheckpointError, match=r"pip install 'hybridlib\[translate\]'"):
            Translator.load(folder)


# ---- shards


def test_missing_texts_are_filled_and_everything_else_stays(translator, tmp_path):
    corpus = english()
    new, counts = translate_pairs(corpus, ["de", "ru"], tmp_path, translator, rows_per_shard=7, keep_flagged=True)
    before = corpus.passages.to_pylist()
    assert new.languages == ("de", "en", "ru") and len(new) == len(corpus)
    german = {row["passage_id"]: row["de"] for row in new.passages.to_pylist()}
    expected = translator.translate([row["en"] for row in before], target="de")
    for row, text in zip(before, expected, strict=True):
        assert german[row["passage_id"]] == (row["de"] or text or None)
    assert new.queries["en"].to_pylist() == corpus.queries["en"].to_pylist()
    old = {(row["query"], row["passage"], *row["negatives"], row["source"]) for row in corpus.pairs.to_pylist()}
    assert {(row["query"], row["passage"], *row["negatives"], row["source"]) for row in new.pairs.to_pylist()} == old
    assert counts["texts"].tolist() == [40, 40, 30, 40]


def test_rows_keep_their_ids_and_flagged_ones_stay_out(translator, tmp_path):
    corpus = english()
    made, counts = translate_pairs(corpus, ["de"], tmp_path, translator)
    rows = pq.read_table(tmp_path / "translations.parquet").to_pylist()
    assert [row["id"] for row in rows if row["side"] == "queries"] == corpus.queries["query_id"].to_pylist()
    flagged = {(row["side"], row["id"]) for row in rows if any(row[flag] for flag in FLAGS)}
    assert flagged, "random weights that raise no flag test nothing"
    texts = {row["query_id"]: row.get("de") for row in made.queries.to_pylist()}
    for row in rows:
        if row["side"] == "queries":
            assert texts[row["id"]] == (None if ("queries", row["id"]) in flagged else row["text"])
    assert counts["flagged"].sum() == len(flagged) == counts["texts"].sum() - counts["kept"].sum()
    for flag in FLAGS:
        assert counts[flag].sum() == sum(row[flag] for row in rows)
    told = json.loads((tmp_path / "translated.json").read_text())
    assert told["model"] == translator.fingerprint and told["beams"] == 1 and told["limits"]["repeats"] == 4


def test_what_is_complete_is_not_made_again_and_what_is_torn_is(translator, tmp_path, monkeypatch):
    def make(**options):
        calls.clear()
        made, _ = translate_pairs(english(), ["de"], tmp_path, translator, rows_per_shard=10, **options)
        return made.fingerprint

    calls, real = [], Translator.translate
    monkeypatch.setattr(Translator, "translate", lambda *a, **k: calls.append(a[1]) or real(*a, **k))
    first = make()
    assert len(calls) == 7  # 40 queries and 30 passages
    assert make() == first and not calls
    shards = sorted((tmp_path / "shards").glob("*.parquet"))
    shards[0].write_bytes(shards[0].read_bytes()[:-20])
    damaged = bytearray(shards[1].read_bytes())
    damaged[len(damaged) // 8] ^= 0xFF
    shards[1].write_bytes(bytes(damaged))
    (tmp_path / "shards" / f".{shards[2].name}.1.new").write_bytes(b"left behind")
    shards[2].unlink()
    (tmp_path / "translated.json").unlink()
    assert make() == first and len(calls) == 3
    assert not list((tmp_path / "shards").glob(".*.new"))
    make(keep_flagged=True)
    assert not calls, "other limits need no other translation"
    make(settings=TranslationSettings(batch_tokens=100))
    assert not calls, "nor do other batches"
    make(settings=TranslationSettings(beams=2))
    assert len(calls) == 7


def test_a_killed_run_is_finished_by_two_processes_with_the_result_of_one(nllb, translator, tmp_path):
    english().save(tmp_path / "pairs")
    command = [sys.executable, "-m", "hybridlib", "translate", "--model", str(nllb), "--pairs", str(tmp_path / "pairs")]
    command += ["--languages", "de", "ru", "--rows-per-shard", "4", "--keep-flagged", "--quiet", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(translation.__file__).parents[3])}
    shards = tmp_path / "out" / "shards"

    def start():
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen([*command, "--output", str(tmp_path / "out")], env=environment, **pipes)

    def written():
        return {path.name: path.stat().st_mtime_ns for path in shards.glob("[!.]*.parquet")}

    killed = start()
    while len(written()) < 2 and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it was done before it could be killed"
    before, other = written(), start()
    while len(written()) == len(before):
        time.sleep(0.01)  # until the other process is at work
        assert other.poll() is None, other.communicate()[0]
    options = {"rows_per_shard": 4, "keep_flagged": True}
    own, _ = translate_pairs(english(), ["de", "ru"], tmp_path / "out", translator, **options)
    said = other.communicate()[0].decode()
    assert other.returncode == 0 and "40 pairs in de en ru" in said, said
    assert before.items() <= written().items(), "a complete shard was made again"
    assert 2 <= len(before) < len(written()) == 38

    alone, _ = translate_pairs(english(), ["de", "ru"], tmp_path / "alone", translator, **options)
    rows, expected = (pq.read_table(tmp_path / name / "translations.parquet") for name in ("out", "alone"))
    assert rows.equals(expected) and own.fingerprint == alone.fingerprint
    assert ParallelPairs.load(tmp_path / "out" / "corpus").fingerprint == alone.fingerprint


def test_mistakes_in_pairs_are_named(translator, tmp_path):
    for languages, options, message in (
        ([], {}, "languages are none"),
        (["de", "de"], {}, "each once"),
        (["en"], {}, "without 'en'"),
        (["de"], {"source": "ru"}, "made has no text in 'ru'"),
        (["de"], {"rows_per_shard": 0}, "rows_per_shard is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            translate_pairs(english(), languages, tmp_path / "out", translator, **options)
    assert not (tmp_path / "out").exists()
