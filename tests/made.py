"""Small things that several tests make: a parallel corpus, a file of it, a tokenizer, an encoder; and processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hybridlib.corpora import ParallelPairs
from hybridlib.encoder import Encoder


def parallel_corpus(
    n: int = 40, languages: tuple[str, ...] = ("de", "en", "fr"), negatives: bool = False
) -> ParallelPairs:
    """Question i ("<lang>-ask thing<i>") is answered by passage i ("<lang>-tell thing<i> ...") in every language."""
    ids = [str(i) for i in range(n)]
    queries = {"query_id": ids, **{lang: [f"{lang}ask thing{i}" for i in ids] for lang in languages}}
    passages = {"passage_id": ids, **{lang: [f"{lang}tell thing{i} of {n}" for i in ids] for lang in languages}}
    pairs = {"query_id": ids, "passage_id": ids, "source": ["made"] * n}
    if negatives:
        pairs["negatives"] = [[str((i + 1) % n), str((i + 2) % n)] for i in range(n)]
    return ParallelPairs.build(pa.table(queries), pa.table(passages), pa.table(pairs), name="made")


def tokenizer(corpus: ParallelPairs) -> PreTrainedTokenizerFast:
    """A word tokenizer of the corpus."""
    texts = [
        text
        for table in (corpus.queries, corpus.passages)
        for lang in corpus.languages
        for text in table[lang].to_pylist()
    ]
    inner = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"]))
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]")


def encoder(corpus: ParallelPairs, *, layers: int = 0, seed: int = 0) -> Encoder:
    """A tiny encoder with random weights."""
    return Encoder.tiny(tokenizer(corpus), layers=layers, hidden=32, seed=seed)


def pairs_file(path: Path, corpus: ParallelPairs) -> Path:
    """The pairs of a corpus in the file format that `load_pairs` reads."""
    with open(path, "w", encoding="utf-8") as file:
        for q, p in zip(corpus.query_rows.tolist(), corpus.passage_rows.tolist(), strict=True):
            texts = {f"query_{lang}": corpus.queries[lang][q].as_py() for lang in corpus.languages}
            texts |= {f"passage_{lang}": corpus.passages[lang][p].as_py() for lang in corpus.languages}
            file.write(json.dumps({"query_id": f"q{q}", "passage_id": f"p{p}", **texts}) + "\n")
    return path


def launch_command(processes: int, command: Sequence[str]) -> list[str]:
    """Words that run `python -m hybridlib COMMAND` on some processes of this machine's CPUs, by accelerate launch.

    With --cpu Accelerate wants MPI; its --multi_gpu is torchrun, and runs on CPUs where there is no GPU.
    """
    launch = [sys.executable, "-m"]
    if processes > 1:
        options = ["--multi_gpu", "--num_processes", str(processes), "--main_process_port", "0"]
        options += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launch += ["accelerate.commands.launch", *options, "-m"]
    return [*launch, "hybridlib", *command]


def launched(processes: int, command: Sequence[str], **environment: str) -> str:
    """What `launch_command` prints; an AssertionError where it fails."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    ran = subprocess.run(launch_command(processes, command), env=variables, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
