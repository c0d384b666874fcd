"""Hybrid batches in a sentence-transformers training script: its trainer, its loss, its model, hybridlib's sampler.

    python examples/sentence_transformers_trainer.py --checkpoint FOLDER_OR_NAME --output FOLDER [--pairs FILE]

One process. On several, this trainer would have every process take all batches alike; give the sampler
`process=rank, processes=world_size`, and each takes its slice: a monolingual batch is then monolingual on all of them,
and each process's negatives are those of its slice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss
from torch.utils.data import DataLoader

from hybridlib.companion.sources.embedded.corpus import build_corpus
from hybridlib.corpora.own import load_pairs
from hybridlib.sampler import BatchSampler


class HybridTrainer(SentenceTransformerTrainer):
    """Takes its batches from `sampler`, which knows the pairs."""

    def __init__(self, *arguments, sampler: BatchSampler, **options) -> None:
        super().__init__(*arguments, **options)
        self.sampler = sampler

    def get_train_dataloader(self) -> DataLoader:
        """Columns anchor and positive, as the loss wants them."""

        def collate(items: list[dict]) -> dict:
            return self.data_collator([{"anchor": item["query"], "positive": item["passage"]} for item in items])

        return DataLoader(self.sampler.corpus, batch_sampler=self.sampler, collate_fn=collate)


def main() -> None:
    """Fine-tune a checkpoint and save it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", required=True, help="a sentence-transformers checkpoint")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--pairs", type=Path, help="pairs as DATA.md says (None: the embedded corpus)")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    pairs = load_pairs(options.pairs) if options.pairs else build_corpus().train
    model = SentenceTransformer(options.checkpoint, prompts={"query": "Query: ", "document": "Passage: "})
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(options.output / "trainer"),
        max_steps=options.steps,
        learning_rate=3e-5,
        prompts={"anchor": "Query: ", "positive": "Passage: "},
        logging_steps=1,
        save_strategy="no",
        report_to=[],
    )
    trainer = HybridTrainer(
        model=model,
        args=arguments,
        loss=MultipleNegativesRankingLoss(model),
        sampler=BatchSampler(pairs, "hybrid", alpha=0.5, batch_size=32, steps=options.steps),
    )
    trainer.train()
    model.save_pretrained(str(options.output / "encoder"))


if __name__ == "__main__":
    main()
