"""The experiment as the paper ran it: pretrained encoders, the data sets of Table 9, XQuAD-R and MLQA-R.

Every stage is a run of its own, loaded where it is complete: a data set (fetched, filtered, cleared of evaluation
texts), its translation, the pairs of all sets together, a trained encoder, an evaluation. A data set that cannot be had
is left out, and said so.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from functools import cached_property, partial
from pathlib import Path

import torch

import hybridlib
from hybridlib.companion.experiment.profiles import COLAB, PAPER, PretrainedSettings
from hybridlib.companion.experiment.runs import commit, device, sha256_of
from hybridlib.companion.experiment.study import UPSTREAM, Run, Study
from hybridlib.companion.search import sources
from hybridlib.companion.search.collection import Collection
from hybridlib.companion.sources.filters import TextLimits
from hybridlib.companion.sources.leakage import protect
from hybridlib.companion.sources.table9 import SOURCES, find, prepare
from hybridlib.companion.sources.translation import Translator, translate_pairs
from hybridlib.corpora.base import Benchmark, ParallelPairs
from hybridlib.corpora.lareqa import CHECKSUMS, load_lareqa
from hybridlib.corpora.own import open_pairs
from hybridlib.corpora.write import concatenate
from hybridlib.encoder import PRESETS, Encoder
from hybridlib.files import write_json
from hybridlib.sampler import BatchSampler
from hybridlib.training.card import write_labels
from hybridlib.training.loop import train
from hybridlib.training.processes import all_processes
from hybridlib.training.settings import TrainingSettings
from hybridlib.training.tokens import TokenizedPairs

ENGLISH_ONLY = ("mr-tydi", "mfaq")  # the paper did not translate these two
ROOMS = (*UPSTREAM, "companion/experiment/pretrained_study.py")
DATA_ROOMS = ("files.py", "corpora/base.py", "corpora/fingerprint.py", "corpora/write.py")
DATA_ROOMS += tuple(f"companion/sources/{room}.py" for room in ("leakage", "mmarco", "filters", "table9"))
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
TRANSLATION_ROOMS = tuple(
    f"companion/sources/{room}.py" for room in ("flags", "languages", "sentences", "translation", "translator")
)


class PretrainedCorpus:
    """The texts of a study; each part is read, or made, when it is first asked for."""

    def __init__(self, study: PretrainedStudy) -> None:
        self._study, self._settings = study, study.settings

    @cached_property
    def train(self) -> ParallelPairs:
        """All training pairs together."""
        s = self._settings
        return open_pairs(s.pairs) if s.pairs else self._study.mixed()

    @cached_property
    def dev_pairs(self) -> ParallelPairs | None:
        """Pairs that choose the weights."""
        name = self._settings.validation
        if name == "none":
            return None
        return self._study.data_set(name) if name in SOURCES else open_pairs(name)

    @cached_property
    def test(self) -> Benchmark:
        """The benchmark."""
        return self._benchmark(self._settings.benchmark)

    @cached_property
    def dev(self) -> Benchmark:
        """The benchmark on which the mixing ratio is chosen."""
        return self._benchmark(self._settings.held_out)

    def _benchmark(self, name: str) -> Benchmark:
        wanted = [lang for lang in self._settings.languages if lang in CHECKSUMS[name]] or None
        return load_lareqa(name, languages=wanted, with_paragraph=self._settings.with_paragraph)


class PretrainedStudy(Study):
    """Runs of a pretrained encoder on real texts."""

    settings: PretrainedSettings

    def __init__(self, settings: PretrainedSettings, root: Path) -> None:
        super().__init__(settings, root)
        self.corpus = PretrainedCorpus(self)
        self._tokens: TokenizedPairs | None = None

    @property
    def is_standard(self) -> bool:
        """Whether the settings are those of the profile, whichever of the paper's encoders and benchmarks it is."""
        standard = PAPER if self.settings.profile == "paper" else COLAB
        free = ("checkpoint", "benchmark")
        mine, theirs = ({k: v for k, v in asdict(s).items() if k not in free} for s in (self.settings, standard))
        return mine == theirs

    @property
    def checkpoint(self) -> str:
        """What is trained, in words."""
        return self.settings.checkpoint

    @property
    def base(self) -> str | None:
        """What the paper's tables call the checkpoint; None: it is not in them."""
        preset = PRESETS.get(self.settings.checkpoint)
        return preset.family if preset else None

    @property
    def data(self) -> str:
        """What it is measured on, in words."""
        return self.settings.benchmark

    @property
    def benchmark(self) -> str:
        """The benchmark of the paper that it is measured on."""
        return self.settings.benchmark

    @property
    def place(self) -> str:
        """Folder name of records and executed notebooks."""
        s = self.settings
        return f"{s.profile}-{Path(s.checkpoint).name}-{s.benchmark}"

    # ---- training data

    def mixed(self) -> ParallelPairs:
        """The pairs of all data sets that can be had, translated where the settings say so, as one mapped corpus.

        What was left out stays left out, so that all runs see the same pairs, until its run is removed.

        Raises:
            ValueError: none of them can be had.
        """
        s = self.settings
        names = ("datasets", "trained", "translator", "limit", "fewest_characters", "query_characters")
        names += ("passage_characters", "answer_within", "leakage")
        parameters = {"stage": "pairs", **{name: getattr(s, name) for name in names}}
        rooms = DATA_ROOMS + TRANSLATION_ROOMS
        folder = self.store.load_or_make("pairs", parameters, rooms, self._make_mixed)
        made = json.loads((folder / "sets.json").read_text(encoding="utf-8"))
        for name, problem in made["left out"].items():
            print(f"{name}: left out. {problem}\n  To try again remove {folder}", flush=True)
        return ParallelPairs.load(self.store.folder / made["corpus"])

    def _make_mixed(self, folder: Path) -> None:
        parts, problems = [], {}
        for name in self.settings.datasets:
            try:
                parts.append(self._translated(name))
            except OSError as error:
                problems[name] = str(error)
        if not parts:
            said = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
            raise ValueError(f"none of the data sets can be had. {said}")
        where = parts[0]
        if len(parts) > 1:
            corpora = [ParallelPairs.load(part) for part in parts]
            where = folder / "pairs"
            concatenate(where, corpora, "+".join(corpus.name for corpus in corpora))
        content = {"corpus": str(where.relative_to(self.store.folder)), "left out": problems}
        write_json(folder / "sets.json", content)

    def data_set(self, name: str) -> ParallelPairs:
        """A data set of Table 9, fetched, filtered and cleared of evaluation texts.

        Raises:
            OSError: it cannot be had; the text says what to do.
        """
        return ParallelPairs.load(self._data_run(name) / name)

    def _data_run(self, name: str) -> Path:
        s, source = self.settings, find(name)
        languages = [lang for lang in s.trained if lang in source.languages] or ["en"]
        limits = {"query": (s.fewest_characters, s.query_characters)}
        limits |= {"passage": (s.fewest_characters, s.passage_characters), "answer_within": s.answer_within}
        asked = {"languages": languages, "limit": s.limit or source.paper_size}
        parameters = {"stage": "data", "name": name, **asked, "limits": limits, "leakage": s.leakage}
        make = partial(self._make_data, name=name, limits=TextLimits(**limits), asked=asked)
        return self.store.load_or_make(f"data-{name}", parameters, DATA_ROOMS, make)

    def _make_data(self, folder: Path, name: str, limits: TextLimits, asked: dict) -> None:
        protected = protect(self.settings.leakage) if self.settings.leakage else None
        (prepared,) = prepare([name], folder, limits=limits, protected=protected, **asked)
        if prepared.problem:
            raise OSError(prepared.problem)
        print("\n".join(prepared.lines()), flush=True)

    def _translated(self, name: str) -> Path:
        """Folder of a data set's pairs, with the languages that it lacks and that the settings want."""
        s, pairs = self.settings, self.data_set(name)
        wanted = [lang for lang in s.trained if lang != "en"]
        if s.translator == "none" or name in ENGLISH_ONLY or pairs.languages != ("en",) or not wanted:
            return self._data_run(name) / name
        parameters = {"stage": "translate", "data": self._data_run(name).name, "model": s.translator}
        make = partial(self._make_translation, pairs=pairs, languages=wanted)
        parameters["languages"] = wanted
        folder = self.store.load_or_make(f"translated-{name}", parameters, DATA_ROOMS + TRANSLATION_ROOMS, make)
        return folder / "corpus"

    def _make_translation(self, folder: Path, pairs: ParallelPairs, languages: list[str]) -> None:
        dtype = DTYPES.get(self.settings.resolved_precision())
        translator = Translator.load(self.settings.translator, dtype=dtype)
        made = translate_pairs(pairs, languages, folder, translator)
        print(made.counts.to_string(index=False), flush=True)

    # ---- encoders

    def start_key(self, seed: int) -> str:
        """The checkpoint and how its vectors are taken; the same for every seed."""
        s = self.settings
        names = ("checkpoint", "pooling", "query_prefix", "passage_prefix", "max_length")
        return json.dumps({**{name: getattr(s, name) for name in names}, "weights": self._weights})

    @cached_property
    def _weights(self) -> list[str]:
        """SHA-256 of the weights of a checkpoint that is a folder: another may come to lie in its place."""
        return _weights(Path(self.settings.checkpoint))

    def start_encoder(self, seed: int) -> Encoder:
        """The pretrained checkpoint."""
        s = self.settings
        names = ("pooling", "query_prefix", "passage_prefix", "max_length", "dropout")
        options = {name: getattr(s, name) for name in names if getattr(s, name) is not None}
        return Encoder.load(s.checkpoint, **options)

    def sampler(self, run: Run) -> BatchSampler:
        """The batches of a run."""
        s = self.settings
        options = {"batch_size": s.batch_size, "languages": s.trained, "mixture": s.mixture, "seed": run.seed}
        return BatchSampler(self.corpus.train, run.strategy, steps=s.steps, alpha=run.alpha, **options)

    def trained_key(self, run: Run) -> str:
        """The run, or the weights of an encoder that was trained elsewhere."""
        folder = self.train(run)
        return "".join(_weights(folder)) if self.settings.encoders else folder.name

    def train(self, run: Run) -> Path:
        """Folder of a trained run: encoder/, with its model card, and log.parquet.

        Raises:
            FileNotFoundError: `encoders` names a folder that holds none.
        """
        if self.settings.encoders:
            return self._given(run)
        names = {field.name for field in fields(TrainingSettings)} - {"seed", "checkpoint_every", "precision"}
        names |= {"trained", "mixture", "steps", "batch_size", "dropout", "validation_strategy", "validation_batches"}
        parameters = {"stage": "train", **asdict(run), "start": self.start_key(run.seed)}
        parameters |= {name: getattr(self.settings, name) for name in sorted(names & set(vars(self.settings)))}
        parameters |= {"precision": self.settings.resolved_precision(), "pairs": self.corpus.train.fingerprint}
        held_out = self.corpus.dev_pairs
        parameters["validation"] = held_out.fingerprint if held_out else None
        make = partial(self._make_train, run=run)
        return self.store.load_or_make(run.name, parameters, ROOMS, make, together=all_processes())

    def _given(self, run: Run) -> Path:
        alpha = "" if run.alpha is None else f"{run.alpha:g}"
        folder = Path(self.settings.encoders.format(strategy=run.strategy, alpha=alpha, seed=run.seed)).expanduser()
        if not (folder / "encoder").is_dir():
            raise FileNotFoundError(f"{folder / 'encoder'}: no encoder there; see the parameter `encoders`")
        return folder

    def evaluation_parameters(self, split: str) -> dict:
        """The benchmark."""
        return {"benchmark": getattr(self.corpus, split).fingerprint}

    def collections(self, name: str) -> list[Collection]:
        """Of `corpora.catalogue`; the main process prepares them."""
        with all_processes().main_process_first():
            return sources.load(name)

    @property
    def search_dtype(self) -> torch.dtype | None:
        """That of training."""
        return DTYPES.get(self.settings.resolved_precision())

    def _make_train(self, folder: Path, run: Run) -> None:
        s, corpus = self.settings, self.corpus.train
        encoder = self.start_encoder(run.seed)
        validation = None
        if self.corpus.dev_pairs:
            options = {"batch_size": s.batch_size, "steps": s.validation_batches, "seed": 0}
            validation = BatchSampler(self.corpus.dev_pairs, s.validation_strategy, **options)
        # one tokenizer for all runs; its files serve every process
        self._tokens = self._tokens or TokenizedPairs(corpus, encoder, self.root / "runs" / "tokens")
        settings, state = s.training(run.seed), folder / "training.safetensors"
        log = train(
            encoder, self.sampler(run), settings, state, validation=validation, tokens=self._tokens, progress=True
        )
        self._finish(encoder, folder, log)
        if all_processes().is_main_process:
            write_labels(folder / "encoder", self._card(run, encoder) | {"kept_step": int(log["best_step"].iloc[0])})

    def _card(self, run: Run, encoder: Encoder) -> dict:
        """What the model card of a trained encoder says."""
        s = self.settings
        names = ("steps", "batch_size", "learning_rate", "temperature", "negatives", "mixture", "validation")
        labels = {**asdict(run), **{name: getattr(s, name) for name in names}, "precision": s.resolved_precision()}
        labels |= {name: getattr(encoder, name) for name in ("pooling", "max_length", "query_prefix", "passage_prefix")}
        labels |= {"start": s.checkpoint, "pairs": self.corpus.train.name, "languages": s.trained, "device": device()}
        return labels | {"commit": commit(), "version": hybridlib.__version__}


def _weights(folder: Path) -> list[str]:
    return [sha256_of(path) for path in sorted(folder.rglob("*.safetensors"))]
