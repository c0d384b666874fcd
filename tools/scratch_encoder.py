"""An encoder with random weights and a tokenizer of its own, trained on the texts of a file of pairs.

    python tools/scratch_encoder.py --pairs train.jsonl.gz --output FOLDER [--layers 2] [--hidden 256] ...

For languages that no checkpoint at hand knows: `python -m hybridlib train --checkpoint FOLDER` then starts from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from hybridlib.companion.sources.embedded.corpus import train_tokenizer
from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.own import open_pairs
from hybridlib.encoder import Encoder


def texts(pairs: ParallelPairs) -> Iterator[str]:
    """Every text once, in the order of the tables."""
    for table in (pairs.queries, pairs.passages):
        for lang in (column for column in table.column_names if column in pairs.languages):
            yield from (text for text in table[lang].to_pylist() if text)


def main() -> None:
    """Train the tokenizer, draw the weights, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=30_000)
    parser.add_argument("--layers", type=int, default=0, help="0 is the static-embedding encoder")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    options = parser.parse_args()
    tokenizer = train_tokenizer(texts(open_pairs(options.pairs)), vocabulary_size=options.vocabulary)
    sizes = {name: getattr(options, name) for name in ("layers", "hidden", "max_length", "seed")}
    encoder = Encoder.tiny(tokenizer, **sizes, heads=4)
    encoder.save(options.output)
    print(f"{len(tokenizer)} tokens, {sum(p.numel() for p in encoder.parameters()):,} weights: {options.output}")


if __name__ == "__main__":
    main()
