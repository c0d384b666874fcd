"""Command line, for clusters and scripts: python -m hybridlib COMMAND; --help lists the commands."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from hybridlib.companion import commands

BENCHMARKS = ("demo", "xquad-r", "mlqa-r")


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 if it did its work, 1 if the data or the disk were in the way, 2 for wrong arguments."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hybridlib", description=__doc__, allow_abbrev=False)
    group = parser.add_subparsers(dest="command", required=True)
    for name, add, run, text in (
        ("data", _add_data, commands.data, "write data sets of the paper's Table 9 as corpora to train on"),
        ("train", _add_train, commands.train, "train an encoder with one strategy"),
        ("evaluate", _add_evaluate, commands.evaluate, "measure a checkpoint in all settings of a benchmark"),
        ("search", _add_search, commands.search, "search test collections such as MIRACL's and measure what is found"),
        ("experiment", _add_experiment, commands.experiment, "train and measure the encoders of a profile"),
        ("tables", _add_tables, commands.tables, "the paper's tables beside what was reproduced of them"),
        ("translate", _add_translate, commands.translate, "add languages to pairs with NLLB-200 or M2M-100"),
    ):
        command = group.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        add(command)
        command.set_defaults(run=run)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets, or: all; none: show which there are")
    parser.add_argument("--output", type=Path, help="folder; each data set gets a folder of its own in it")
    parser.add_argument("--languages", nargs="+", help="mMARCO's languages (None: the seven of Table 9)")
    parser.add_argument("--limit", type=int, help="pairs of each data set at most; of mMARCO triples to read")
    parser.add_argument("--query-length", type=int, nargs=2, default=(3, 1_000), help="characters, fewest and most")
    parser.add_argument("--passage-length", type=int, nargs=2, default=(3, 50_000), help="characters, fewest and most")
    parser.add_argument("--answer-within", type=int, help="characters of the passage that must hold the answer")
    parser.add_argument(
        "--check-leakage", nargs="+", metavar="SET", help="take out texts of xquad-r, mlqa-r, miracl and count them"
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="preset, folder or hub name to start from")
    parser.add_argument(
        "--pairs",
        required=True,
        nargs="+",
        help="JSONL, JSONL.gz or Parquet file of pairs (DATA.md), saved corpus (folder), or: demo; several mix",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for the trained encoder and its log")
    parser.add_argument("--strategy", default="hybrid", help="x-x-mono, x-y, hybrid, x-x or en-en")
    parser.add_argument("--alpha", type=float, help="share of monolingual batches; hybrid only (None: 0.5)")
    parser.add_argument("--languages", nargs="+", help="training languages (None: all of the pairs)")
    parser.add_argument("--mixture", default="language-first", help="language-first or dataset-first")
    parser.add_argument("--validation", help="file of pairs whose loss chooses the weights (None: the last weights)")
    parser.add_argument("--validation-strategy", default="en-en", help="batches of the validation loss")
    parser.add_argument("--validation-batches", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=100, help="the paper's")
    parser.add_argument("--learning-rate", type=float, default=3e-5, help="the paper's")
    parser.add_argument("--weight-decay", type=float, default=1e-2, help="the paper's")
    parser.add_argument("--warmup", type=float, default=0.1, help="share of the steps")
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--negatives", type=int, default=0, help="explicit negatives per pair")
    parser.add_argument("--symmetric", action="store_true", help="also find the query of each passage")
    parser.add_argument("--keep-translations", action="store_true", help="translations of the passage count as wrong")
    parser.add_argument("--validate-every", type=int, default=100)
    parser.add_argument("--patience", type=int, help="validations without gain before stopping (None: train on)")
    parser.add_argument("--checkpoint-every", type=int, default=500)
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"), help="no: fp32")
    parser.add_argument("--cached", action="store_true", help="memory of a part, whatever the batch size; slower")
    parser.add_argument("--part-tokens", type=int, help="padded tokens computed at once (None: as the device likes it)")
    parser.add_argument("--compile", action="store_true", help="torch.compile: a minute or more, then faster in bf16")
    parser.add_argument("--dropout", type=float, help="probability, in all layers (None: the checkpoint's)")
    parser.add_argument("--seed", type=int, default=0)
    _add_encoder(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, help="preset, folder or hub name")
    parser.add_argument("--benchmark", required=True, choices=BENCHMARKS)
    parser.add_argument("--languages", nargs="+", help="a part of the benchmark's languages (None: all)")
    parser.add_argument("--with-paragraph", action="store_true", help="append the paragraph to each candidate sentence")
    parser.add_argument("--measures", nargs="+", help="such as map map@20 recall@100 ndcg@10 mrr (None: the usual)")
    parser.add_argument("--trained", nargs="+", help="trained languages, to show trained and zero-shot means apart")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--rows", type=Path, help="write rows.parquet and ranks.parquet to this folder")
    parser.add_argument("--card", action="store_true", help="add the scores to the model card of a checkpoint of ours")
    parser.add_argument("--trec-run", type=Path, help="write a TREC run file (gzipped if it ends in .gz)")
    parser.add_argument("--qrels", type=Path, help="write the judgements of the run's setting")
    parser.add_argument("--trec-setting", default="multi", help="of the run: multi, mono, or a pair such as de-en")
    parser.add_argument("--trec-depth", type=int, default=1000, help="candidates per query in the run")
    parser.add_argument("--batch-tokens", type=int, default=1024, help="padded tokens encoded at once")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    _add_encoder(parser)


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "A killed search goes on where it was; under `accelerate launch` the processes share its shards."
    parser.add_argument("collections", nargs="+", metavar="NAME", help="miracl-sw, nfcorpus, tatoeba-deu: see DATA.md")
    parser.add_argument("--checkpoint", required=True, help="preset, folder or hub name")
    parser.add_argument("--output", required=True, type=Path, help="folder: rows, TREC files, finished shards of each")
    parser.add_argument("--depth", type=int, default=1000, help="passages per query")
    parser.add_argument("--empty", default="error", choices=("error", "keep"), help="what a passage without text is")
    parser.add_argument("--measures", nargs="+", help="such as ndcg@10 recall@100 mrr@10 map (None: the usual)")
    parser.add_argument("--shard-size", type=int, default=65_536, help="passages that a killed run may repeat")
    parser.add_argument("--batch-tokens", type=int, help="padded tokens encoded at once (None: as the device likes it)")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="of the encoder")
    parser.add_argument("--score-precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    _add_encoder(parser)


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Complete runs are used again. Under `accelerate launch` each run trains on all processes."
    parser.add_argument("--profile", default="paper", help="smoke, demo, colab or paper")
    parser.add_argument("--strategy", nargs="+", choices=("x-x-mono", "x-y", "hybrid", "x-x", "en-en"),
        help="only these (None: the first three)")  # fmt: skip
    parser.add_argument("--seed", type=int, nargs="+", help="only these of the profile's seeds")
    parser.add_argument("--search", nargs="+", default=[], metavar="NAME",
        help="what each run then searches: miracl, tydiqa, beir, tatoeba, or names of `search`")  # fmt: skip
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters",
        help="set a parameter of the profile, as a Python literal; may be repeated")  # fmt: skip


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("encoder", "by default as the checkpoint's own configuration says")
    group.add_argument("--revision", help="commit of a hub checkpoint")
    group.add_argument("--pooling", choices=("mean", "cls", "pooler"))
    group.add_argument("--query-prefix", help="the paper's: 'Query: '")
    group.add_argument("--passage-prefix", help="the paper's: 'Passage: '")
    group.add_argument("--max-length", type=int, help="tokens")
    group.add_argument("--device", help="cpu, cuda, cuda:1 (None: a GPU if there is one)")


def _add_tables(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", type=int, nargs="+", default=[1, 2], help="numbers of the paper's tables")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="folders that evaluate --rows wrote")
    parser.add_argument("--base", choices=("xlm-r", "labse"), help="starting checkpoint of those rows")
    parser.add_argument("--output", type=Path, help="folder for Markdown, LaTeX and CSV")


def _add_translate(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Several processes started with the same arguments share the work; a killed one is started again."
    parser.add_argument("--model", default="facebook/nllb-200-distilled-600M", help="folder or hub name")
    parser.add_argument("--revision", help="commit of a hub model")
    parser.add_argument("--pairs", required=True, help="as for train")
    parser.add_argument("--source", default="en", help="language to translate from")
    parser.add_argument("--languages", nargs="+", required=True, help="to translate into, where a text lacks them")
    parser.add_argument("--output", required=True, type=Path, help="folder; train reads its corpus/ as --pairs")
    parser.add_argument("--beams", type=int, default=1, help="1 is greedy")
    parser.add_argument("--max-source-tokens", type=int, default=200, help="longer sentences are cut")
    parser.add_argument("--batch-tokens", type=int, default=1024, help="padded source tokens translated at once")
    parser.add_argument("--rows-per-shard", type=int, default=512, help="texts that a killed run may repeat")
    parser.add_argument("--keep-flagged", action="store_true", help="keep copied, looping and other odd translations")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (None: the GPU of $LOCAL_RANK, else the first, if any)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
