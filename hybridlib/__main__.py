"""Command line, for clusters and scripts: python -m hybridlib COMMAND; --help lists the commands."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

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
    commands = parser.add_subparsers(dest="command", required=True)
    for name, add, run, text in (
        ("data", _add_data, _data, "write data sets of the paper's Table 9 as corpora to train on"),
        ("train", _add_train, _train, "train an encoder with one strategy"),
        ("evaluate", _add_evaluate, _evaluate, "measure a checkpoint in all settings of a benchmark"),
        ("search", _add_search, _search, "search test collections such as MIRACL's and measure what is found"),
        ("experiment", _add_experiment, _experiment, "train and evaluate the encoders of a profile"),
        ("tables", _add_tables, _tables, "the paper's tables beside what was reproduced of them"),
        ("translate", _add_translate, _translate, "add languages to pairs with NLLB-200 or M2M-100"),
    ):
        command = commands.add_parser(
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
    parser.add_argument("--strategy", nargs="+", help="only these: x-x-mono, x-y, hybrid (None: all)")
    parser.add_argument("--seed", type=int, nargs="+", help="only these of the profile's seeds")
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


def _data(arguments: argparse.Namespace) -> int:
    from hybridlib.corpora.leakage import protect
    from hybridlib.corpora.prepare import describe, prepare
    from hybridlib.corpora.rows import Limits
    from hybridlib.corpora.table9 import SOURCES, find

    if not arguments.names:
        print("\n".join(describe()))
        return 0
    if not arguments.output:
        raise ValueError("--output is missing; name the folder to write to")
    names = [find(name).name for name in (SOURCES if arguments.names == ["all"] else arguments.names)]
    limits = Limits(tuple(arguments.query_length), tuple(arguments.passage_length), arguments.answer_within)
    protected = protect(arguments.check_leakage) if arguments.check_leakage else None
    options = {"languages": arguments.languages, "limit": arguments.limit, "limits": limits, "protected": protected}
    written = 0
    for prepared in prepare(names, arguments.output, **options):
        print("\n".join(prepared.lines()), file=sys.stderr if prepared.problem else sys.stdout, flush=True)
        written += not prepared.problem
    return 0 if written else 1


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


def _train(arguments: argparse.Namespace) -> int:
    from hybridlib.card import write_labels
    from hybridlib.gradients import all_processes
    from hybridlib.sampler import BatchSampler
    from hybridlib.tokens import TokenizedPairs
    from hybridlib.training import TrainingSettings, train

    encoder = _encoder(arguments)
    processes = all_processes(arguments.device)
    corpus, validation = _mixed(arguments.pairs, arguments.output / "pairs", processes), None
    options = {"batch_size": arguments.batch_size, "seed": arguments.seed, "languages": arguments.languages}
    options |= {"mixture": arguments.mixture, "steps": arguments.steps, "alpha": arguments.alpha}
    sampler = BatchSampler(corpus, arguments.strategy, **options)
    if arguments.validation:
        held_out, steps = _pairs(arguments.validation, held_out=True), arguments.validation_batches
        validation = BatchSampler(
            held_out, arguments.validation_strategy, batch_size=arguments.batch_size, steps=steps, seed=0
        )
    names = ("learning_rate", "weight_decay", "warmup", "temperature", "negatives", "symmetric", "validate_every")
    names += ("patience", "checkpoint_every", "seed", "precision", "cached", "part_tokens")
    settings = TrainingSettings(
        **{name: getattr(arguments, name) for name in names}, mask_translations=not arguments.keep_translations
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    state = arguments.output / "training.safetensors"
    tokens = TokenizedPairs(corpus, encoder, arguments.output / "tokens")
    options = {"validation": validation, "tokens": tokens, "device": arguments.device, "progress": True}
    log = train(encoder, sampler, settings, state, **options)
    if processes.is_main_process:
        log.to_parquet(arguments.output / "log.parquet")
        encoder.save(arguments.output / "encoder")
        kept = {"kept_step": int(log["best_step"].iloc[0])}
        write_labels(arguments.output / "encoder", _labels(arguments, sampler, encoder) | kept)
        state.unlink()
        loss, count = log["loss"].iloc[-1], processes.num_processes
        shared = f" on {count} processes" if count > 1 else ""
        print(f"{len(log)} steps{shared}, last loss {loss:.4f}; encoder in {arguments.output / 'encoder'}")
    processes.wait_for_everyone()
    processes.destroy_process_group()
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from hybridlib import card, metrics, report
    from hybridlib.evaluate import encode_benchmark, evaluate_vectors
    from hybridlib.storage import make_parent

    measures = arguments.measures or metrics.MEASURES
    metrics.check(measures)
    for path in (arguments.json, arguments.rows, arguments.trec_run, arguments.qrels):
        if path:
            make_parent(path)
    if arguments.card:
        card.require(Path(arguments.checkpoint))
    benchmark = _benchmark(arguments)
    report.language_pairs(benchmark, arguments.trec_setting)
    _check_trained(benchmark, arguments.trained)
    encoder = _encoder(arguments)
    options = {"batch_tokens": arguments.batch_tokens, "dtype": _dtype(arguments.precision)}
    vectors = encode_benchmark(benchmark, encoder, **options, progress=not arguments.quiet)
    result = evaluate_vectors(benchmark, *vectors, measures=measures)
    print(report.to_text(result, arguments.trained))
    if arguments.json:
        report.write_json_report(result, arguments.json)
    if arguments.rows:
        report.write_rows(result, arguments.rows, arguments.checkpoint)
    if arguments.card:
        card.add_scores(Path(arguments.checkpoint), result.benchmark, report.macro_scores(result))
    if arguments.trec_run or arguments.qrels:
        report.write_trec(
            benchmark,
            *vectors,
            setting=arguments.trec_setting,
            depth=arguments.trec_depth,
            run=arguments.trec_run,
            qrels=arguments.qrels,
        )
    return 0


def _tables(arguments: argparse.Namespace) -> int:
    from hybridlib import paper, report, tables

    if arguments.rows and not arguments.base:
        raise ValueError("--rows needs --base xlm-r or labse: the paper's numbers belong to one of them")
    reproduced = report.reproduced_cells(arguments.rows, arguments.base)
    for number in arguments.table:
        frame = tables.build(paper.reported(number), reproduced)
        print(f"\nTable {number}\n{tables.to_markdown(frame)}")
        for note in paper.notes(number):
            print(f"- {note}")
        if arguments.output:
            tables.write_tables(frame, arguments.output, f"table{number:02d}")
    return 0


def _translate(arguments: argparse.Namespace) -> int:
    from hybridlib.translate import TranslationSettings, Translator, translate_pairs

    pairs = _pairs(arguments.pairs)
    names = ("beams", "max_source_tokens", "batch_tokens")
    settings = TranslationSettings(**{name: getattr(arguments, name) for name in names})
    options = {name: getattr(arguments, name) for name in ("source", "rows_per_shard", "keep_flagged")}
    dtype = _dtype(arguments.precision)
    translator = Translator.load(arguments.model, revision=arguments.revision, device=arguments.device, dtype=dtype)
    options |= {"settings": settings, "progress": not arguments.quiet}
    made = translate_pairs(pairs, arguments.languages, arguments.output, translator, **options)
    print(made.counts.to_string(index=False))
    print(f"{len(made.corpus)} pairs in {' '.join(made.corpus.languages)}: {arguments.output / 'corpus'}")
    return 0


def _search(arguments: argparse.Namespace) -> int:
    import torch

    from hybridlib import metrics, retrieval
    from hybridlib.corpora import catalogue
    from hybridlib.gradients import all_processes
    from hybridlib.search import search

    measures = arguments.measures or retrieval.MEASURES
    metrics.check(measures)
    encoder, processes = _encoder(arguments), all_processes(arguments.device)
    options = {"shard_size": arguments.shard_size, "batch_tokens": arguments.batch_tokens}
    options |= {"dtype": _dtype(arguments.precision), "progress": not arguments.quiet}
    options["score_dtype"] = _dtype(arguments.score_precision) or torch.float32
    for name in arguments.collections:
        with processes.main_process_first():
            found = catalogue.load(name)
        for collection in found:
            folder = arguments.output / collection.name
            queries = collection.queries["text"].to_pylist()
            hits = search(collection.passages, encoder, queries, arguments.depth, folder / "search", **options)
            if processes.is_main_process:
                result = retrieval.measure(collection, hits, measures)
                print(f"{collection.name}: {len(collection.passages)} passages")
                print(result.means().round(5).to_string(index=False), flush=True)
                result.save(folder)
                retrieval.write_run(collection, hits, folder / "run.gz")
                retrieval.write_qrels(collection, folder / "qrels.gz")
            processes.wait_for_everyone()
    processes.destroy_process_group()
    return 0


def _experiment(arguments: argparse.Namespace) -> int:
    from hybridlib import experiment
    from hybridlib.gradients import all_processes
    from hybridlib.runner import literal

    values = {name: literal(text) for name, text in arguments.parameters}
    study, processes = experiment.study(arguments.profile, **values), all_processes()
    wanted = (arguments.strategy or ("x-x-mono", "x-y", "hybrid"), arguments.seed or study.settings.seeds)
    for run in study.all_runs():
        if run.strategy not in wanted[0] or run.seed not in wanted[1]:
            continue
        folder = study.train(run)
        if processes.is_main_process:
            print(f"{run.name}: {folder / 'encoder'}; measured in {study.evaluation(run)}", flush=True)
        processes.wait_for_everyone()
    processes.destroy_process_group()
    return 0


def _encoder(arguments: argparse.Namespace):
    from hybridlib.encoder import Encoder
    from hybridlib.presets import PRESETS, load_preset

    names = ("revision", "pooling", "query_prefix", "passage_prefix", "max_length", "device")
    options = {name: getattr(arguments, name) for name in names} | {"dropout": getattr(arguments, "dropout", None)}
    if arguments.checkpoint in PRESETS and not Path(arguments.checkpoint).exists():
        return load_preset(arguments.checkpoint, **{k: v for k, v in options.items() if v is not None})
    return Encoder.load(arguments.checkpoint, **options)


def _mixed(names: list[str], folder: Path, processes):
    """The corpus of that name, or several written as one by the main process; all processes see the folder."""
    from hybridlib.corpora.base import ParallelPairs
    from hybridlib.corpora.writer import concatenate

    if len(names) == 1:
        return _pairs(names[0])
    with processes.main_process_first():
        if processes.is_main_process:
            corpora = [_pairs(name) for name in names]
            return concatenate(folder, corpora, "+".join(corpus.name for corpus in corpora))
        return ParallelPairs.load(folder)


def _pairs(name: str, *, held_out: bool = False):
    from hybridlib.corpora.embedded import build_corpus
    from hybridlib.corpora.own import open_pairs

    if name != "demo":
        return open_pairs(name)
    return build_corpus().dev_pairs if held_out else build_corpus().train


def _benchmark(arguments: argparse.Namespace):
    from hybridlib.corpora.embedded import LANGUAGES, build_corpus
    from hybridlib.corpora.lareqa import load_lareqa

    if arguments.benchmark == "demo":
        return build_corpus(languages=tuple(arguments.languages or LANGUAGES)).test
    return load_lareqa(arguments.benchmark, languages=arguments.languages, with_paragraph=arguments.with_paragraph)


def _check_trained(benchmark, trained: list[str] | None) -> None:
    unknown = set(trained or ()) - set(benchmark.languages)
    if unknown:
        raise ValueError(f"--trained: {benchmark.name} has no language {sorted(unknown)[0]!r}")


def _dtype(precision: str):
    import torch

    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _labels(arguments: argparse.Namespace, sampler, encoder) -> dict:
    """What rows of this checkpoint will be labelled with, and what its model card says."""
    import hybridlib
    from hybridlib.runs import commit, device

    given = ("strategy", "seed", "steps", "batch_size", "learning_rate", "temperature", "negatives")
    labels = {name: getattr(arguments, name) for name in (*given, "mixture", "precision", "validation")}
    labels |= {"alpha": sampler.alpha if arguments.strategy == "hybrid" else None, "start": arguments.checkpoint}
    labels |= {"pairs": sampler.corpus.name}
    labels |= {name: getattr(encoder, name) for name in ("pooling", "max_length", "query_prefix", "passage_prefix")}
    about = {"languages": sampler.languages, "device": device(), "commit": commit(), "version": hybridlib.__version__}
    return labels | about


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
