"""Gradients of a batch are the same whole or in parts, cached or not, on one process or several."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
import torch
from accelerate import PartialState
from made import encoder, launch_command, pairs_file, parallel_corpus
from safetensors.torch import load_file

from hybridlib.__main__ import main
from hybridlib.corpora import ParallelPairs
from hybridlib.encoder import Encoder
from hybridlib.loss import info_nce
from hybridlib.sampler import Batch, BatchSampler
from hybridlib.training import TrainingSettings, train
from hybridlib.training.gradients import WHOLE, Gradients, PreparedBatch, prepare
from hybridlib.training.tokens import TokenizedPairs

CORPUS = parallel_corpus(negatives=True)
SETTINGS = TrainingSettings(negatives=1, mask_translations=False)


def prepared(model: Encoder, settings: TrainingSettings, strategy: str = "x-y") -> PreparedBatch:
    batch = BatchSampler(CORPUS, strategy, batch_size=9, steps=3, seed=4).batch(2)
    return prepare(TokenizedPairs(CORPUS, model), batch, settings)


def gradients_of(model: Encoder, settings: TrainingSettings, whole: bool = False) -> tuple[float, dict]:
    """Loss and gradients of one batch, in training mode."""
    model.train()
    model.zero_grad()
    computed = Gradients(model, settings, PartialState())
    computed.part_tokens = WHOLE if whole else computed.part_tokens
    loss = computed.backward(prepared(model, settings))
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(ours: dict, theirs: dict, tolerance: float = 1e-5) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= tolerance * gradient.norm() + 1e-7, name


def dropping(model: Encoder, share: float) -> Encoder:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = share
    return model


@pytest.mark.parametrize(
    ("part_tokens", "cached", "symmetric"),
    [(None, False, False), (1, True, False), (20, False, True), (20, True, True)],
)
def test_they_are_those_of_plain_autograd(part_tokens, cached, symmetric):
    settings = replace(SETTINGS, part_tokens=part_tokens, cached=cached, symmetric=symmetric)
    model = encoder(CORPUS, layers=2)
    loss, ours = gradients_of(model, settings)
    model.zero_grad()
    batch = prepared(model, settings).batch
    texts = [CORPUS.query_texts(CORPUS.query_rows[batch.pair], batch.query_lang)]
    texts += [CORPUS.passage_texts(CORPUS.passage_rows[batch.pair], batch.passage_lang)]
    negatives = CORPUS.negatives(batch.pair, batch.passage_lang)
    texts += [CORPUS.passage_texts([rows[0] for rows in negatives], batch.passage_lang)]
    together = model.tokenizer([text for part in texts for text in part], padding=True, return_tensors="pt")
    vectors = model(together["input_ids"], together["attention_mask"])
    passage = torch.tensor([*CORPUS.passage_rows[batch.pair], *(rows[0] for rows in negatives)])
    lang = [*batch.passage_lang, *batch.passage_lang]
    same = [[bool(passage[i] == passage[j]) and lang[i] == lang[j] for j in range(18)] for i in range(9)]
    expected = info_nce(vectors[:9], vectors[9:], mask=torch.tensor(same), temperature=0.05, symmetric=symmetric)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert_close(ours, {name: p.grad for name, p in model.named_parameters() if p.grad is not None})


def test_cached_are_those_of_kept_graphs_with_dropout():
    settings = replace(SETTINGS, part_tokens=40)
    model = dropping(encoder(CORPUS, layers=2), 0.3)
    loss, kept = gradients_of(model, settings)
    again, cached = gradients_of(model, replace(settings, cached=True))
    assert again == loss
    assert_close(cached, kept)
    assert gradients_of(model, replace(settings, seed=1))[0] != loss, "dropout follows the seed"
    assert gradients_of(encoder(CORPUS, layers=2), settings)[0] != loss, "there was dropout"


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_are_those_of_plain_torch_with_dropout():
    """Two shapes of parts, cached, so both ways through the encoder; its first call translates."""
    settings = replace(SETTINGS, part_tokens=40, cached=True)
    model = dropping(encoder(CORPUS, layers=1), 0.3)
    loss, plain = gradients_of(model, settings)
    again, compiled = gradients_of(model, replace(settings, compile=True))
    assert again == pytest.approx(loss, rel=1e-5)
    assert_close(compiled, plain)


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setattr(torch, "compile", Mock(side_effect=RuntimeError("no compiler\n\nat all")))
    with pytest.raises(ValueError, match=r"compile: torch.compile does not work .*\(no compiler at all\)"):
        gradients_of(encoder(CORPUS), replace(SETTINGS, compile=True))


def test_cached_holds_the_graph_of_one_part_only():
    """Floats that autograd keeps: as many for eight times the pairs."""

    def kept(batch_size: int, cached: bool) -> int:
        corpus, most, now = parallel_corpus(80), [0], [0]
        model = encoder(corpus, layers=2).train()
        settings = replace(SETTINGS, negatives=0, part_tokens=48, cached=cached)
        batch = BatchSampler(corpus, "x-y", batch_size=batch_size, steps=1).batch(0)
        ready = prepare(TokenizedPairs(corpus, model), batch, settings)

        class Held:
            def __init__(self, tensor: torch.Tensor) -> None:
                self.tensor = tensor
                now[0] += tensor.numel()
                most[0] = max(most[0], now[0])

            def __del__(self) -> None:
                now[0] -= self.tensor.numel()

        with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
            Gradients(model, settings, PartialState()).backward(ready)
        return most[0]

    assert kept(64, cached=True) < 1.5 * kept(8, cached=True)
    assert kept(64, cached=False) > 6 * kept(8, cached=False)


@pytest.mark.parametrize(("precision", "cached"), [("bf16", False), ("fp16", True)])
def test_half_precision_is_near(precision, cached, tmp_path):
    """Loss and direction as in float32; a step with fp16's loss scale goes the same way."""
    settings = replace(SETTINGS, precision=precision, cached=cached, part_tokens=20)
    model = encoder(CORPUS, layers=2)
    loss, exact = gradients_of(model, SETTINGS)
    rough_loss, rough = gradients_of(model, settings)
    assert 0 < abs(rough_loss - loss) < 0.02 * loss
    a, b = (torch.cat([g.flatten() for g in part.values()]) for part in (exact, rough))
    assert torch.cosine_similarity(a, b, dim=0) > 0.99
    sampler = BatchSampler(CORPUS, "x-y", batch_size=9, steps=6)
    log = train(model, sampler, replace(settings, learning_rate=3e-3), tmp_path / "state.safetensors")
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]


def corpus_of(queries: list[str], passages: list[str], **more: list) -> ParallelPairs:
    """Query i is answered by passage i; all in English, and each with an id of its own."""
    ids = [str(i) for i in range(len(passages))]
    pairs = {"query_id": ids[: len(queries)], "passage_id": ids[: len(queries)], "source": ["s"] * len(queries)}
    tables = pa.table({"query_id": ids[: len(queries)], "en": queries}), pa.table({"passage_id": ids, "en": passages})
    return ParallelPairs.build(*tables, pa.table(pairs | more), name="texts")


def test_equal_texts_under_other_ids_are_no_negatives():
    """Passages 0 and 2 have one text, and so have queries 1 and 3 and the negative of pair 1 and passage 3."""
    corpus = corpus_of(["a", "b", "c", "b"], ["x", "y", "x", "z", "z"], negatives=[[], ["4"], [], []])
    batch = BatchSampler(corpus, "en-en", batch_size=4, steps=1).batch(0)
    mask = prepare(TokenizedPairs(corpus, encoder(CORPUS)), batch, SETTINGS).mask
    pair = batch.pair.tolist()
    assert mask.shape == (4, 5)
    masked = {(pair[i], pair[j] if j < 4 else "negative") for i, j in mask.nonzero().tolist() if i != j}
    assert masked == {(0, 2), (2, 0), (1, 3), (3, 1), (3, "negative")}


def test_texts_are_compared_within_a_language():
    ids = ["0", "1"]
    texts = {"de": ["Berlin", "Rom"], "en": ["Berlin?", "Berlin"]}
    tables = (pa.table({key: ids, **texts}) for key in ("query_id", "passage_id"))
    pairs = pa.table({"query_id": ids, "passage_id": ids, "source": ["s", "s"]})
    corpus = ParallelPairs.build(*tables, pairs, name="names")
    batch = Batch(0, "x-x", np.array([0, 1]), np.array(["de", "en"]), np.array(["de", "en"]))
    assert prepare(TokenizedPairs(corpus, encoder(CORPUS)), batch, SETTINGS).mask.tolist() == [[1, 0], [0, 1]]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A checkpoint without dropout, and pairs, as the command line takes them."""
    folder = tmp_path_factory.mktemp("files")
    encoder(CORPUS, layers=1).save(folder / "start")
    pairs_file(folder / "pairs.jsonl", CORPUS)
    return folder


def command(files: Path, output: Path, processes: int, steps: int = 8) -> list[str]:
    """`hybridlib train` on some processes."""
    names = {"checkpoint": "start", "pairs": "pairs.jsonl", "validation": "pairs.jsonl"}
    options = [part for name, file in names.items() for part in (f"--{name}", str(files / file))]
    options += ["--validation-strategy", "x-x", "--validation-batches", "3", "--validate-every", "4"]
    options += ["--batch-size", "7", "--steps", str(steps), "--learning-rate", "1e-3", "--checkpoint-every", "4"]
    return launch_command(processes, ["train", *options, "--output", str(output)])


def test_two_processes_give_what_one_gives(files: Path, tmp_path: Path):
    alone, output = tmp_path / "one", tmp_path / "two"
    assert main(command(files, alone, 1)[3:]) == 0
    ran = subprocess.run(command(files, output, 2), capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert "on 2 processes" in ran.stdout
    ours, theirs = (pd.read_parquet(folder / "log.parquet") for folder in (output, alone))
    assert ours["mode"].tolist() == theirs["mode"].tolist()
    for name in ("loss", "grad_norm", "validation_loss"):
        pd.testing.assert_series_equal(ours[name], theirs[name], rtol=1e-5, check_exact=False)
    ours, theirs = (load_file(folder / "encoder" / "model.safetensors") for folder in (output, alone))
    # All together: the gradient of a key's bias is zero but for rounding.
    ours, theirs = (torch.cat([part[name].flatten() for name in sorted(part)]) for part in (ours, theirs))
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_a_killed_process_ends_the_run_which_then_goes_on(files: Path, tmp_path: Path):
    steps = 40
    whole = subprocess.Popen(command(files, tmp_path / "whole", 2, steps), stderr=subprocess.DEVNULL)
    killed = subprocess.Popen(command(files, tmp_path / "killed", 2, steps), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "training.safetensors").exists():
        assert killed.poll() is None and time.monotonic() < deadline, "no checkpoint before the end"
        time.sleep(0.01)
    workers = [child for child in psutil.Process(killed.pid).children(recursive=True) if is_worker(child)]
    assert len(workers) == 2
    workers[-1].kill()
    assert killed.wait(timeout=120) != 0
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    assert not (tmp_path / "killed" / "encoder").exists()
    assert subprocess.run(command(files, tmp_path / "killed", 2, steps), capture_output=True).returncode == 0
    assert whole.wait(timeout=240) == 0
    a, b = (load_file(tmp_path / name / "encoder" / "model.safetensors") for name in ("killed", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in b)


def is_worker(process: psutil.Process) -> bool:
    """One that trains, not what launched it."""
    line = process.cmdline()
    return "hybridlib" in line and not any("accelerate" in part for part in line)


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_shares_of_processes_add_up_to_the_batch(processes: int):
    model = encoder(CORPUS)
    batch = BatchSampler(CORPUS, "x-y", batch_size=9, steps=1).batch(0)
    tokens = TokenizedPairs(CORPUS, model)
    whole = prepare(tokens, batch, SETTINGS)
    shares = [prepare(tokens, batch, SETTINGS, i, processes) for i in range(processes)]
    assert [len(share.ids) for share in shares] == shares[0].sizes
    assert max(share.queries for share in shares) - min(share.queries for share in shares) <= 1
    texts = [ids.tolist() for share in shares for ids in share.ids]
    for name in ("query", "column"):
        expected = [whole.ids[place].tolist() for place in getattr(whole, name)]
        assert [texts[place] for place in getattr(shares[-1], name)] == expected
    assert torch.equal(shares[-1].mask, whole.mask)


def test_more_processes_than_places_are_refused(monkeypatch):
    monkeypatch.setattr("hybridlib.training.loop.all_processes", lambda device: SimpleNamespace(num_processes=3))
    sampler = BatchSampler(CORPUS, "x-y", batch_size=2, steps=1)
    with pytest.raises(ValueError, match="start fewer processes or raise batch_size"):
        train(encoder(CORPUS), sampler, SETTINGS, Path("never written"))
