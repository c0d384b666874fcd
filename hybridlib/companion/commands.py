"""What the commands of `python -m hybridlib` do; each takes its parsed arguments and returns the exit code.

Everything heavy is imported where it is used, so that --help and mistakes in arguments are answered at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def data(arguments: argparse.Namespace) -> int:
    """Write data sets of Table 9 as corpora."""
    from hybridlib.companion.sources.filters import Limits
    from hybridlib.companion.sources.leakage import protect
    from hybridlib.companion.sources.prepare import describe, prepare
    from hybridlib.companion.sources.table9 import SOURCES, find

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


def translate(arguments: argparse.Namespace) -> int:
    """Add languages to pairs."""
    from hybridlib.companion.sources.translation import TranslationSettings, Translator, translate_pairs

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


def train(arguments: argparse.Namespace) -> int:
    """Train an encoder with one strategy."""
    from hybridlib.sampler import BatchSampler
    from hybridlib.training.card import write_labels
    from hybridlib.training.loop import train
    from hybridlib.training.processes import all_processes
    from hybridlib.training.settings import TrainingSettings
    from hybridlib.training.tokens import TokenizedPairs

    processes = all_processes(arguments.device)  # before the encoder: gives each process its own GPU
    encoder = _encoder(arguments)
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
    names += ("patience", "checkpoint_every", "seed", "precision", "cached", "part_tokens", "compile")
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


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure a checkpoint in all settings of a benchmark."""
    from hybridlib import metrics
    from hybridlib.companion.report import summaries, tables
    from hybridlib.evaluation import encode_benchmark, evaluate_vectors
    from hybridlib.files import make_parent, write_json
    from hybridlib.training import card

    measures = arguments.measures or metrics.MEASURES
    metrics.check(measures)
    for path in (arguments.json, arguments.rows, arguments.trec_run, arguments.qrels):
        if path:
            make_parent(path)
    if arguments.card:
        card.require(Path(arguments.checkpoint))
    benchmark = _benchmark(arguments)
    summaries.language_pairs(benchmark, arguments.trec_setting)
    _check_trained(benchmark, arguments.trained)
    encoder = _encoder(arguments)
    options = {"batch_tokens": arguments.batch_tokens, "dtype": _dtype(arguments.precision)}
    vectors = encode_benchmark(benchmark, encoder, **options, progress=not arguments.quiet)
    result = evaluate_vectors(benchmark, *vectors, measures=measures)
    print(tables.evaluation_text(result, arguments.trained))
    if arguments.json:
        write_json(arguments.json, summaries.to_json(result))
    if arguments.rows:
        summaries.write_rows(result, arguments.rows, arguments.checkpoint)
    if arguments.card:
        card.add_scores(Path(arguments.checkpoint), result.benchmark, summaries.macro_scores(result))
    if arguments.trec_run or arguments.qrels:
        summaries.write_trec(
            benchmark,
            *vectors,
            setting=arguments.trec_setting,
            depth=arguments.trec_depth,
            run=arguments.trec_run,
            qrels=arguments.qrels,
        )
    return 0


def search(arguments: argparse.Namespace) -> int:
    """Search test collections and measure what is found."""
    import torch

    from hybridlib import metrics
    from hybridlib.companion.search import measure, sources
    from hybridlib.training.processes import all_processes

    measures = arguments.measures or measure.MEASURES
    metrics.check(measures)
    processes = all_processes(arguments.device)  # before the encoder: gives each process its own GPU
    encoder = _encoder(arguments)
    options = {"shard_size": arguments.shard_size, "batch_tokens": arguments.batch_tokens}
    options |= {"dtype": _dtype(arguments.precision), "progress": not arguments.quiet}
    options["score_dtype"] = _dtype(arguments.score_precision) or torch.float32
    for name in arguments.collections:
        with processes.main_process_first():
            found = sources.load(name, empty=arguments.empty)
        for collection in found:
            folder = arguments.output / collection.name
            options |= {"shards": folder / "search", "measures": measures}
            result = measure.search_collection(collection, encoder, arguments.depth, folder, **options)
            if processes.is_main_process:
                print(f"{collection.name}: {len(collection.passages)} passages")
                print(result.means().round(5).to_string(index=False), flush=True)
            processes.wait_for_everyone()
    processes.destroy_process_group()
    return 0


def experiment(arguments: argparse.Namespace) -> int:
    """Train and evaluate the encoders of a profile, and search test collections with them."""
    from hybridlib.companion.experiment import embedded_study
    from hybridlib.companion.questions import shared
    from hybridlib.companion.runner import literal
    from hybridlib.training.processes import all_processes

    values = {name: literal(text) for name, text in arguments.parameters}
    study, processes = embedded_study.study(arguments.profile, **values), all_processes()
    runs = _runs(study, arguments.strategy or ["x-x-mono", "x-y", "hybrid"], arguments.seed or study.settings.seeds)
    groups = ([name] if name not in shared.BENCHMARKS else shared.names(study, name) for name in arguments.search)
    collections = [one for group in groups for name in group for one in study.collections(name)]  # before any training
    for run in runs:
        folder = study.train(run)
        if processes.is_main_process:
            print(f"{run.name}: {folder / 'encoder'}; measured in {study.evaluation(run)}", flush=True)
        processes.wait_for_everyone()
        for collection in collections:
            searched = study.searched(run, collection)
            if processes.is_main_process:
                print(f"{run.name}: {collection.name} searched in {searched}", flush=True)
    processes.destroy_process_group()
    return 0


def _runs(study, strategies: Sequence[str], seeds: Sequence[int]) -> list:
    """The runs of these strategies and seeds, those of all mixing ratios among them."""
    unknown = [str(seed) for seed in seeds if seed not in study.settings.seeds]
    if unknown:
        known = " ".join(map(str, study.settings.seeds))
        raise ValueError(f"--seed {' '.join(unknown)}: the profile has {known}; -p seeds sets others")
    found = study.all_runs()
    more = [name for name in strategies if name not in {run.strategy for run in found}]
    return [run for run in found + study.runs(more) if run.strategy in strategies and run.seed in seeds]


def tables(arguments: argparse.Namespace) -> int:
    """Print the paper's tables beside what was reproduced."""
    from hybridlib.companion.report import paper, tables

    if arguments.rows and not arguments.base:
        raise ValueError("--rows needs --base xlm-r or labse: the paper's numbers belong to one of them")
    reproduced = tables.reproduced_cells(arguments.rows, arguments.base)
    for number in arguments.table:
        frame = tables.build(paper.reported(number), reproduced)
        print(f"\nTable {number}\n{tables.to_markdown(frame)}")
        for note in paper.notes(number):
            print(f"- {note}")
        if arguments.output:
            tables.write_tables(frame, arguments.output, f"table{number:02d}")
    return 0


def _encoder(arguments: argparse.Namespace):
    from hybridlib.encoder import Encoder

    names = ("revision", "pooling", "query_prefix", "passage_prefix", "max_length", "device")
    options = {name: getattr(arguments, name) for name in names} | {"dropout": getattr(arguments, "dropout", None)}
    return Encoder.load(arguments.checkpoint, **options)


def _mixed(names: list[str], folder: Path, processes):
    """The corpus of that name, or several written as one by the main process; all processes see the folder."""
    from hybridlib.corpora.base import ParallelPairs
    from hybridlib.corpora.write import concatenate

    if len(names) == 1:
        return _pairs(names[0])
    with processes.main_process_first():
        if processes.is_main_process:
            corpora = [_pairs(name) for name in names]
            return concatenate(folder, corpora, "+".join(corpus.name for corpus in corpora))
        return ParallelPairs.load(folder)


def _pairs(name: str, *, held_out: bool = False):
    from hybridlib.companion.sources.embedded.corpus import build_corpus
    from hybridlib.corpora.own import open_pairs

    if name != "demo":
        return open_pairs(name)
    return build_corpus().dev_pairs if held_out else build_corpus().train


def _benchmark(arguments: argparse.Namespace):
    from hybridlib.companion.sources.embedded.corpus import LANGUAGES, build_corpus
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
    from hybridlib.companion.experiment.runs import commit, device

    given = ("strategy", "seed", "steps", "batch_size", "learning_rate", "temperature", "negatives")
    labels = {name: getattr(arguments, name) for name in (*given, "mixture", "precision", "validation")}
    labels |= {"alpha": sampler.alpha if arguments.strategy == "hybrid" else None, "start": arguments.checkpoint}
    labels |= {"pairs": sampler.corpus.name}
    labels |= {name: getattr(encoder, name) for name in ("pooling", "max_length", "query_prefix", "passage_prefix")}
    about = {"languages": sampler.languages, "device": device(), "commit": commit(), "version": hybridlib.__version__}
    return labels | about
