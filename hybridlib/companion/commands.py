"""The commands of `python -m hybridlib`: what each is told, and what it does.

A command is a function of dataclasses, whose fields are its flags; it returns the exit code, and its docstring is what
--help says. Everything heavy is imported where it is used, so that --help and mistakes in flags are answered at once.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hybridlib.sampler import STRATEGIES
from hybridlib.training.settings import BatchSettings, TrainingSettings

FLOATS = ("fp32", "bf16", "fp16")


def flag(text: str, default: object = None, **options: object) -> Any:
    """A field with its default and what --help says; `options` such as choices are argparse's."""
    return field(default=default, metadata={"help": text, **options})


needed = partial(flag, default=MISSING)  # a flag that must be given


def argument(name: str, **options: object) -> Callable:
    """Give a command an argument that is no field, such as names without a flag; `options` are argparse's."""

    def mark(command: Callable) -> Callable:
        command.arguments = [(name, options)]
        return command

    return mark


@dataclass(frozen=True)
class EncoderOptions:
    """The encoder of a command."""

    _argument_group_name = "encoder, by default as the checkpoint's own configuration says"

    checkpoint: str = needed("preset, folder or hub name")
    revision: str | None = flag("commit of a hub checkpoint")
    pooling: str | None = flag("of the token vectors", choices=("mean", "cls", "pooler"))
    query_prefix: str | None = flag("the paper's: 'Query: '")
    passage_prefix: str | None = flag("the paper's: 'Passage: '")
    max_length: int | None = flag("tokens")
    device: str | None = flag("cpu, cuda, cuda:1 (None: a GPU if there is one)")

    def load(self, dropout: float | None = None) -> Any:
        """The encoder on its device."""
        from hybridlib.encoder import Encoder

        options = asdict(self)
        return Encoder.load(options.pop("checkpoint"), dropout=dropout, **options)


@dataclass(frozen=True)
class DataOptions:
    """Which data sets are written, and what the filters let through."""

    output: Path | None = flag("folder; each data set gets a folder of its own in it")
    languages: list[str] | None = flag("mMARCO's languages (None: the seven of Table 9)")
    limit: int | None = flag("pairs of each data set at most; of mMARCO triples to read")
    query_length: list[int] | None = flag("characters, fewest and most (None: 3 and 1,000)")
    passage_length: list[int] | None = flag("characters, fewest and most (None: 3 and 50,000)")
    answer_within: int | None = flag("characters of the passage that must hold the answer")
    check_leakage: list[str] | None = flag("take out texts of xquad-r, mlqa-r, miracl and count them", metavar="SET")


@argument("names", nargs="*", metavar="NAME", help="data sets, or: all; none: show which there are")
def data(names: list[str], options: DataOptions) -> int:
    """Write data sets of the paper's Table 9 as corpora to train on."""
    from hybridlib.companion.sources.filters import TextLimits
    from hybridlib.companion.sources.leakage import protect
    from hybridlib.companion.sources.table9 import SOURCES, describe, find, prepare

    if not names:
        print("\n".join(describe()))
        return 0
    if not options.output:
        raise ValueError("--output is missing; name the folder to write to")
    names = [find(name).name for name in (SOURCES if names == ["all"] else names)]
    lengths = {"query": options.query_length, "passage": options.passage_length}
    if wrong := [name for name, length in lengths.items() if length and len(length) != 2]:
        raise ValueError(f"--{wrong[0]}-length takes two numbers: fewest and most characters")
    lengths = {name: tuple(length) for name, length in lengths.items() if length}
    limits = TextLimits(**lengths, answer_within=options.answer_within)
    protected = protect(options.check_leakage) if options.check_leakage else None
    how = {"languages": options.languages, "limit": options.limit, "limits": limits, "protected": protected}
    written = 0
    for prepared in prepare(names, options.output, **how):
        print("\n".join(prepared.lines()), file=sys.stderr if prepared.problem else sys.stdout, flush=True)
        written += not prepared.problem
    return 0 if written else 1


@dataclass(frozen=True)
class TranslateOptions:
    """What is translated, with what, and where it goes."""

    pairs: str = needed("as for train")
    languages: list[str] = needed("to translate into, where a text lacks them")
    output: Path = needed("folder; train reads its corpus/ as --pairs")
    model: str = flag("folder or hub name", "facebook/nllb-200-distilled-600M")
    revision: str | None = flag("commit of a hub model")
    source: str = flag("language to translate from", "en")
    beams: int = flag("1 is greedy", 1)
    max_source_tokens: int = flag("longer sentences are cut", 200)
    batch_tokens: int = flag("padded source tokens translated at once", 1024)
    rows_per_shard: int = flag("texts that a killed run may repeat", 512)
    keep_flagged: bool = flag("keep copied, looping and other odd translations", False)
    precision: str = flag("of the model", "fp32", choices=FLOATS)
    device: str | None = flag("cpu, cuda, cuda:1 (None: the GPU of $LOCAL_RANK, else the first, if any)")
    quiet: bool = flag("no progress bars", False)


def translate(options: TranslateOptions) -> int:
    """Add languages to pairs with NLLB-200 or M2M-100.

    Several processes started with the same arguments share the work; a killed one is started again.
    """
    from hybridlib.companion.sources.named import named_pairs
    from hybridlib.companion.sources.translation import TranslationSettings, Translator, translate_pairs

    pairs, loading = named_pairs(options.pairs), {"revision": options.revision, "device": options.device}
    translator = Translator.load(options.model, dtype=_dtype(options.precision), **loading)
    made = translate_pairs(
        pairs,
        options.languages,
        options.output,
        translator,
        source=options.source,
        settings=TranslationSettings(options.beams, options.max_source_tokens, options.batch_tokens),
        rows_per_shard=options.rows_per_shard,
        keep_flagged=options.keep_flagged,
        progress=not options.quiet,
    )
    print(made.counts.to_string(index=False))
    print(f"{len(made.corpus)} pairs in {' '.join(made.corpus.languages)}: {options.output / 'corpus'}")
    return 0


@dataclass(frozen=True)
class TrainOptions:
    """What the encoder is trained on, and where it goes."""

    pairs: list[str] = needed("JSONL, JSONL.gz or Parquet file (DATA.md), saved corpus (folder), or: demo; several mix")
    output: Path = needed("folder for the trained encoder and its log")
    validation: str | None = flag("pairs whose loss chooses the weights (None: the last weights)")
    validation_strategy: str = flag("batches of the validation loss", "en-en", choices=STRATEGIES)
    validation_batches: int = flag("number of them", 10)
    dropout: float | None = flag("probability, in all layers (None: the checkpoint's)")


def train(options: TrainOptions, batches: BatchSettings, settings: TrainingSettings, encoder: EncoderOptions) -> int:
    """Train an encoder with one strategy."""
    from hybridlib.companion.experiment.runs import commit, device
    from hybridlib.companion.sources.named import named_pairs
    from hybridlib.training.loop import train_encoder
    from hybridlib.training.processes import all_processes
    from hybridlib.training.tokens import TokenizedPairs

    processes = all_processes(encoder.device)  # before the encoder: gives each process its own GPU
    model, pairs, validation = encoder.load(options.dropout), named_pairs(*options.pairs), None
    sampler = batches.sampler(pairs)
    if options.validation:
        size = {"batch_size": batches.batch_size, "steps": options.validation_batches}
        held_out = named_pairs(options.validation, held_out=True)
        validation = BatchSettings(options.validation_strategy, **size).sampler(held_out)
    log = train_encoder(
        options.output,
        model,
        sampler,
        settings,
        validation=validation,
        tokens=TokenizedPairs(pairs, model, options.output / "tokens"),
        labels={"start": encoder.checkpoint, "device": device(), "commit": commit()},
        device=encoder.device,
        progress=True,
    )
    if processes.is_main_process:
        folder, count = options.output / "encoder", processes.num_processes
        shared = f" on {count} processes" if count > 1 else ""
        print(f"{len(log)} steps{shared}, last loss {log['loss'].iloc[-1]:.4f}; encoder in {folder}")
        if pairs.repeats_in_words:
            print(pairs.repeats_in_words)
    processes.destroy_process_group()
    return 0


@dataclass(frozen=True)
class EvaluateOptions:
    """What the checkpoint is measured on, and what is written."""

    benchmark: str = needed("what to measure on", choices=("demo", "xquad-r", "mlqa-r"))
    languages: list[str] | None = flag("a part of the benchmark's languages (None: all)")
    with_paragraph: bool = flag("append the paragraph to each candidate sentence", False)
    measures: list[str] | None = flag("such as map map@20 recall@100 ndcg@10 mrr (None: the usual)")
    trained: list[str] | None = flag("trained languages, to show trained and zero-shot means apart")
    json: Path | None = flag("write all numbers to this file")
    rows: Path | None = flag("write rows.parquet and ranks.parquet to this folder")
    card: bool = flag("add the scores to the model card of a checkpoint of ours", False)
    trec_run: Path | None = flag("write a TREC run file (gzipped if it ends in .gz)")
    qrels: Path | None = flag("write the judgements of the run's setting")
    trec_setting: str = flag("of the run: multi, mono, or a pair such as de-en", "multi")
    trec_depth: int = flag("candidates per query in the run", 1000)
    batch_tokens: int = flag("padded tokens encoded at once", 1024)
    precision: str = flag("of the encoder", "fp32", choices=FLOATS)
    quiet: bool = flag("no progress bars", False)


def evaluate(options: EvaluateOptions, encoder: EncoderOptions) -> int:
    """Measure a checkpoint in all settings of a benchmark."""
    from hybridlib import metrics
    from hybridlib.companion.report import summaries, tables
    from hybridlib.companion.sources.named import named_benchmark
    from hybridlib.evaluation import encode_benchmark, evaluate_vectors
    from hybridlib.files import make_parent, write_json
    from hybridlib.training import card

    measures = options.measures or metrics.MEASURES
    metrics.check(measures)
    for path in (options.json, options.rows, options.trec_run, options.qrels):
        if path:
            make_parent(path)
    if options.card:
        card.require_labels(Path(encoder.checkpoint))
    benchmark = named_benchmark(options.benchmark, languages=options.languages, with_paragraph=options.with_paragraph)
    summaries.language_pairs(benchmark, options.trec_setting)
    if unknown := set(options.trained or ()) - set(benchmark.languages):
        raise ValueError(f"--trained: {benchmark.name} has no language {min(unknown)!r}")
    encoding = {"batch_tokens": options.batch_tokens, "dtype": _dtype(options.precision)}
    vectors = encode_benchmark(benchmark, encoder.load(), **encoding, progress=not options.quiet)
    result = evaluate_vectors(benchmark, *vectors, measures=measures)
    print(tables.evaluation_text(result, options.trained))
    if options.json:
        write_json(options.json, summaries.to_json(result))
    if options.rows:
        summaries.write_rows(result, options.rows, encoder.checkpoint)
    if options.card:
        card.add_scores(Path(encoder.checkpoint), result.benchmark, summaries.macro_scores(result))
    if options.trec_run or options.qrels:
        files = {"run": options.trec_run, "qrels": options.qrels}
        summaries.write_trec(benchmark, *vectors, setting=options.trec_setting, depth=options.trec_depth, **files)
    return 0


@dataclass(frozen=True)
class SearchOptions:
    """How collections are searched, and where the results go."""

    output: Path = needed("folder: rows, TREC files, finished shards of each")
    depth: int = flag("passages per query", 1000)
    empty: str = flag("what a passage without text is", "error", choices=("error", "keep"))
    measures: list[str] | None = flag("such as ndcg@10 recall@100 mrr@10 map (None: the usual)")
    shard_size: int = flag("passages that a killed run may repeat", 65_536)
    batch_tokens: int | None = flag("padded tokens encoded at once (None: as the device likes it)")
    precision: str = flag("of the encoder", "fp32", choices=FLOATS)
    score_precision: str = flag("of the products of vectors", "fp32", choices=FLOATS)
    quiet: bool = flag("no progress bars", False)


@argument("collections", nargs="+", metavar="NAME", help="miracl-sw, nfcorpus, tatoeba-deu: see DATA.md")
def search(collections: list[str], options: SearchOptions, encoder: EncoderOptions) -> int:
    """Search test collections such as MIRACL's and measure what is found.

    A killed search goes on where it was; under `accelerate launch` the processes share its shards.
    """
    import torch

    from hybridlib import metrics
    from hybridlib.companion.search import measure, sources
    from hybridlib.training.processes import all_processes

    measures = options.measures or measure.MEASURES
    metrics.check(measures)
    processes = all_processes(encoder.device)  # before the encoder: gives each process its own GPU
    model = encoder.load()
    how = {"shard_size": options.shard_size, "batch_tokens": options.batch_tokens, "progress": not options.quiet}
    how |= {"dtype": _dtype(options.precision), "score_dtype": _dtype(options.score_precision) or torch.float32}
    for name in collections:
        with processes.main_process_first():
            loaded = sources.load(name, empty=options.empty)
        for collection in loaded:
            folder = options.output / collection.name
            searched = {"shards": folder / "search", "measures": measures, **how}
            result = measure.search_collection(collection, model, options.depth, folder, **searched)
            if processes.is_main_process:
                print(f"{collection.name}: {len(collection.passages)} passages")
                print(result.means().round(5).to_string(index=False), flush=True)
            processes.wait_for_everyone()
    processes.destroy_process_group()
    return 0


@dataclass(frozen=True)
class ExperimentOptions:
    """Which runs of which profile are made."""

    profile: str = flag("smoke, demo, colab or paper", "paper")
    strategy: list[str] | None = flag("only these (None: x-x-mono, x-y, hybrid)", choices=STRATEGIES)
    seed: list[int] | None = flag("only these of the profile's seeds")
    search: list[str] | None = flag(
        "what each run then searches: miracl, tydiqa, beir, tatoeba, or names of `search`", metavar="NAME"
    )


SETTING = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE"), "dest": "settings"}


@argument("-p", **SETTING, help="set a parameter of the profile, as a Python literal; may be repeated")
def experiment(settings: list[list[str]], options: ExperimentOptions) -> int:
    """Train and measure the encoders of a profile, and search test collections with them.

    Complete runs are used again. Under `accelerate launch` each run trains on all processes.
    """
    from hybridlib.companion.experiment import searches
    from hybridlib.companion.experiment.study import CORE, open_study
    from hybridlib.training.processes import all_processes

    study = open_study(options.profile, {name: _literal(text) for name, text in settings})
    processes = all_processes()
    runs = _runs(study, options.strategy or CORE, options.seed or study.settings.seeds)
    names = []
    for name in options.search or ():
        names += searches.names(name, options.profile) if name in searches.BENCHMARKS else [name]
    collections = [collection for name in names for collection in study.collections(name)]  # before any training
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


def _literal(text: str) -> object:
    """A Python literal, or the text itself where it is none."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _runs(study: Any, strategies: Sequence[str], seeds: Sequence[int]) -> list:
    """The runs of these strategies and seeds, those of all mixing ratios among them."""
    if unknown := [str(seed) for seed in seeds if seed not in study.settings.seeds]:
        known = " ".join(map(str, study.settings.seeds))
        raise ValueError(f"--seed {' '.join(unknown)}: the profile has {known}; -p seeds sets others")
    runs = study.all_runs()
    more = [name for name in strategies if name not in {run.strategy for run in runs}]
    return [run for run in runs + study.runs(more) if run.strategy in strategies and run.seed in seeds]


@dataclass(frozen=True)
class TablesOptions:
    """Which tables, and what stands beside the paper's numbers."""

    table: list[int] | None = flag("numbers of the paper's tables (None: 1 and 2)")
    rows: list[Path] | None = flag("folders that evaluate --rows wrote")
    base: str | None = flag("starting checkpoint of those rows", choices=("xlm-r", "labse"))
    output: Path | None = flag("folder for Markdown, LaTeX and CSV")


def tables(options: TablesOptions) -> int:
    """Show the paper's tables beside what was reproduced of them."""
    from hybridlib.companion.report import paper, tables

    if options.rows and not options.base:
        raise ValueError("--rows needs --base xlm-r or labse: the paper's numbers belong to one of them")
    reproduced = tables.reproduced_cells(options.rows or [], options.base)
    for number in options.table or (1, 2):
        frame = tables.build(paper.reported(number), reproduced)
        print(f"\nTable {number}\n{tables.render(frame, 'md')}")
        for note in paper.notes(number):
            print(f"- {note}")
        if options.output:
            tables.write_tables(frame, options.output, f"table{number:02d}")
    return 0


def _dtype(precision: str) -> Any:
    import torch

    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


COMMANDS = (data, train, evaluate, search, experiment, tables, translate)
