"""The commands of `python -m hybridlib`: what each is told, and what it does.

A command is a dataclass: its fields are the flags, its docstring is what --help says, `run` does the work. Everything
heavy is imported where it is used, so that --help and mistakes in flags are answered at once.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hybridlib.sampler import STRATEGIES
from hybridlib.training.settings import BatchSettings, TrainingSettings

FLOATS = ("fp32", "bf16", "fp16")


def flag(text: str, default: object = None, **options: object) -> Any:
    """A field with its default and what --help says; `options` such as choices are argparse's."""
    return field(default=default, metadata={"help": text, **options})


needed = partial(flag, default=MISSING)  # a flag that must be given


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command; `argument`, name and argparse's options, is one that is no field: `run` gets it."""

    argument: ClassVar[tuple[str, dict[str, Any]] | None] = None

    def part(self, kind: type) -> Any:
        """The flags that are fields of another dataclass, as one."""
        return kind(**{part.name: getattr(self, part.name) for part in fields(kind)})


@dataclass(frozen=True, kw_only=True)
class WithEncoder(Command):
    """A command that needs an encoder. What is not given of it is as the checkpoint's own configuration says."""

    checkpoint: str = needed("encoder: preset, folder or hub name; its own configuration decides what is not given")
    revision: str | None = flag("commit of a hub checkpoint")
    pooling: str | None = flag("of the token vectors (None: the checkpoint's)", choices=("mean", "cls", "pooler"))
    query_prefix: str | None = flag("the paper's: 'Query: ' (None: the checkpoint's)")
    passage_prefix: str | None = flag("the paper's: 'Passage: ' (None: the checkpoint's)")
    max_length: int | None = flag("tokens (None: the checkpoint's)")
    device: str | None = flag("cpu, cuda, cuda:1 (None: a GPU if there is one)")

    def load(self, dropout: float | None = None) -> Any:
        """The encoder on its device."""
        from hybridlib.encoder import Encoder

        names = ("revision", "pooling", "query_prefix", "passage_prefix", "max_length", "device")
        return Encoder.load(self.checkpoint, dropout=dropout, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Measuring(WithEncoder):
    """A command that encodes texts and measures what it finds among them."""

    measures: list[str] | None = flag("such as map map@20 recall@100 ndcg@10 mrr (None: the usual)")
    batch_tokens: int | None = flag("padded tokens encoded at once (None: 1,024; searches on a GPU 16,384)")
    precision: str = flag("of the encoder", "fp32", choices=FLOATS)
    quiet: bool = flag("no progress bars", False)


@dataclass(frozen=True, kw_only=True)
class Data(Command):
    """Write data sets of the paper's Table 9 as corpora to train on."""

    argument = "names", {"nargs": "*", "metavar": "NAME", "help": "data sets, or: all; none: show which there are"}
    output: Path | None = flag("folder; each data set gets a folder of its own in it")
    languages: list[str] | None = flag("mMARCO's languages (None: the seven of Table 9)")
    limit: int | None = flag("pairs of each data set at most; of mMARCO triples to read")
    query_length: list[int] | None = flag("characters, fewest and most (None: 3 and 1,000)")
    passage_length: list[int] | None = flag("characters, fewest and most (None: 3 and 50,000)")
    answer_within: int | None = flag("characters of the passage that must hold the answer")
    check_leakage: list[str] | None = flag("take out texts of xquad-r, mlqa-r, miracl and count them", metavar="SET")

    def run(self, names: list[str]) -> int:
        """Show or write data sets; 1 where none could be written."""
        from hybridlib.companion.sources.filters import TextLimits
        from hybridlib.companion.sources.leakage import protect
        from hybridlib.companion.sources.table9 import SOURCES, describe, find, load, report

        if not names:
            print("\n".join(describe()))
            return 0
        if not self.output:
            raise ValueError("--output is missing; name the folder to write to")
        lengths = {"query": self.query_length, "passage": self.passage_length}
        if wrong := [name for name, length in lengths.items() if length and len(length) != 2]:
            raise ValueError(f"--{wrong[0]}-length takes two numbers: fewest and most characters")
        lengths = {name: tuple(length) for name, length in lengths.items() if length}
        limits = TextLimits(**lengths, answer_within=self.answer_within)
        names = [find(name).name for name in (SOURCES if names == ["all"] else names)]
        protected = protect(self.check_leakage) if self.check_leakage else None
        how = {"languages": self.languages, "limit": self.limit, "limits": limits, "protected": protected}
        written = 0
        for name in names:
            try:
                load(name, self.output / name, **how)
            except OSError as error:
                print(f"{name}: left out. {error}", file=sys.stderr)
                continue
            print(report(name, self.output / name), flush=True)
            written += 1
        return 0 if written else 1


@dataclass(frozen=True, kw_only=True)
class Translate(Command):
    """Add languages to pairs with NLLB-200 or M2M-100.

    Several processes started with the same arguments share the work; a killed one is started again.
    """

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

    def run(self) -> None:
        """Translate what is not translated yet."""
        from hybridlib.companion.sources.named import named_pairs
        from hybridlib.companion.sources.translation import TranslationSettings, Translator, translate_pairs

        pairs, loading = named_pairs(self.pairs), {"revision": self.revision, "device": self.device}
        translator = Translator.load(self.model, dtype=_dtype(self.precision), **loading)
        how = {name: getattr(self, name) for name in ("source", "rows_per_shard", "keep_flagged")}
        how["settings"] = TranslationSettings(self.beams, self.max_source_tokens, batch_tokens=self.batch_tokens)
        corpus, counts = translate_pairs(pairs, self.languages, self.output, translator, progress=not self.quiet, **how)
        print(counts.to_string(index=False))
        print(f"{len(corpus)} pairs in {' '.join(corpus.languages)}: {self.output / 'corpus'}")


@dataclass(frozen=True, kw_only=True)
class Train(TrainingSettings, BatchSettings, WithEncoder):
    """Train an encoder with one strategy."""

    pairs: list[str] = needed("JSONL, JSONL.gz or Parquet file (DATA.md), saved corpus (folder), or: demo; several mix")
    output: Path = needed("folder for the trained encoder and its log")
    validation: str | None = flag("pairs whose loss chooses the weights (None: the last weights)")
    validation_strategy: str = flag("batches of the validation loss", "en-en", choices=STRATEGIES)
    validation_batches: int = flag("number of them", 10)
    dropout: float | None = flag("probability, in all layers (None: the checkpoint's)")

    def run(self) -> None:
        """Train, and say where the encoder is."""
        from hybridlib.companion.experiment.runs import commit, device
        from hybridlib.companion.sources.named import named_pairs
        from hybridlib.training.loop import train_encoder
        from hybridlib.training.processes import all_processes

        processes = all_processes(self.device)  # before the encoder: gives each process its own GPU
        encoder, pairs = self.load(self.dropout), named_pairs(*self.pairs)
        options = {"labels": {"start": self.checkpoint, "device": device(), "commit": commit()}, "device": self.device}
        sampler, settings = self.part(BatchSettings).sampler(pairs), self.part(TrainingSettings)
        if self.validation:
            size = {"batch_size": self.batch_size, "steps": self.validation_batches}
            held_out = named_pairs(self.validation, held_out=True)
            options["validation"] = BatchSettings(self.validation_strategy, **size).sampler(held_out)
        log = train_encoder(self.output, encoder, sampler, settings, progress=True, **options)
        if processes.is_main_process:
            count = processes.num_processes
            shared = f" on {count} processes" if count > 1 else ""
            print(
                f"{len(log)} steps{shared}, last loss {log['loss'].iloc[-1]:.4f}; encoder in {self.output / 'encoder'}"
            )
            if pairs.repeats_in_words:
                print(pairs.repeats_in_words)
        processes.destroy_process_group()


@dataclass(frozen=True, kw_only=True)
class Evaluate(Measuring):
    """Measure a checkpoint in all settings of a benchmark."""

    benchmark: str = needed("what to measure on", choices=("demo", "xquad-r", "mlqa-r"))
    languages: list[str] | None = flag("a part of the benchmark's languages (None: all)")
    with_paragraph: bool = flag("append the paragraph to each candidate sentence", False)
    trained: list[str] | None = flag("trained languages, to show trained and zero-shot means apart")
    json: Path | None = flag("write all numbers to this file")
    rows: Path | None = flag("write rows.parquet and ranks.parquet to this folder")
    card: bool = flag("add the scores to the model card of a checkpoint of ours", False)
    trec_run: Path | None = flag("write a TREC run file (gzipped if it ends in .gz)")
    qrels: Path | None = flag("write the judgements of the run's setting")
    trec_setting: str = flag("of the run: multi, mono, or a pair such as de-en", "multi")
    trec_depth: int = flag("candidates per query in the run", 1000)

    def run(self) -> None:
        """Measure, print and write; mistakes are named before anything is encoded."""
        from hybridlib import metrics
        from hybridlib.companion.report import summaries, tables
        from hybridlib.companion.sources.named import named_benchmark
        from hybridlib.evaluation import encode_benchmark, evaluate_vectors
        from hybridlib.files import make_parent, write_json
        from hybridlib.training import card

        metrics.check(self.measures or metrics.MEASURES)
        for path in (self.json, self.rows, self.trec_run, self.qrels):
            if path:
                make_parent(path)
        if self.card:
            card.require_labels(Path(self.checkpoint))
        benchmark = named_benchmark(self.benchmark, languages=self.languages, with_paragraph=self.with_paragraph)
        summaries.language_pairs(benchmark, self.trec_setting)
        if unknown := set(self.trained or ()) - set(benchmark.languages):
            raise ValueError(f"--trained: {benchmark.name} has no language {min(unknown)!r}")
        encoding = {"batch_tokens": self.batch_tokens or 1024, "dtype": _dtype(self.precision)}
        vectors = encode_benchmark(benchmark, self.load(), **encoding, progress=not self.quiet)
        result = evaluate_vectors(benchmark, *vectors, measures=self.measures or metrics.MEASURES)
        print(tables.evaluation_text(result, self.trained))
        if self.json:
            write_json(self.json, summaries.to_json(result))
        if self.rows:
            summaries.write_rows(result, self.rows, self.checkpoint)
        if self.card:
            card.add_scores(Path(self.checkpoint), result.benchmark, summaries.macro_scores(result))
        if self.trec_run or self.qrels:
            how = {"setting": self.trec_setting, "depth": self.trec_depth, "run": self.trec_run, "qrels": self.qrels}
            summaries.write_trec(benchmark, *vectors, **how)


@dataclass(frozen=True, kw_only=True)
class Search(Measuring):
    """Search test collections such as MIRACL's and measure what is found.

    A killed search goes on where it was; under `accelerate launch` the processes share its shards.
    """

    argument = "collections", {"nargs": "+", "metavar": "NAME", "help": "miracl-sw, nfcorpus, tatoeba-deu: see DATA.md"}
    output: Path = needed("folder: rows, TREC files, finished shards of each")
    depth: int = flag("passages per query", 1000)
    empty: str = flag("what a passage without text is", "error", choices=("error", "keep"))
    shard_size: int = flag("passages that a killed run may repeat", 65_536)
    score_precision: str = flag("of the products of vectors", "fp32", choices=FLOATS)

    def run(self, collections: list[str]) -> None:
        """Search one collection after the other."""
        import torch

        from hybridlib import metrics
        from hybridlib.companion.search import measure, sources
        from hybridlib.training.processes import all_processes

        how = {"measures": self.measures or measure.MEASURES, "shard_size": self.shard_size}
        metrics.check(how["measures"])
        processes = all_processes(self.device)  # before the encoder: gives each process its own GPU
        encoder = self.load()
        how |= {"batch_tokens": self.batch_tokens, "progress": not self.quiet, "dtype": _dtype(self.precision)}
        how["score_dtype"] = _dtype(self.score_precision) or torch.float32
        for name in collections:
            with processes.main_process_first():
                loaded = sources.load(name, empty=self.empty)
            for collection in loaded:
                folder = self.output / collection.name
                result = measure.search_collection(
                    collection, encoder, self.depth, folder, shards=folder / "search", **how
                )
                if processes.is_main_process:
                    print(f"{collection.name}: {len(collection.passages)} passages")
                    print(result.means().round(5).to_string(index=False), flush=True)
                processes.wait_for_everyone()
        processes.destroy_process_group()


@dataclass(frozen=True, kw_only=True)
class Experiment(Command):
    """Train and measure the encoders of a profile, and search test collections with them.

    Complete runs are used again. Under `accelerate launch` each run trains on all processes.
    """

    argument = (
        "-p",
        {
            "nargs": 2,
            "action": "append",
            "default": [],
            "metavar": ("NAME", "VALUE"),
            "dest": "parameters",
            "help": "set a parameter of the profile, as a Python literal; may be repeated",
        },
    )
    profile: str = flag("smoke, demo, colab or paper", "paper")
    strategy: list[str] | None = flag("only these (None: x-x-mono, x-y, hybrid)", choices=STRATEGIES)
    seed: list[int] | None = flag("only these of the profile's seeds")
    search: list[str] | None = flag(
        "what each run then searches: miracl, mr-tydi, tydiqa, tatoeba, beir, or names of `search`", metavar="NAME"
    )

    def run(self, parameters: Iterable[tuple[str, str]]) -> None:
        """Make the runs of the profile that are not complete, one after the other."""
        from hybridlib.companion.experiment.study import open_study
        from hybridlib.companion.search import sources
        from hybridlib.training.processes import all_processes

        study = open_study(self.profile, {name: _literal(text) for name, text in parameters})
        processes = all_processes()
        runs = self._runs(study)
        names = []
        for name in self.search or ():
            names += sources.names(name, self.profile) if name in sources.GROUPS else [name]
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

    def _runs(self, study: Any) -> list:
        """The runs of the strategies and seeds, those of all mixing ratios among them."""
        from hybridlib.companion.experiment.study import CORE

        strategies, seeds = self.strategy or CORE, self.seed or study.settings.seeds
        if unknown := [str(seed) for seed in seeds if seed not in study.settings.seeds]:
            known = " ".join(map(str, study.settings.seeds))
            raise ValueError(f"--seed {' '.join(unknown)}: the profile has {known}; -p seeds sets others")
        runs = study.all_runs()
        more = [name for name in strategies if name not in {run.strategy for run in runs}]
        return [run for run in runs + study.runs(more) if run.strategy in strategies and run.seed in seeds]


@dataclass(frozen=True, kw_only=True)
class Tables(Command):
    """Show the paper's tables beside what was reproduced of them."""

    table: list[int] | None = flag("numbers of the paper's tables (None: 1 and 2)")
    rows: list[Path] | None = flag("folders that evaluate --rows wrote")
    base: str | None = flag("starting checkpoint of those rows", choices=("xlm-r", "labse"))
    output: Path | None = flag("folder for Markdown, LaTeX and CSV")

    def run(self) -> None:
        """Print the tables, and write them."""
        from hybridlib.companion.report import paper, tables

        if self.rows and not self.base:
            raise ValueError("--rows needs --base xlm-r or labse: the paper's numbers belong to one of them")
        reproduced = tables.reproduced_cells(self.rows or [], self.base)
        for number in self.table or (1, 2):
            frame = tables.build(paper.reported(number), reproduced)
            print(f"\nTable {number}\n{tables.render(frame, 'md')}")
            for note in paper.notes(number):
                print(f"- {note}")
            if self.output:
                tables.write_tables(frame, self.output, f"table{number:02d}")


def _literal(text: str) -> object:
    """A Python literal, or the text itself where it is none."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _dtype(precision: str) -> Any:
    from hybridlib.training.gradients import DTYPES

    return DTYPES["no" if precision == "fp32" else precision]


COMMANDS = (Data, Train, Evaluate, Search, Experiment, Tables, Translate)
