"""Hybrid batches in a training loop of your own: a plain DataLoader, any encoder, hybridlib's loss.

    python examples/dataloader.py [--pairs FILE] [--steps 50]

Several processes: give the sampler `process=rank, processes=world_size` and each iterates over its slice of every
global batch. This loop then sees negatives of its own slice only; `hybridlib.training.train` gathers all of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from hybridlib.companion.sources.embedded.corpus import build_corpus, train_tokenizer
from hybridlib.corpora.own import load_pairs
from hybridlib.encoder import Encoder
from hybridlib.loss import info_nce
from hybridlib.sampler import BatchSampler


def main() -> None:
    """Train a tiny encoder, and print the loss as it falls."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--pairs", type=Path, help="pairs as DATA.md says (None: the embedded corpus)")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    pairs = load_pairs(options.pairs) if options.pairs else build_corpus().train
    texts = [text for table in (pairs.queries, pairs.passages) for lang in pairs.languages for text in table[lang]]
    encoder = Encoder.tiny(train_tokenizer([text.as_py() for text in texts if text.is_valid], vocabulary_size=4000))
    sampler = BatchSampler(pairs, "hybrid", alpha=0.5, batch_size=32, steps=options.steps)
    loader = DataLoader(pairs, batch_sampler=sampler, collate_fn=list)  # dictionaries: query, passage, negatives
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-2)

    def vectors(texts: list[str]) -> torch.Tensor:
        tokens = encoder.tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
        return encoder(tokens["input_ids"], tokens["attention_mask"])

    for step, batch in enumerate(loader):
        q = vectors([pair["query"] for pair in batch])
        p = vectors([pair["passage"] for pair in batch])
        loss = info_nce(q, p, temperature=0.05)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}  {sampler.batch(step).mode:8}  loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
