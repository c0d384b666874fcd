"""A study: the encoders and evaluations of one setting of the experiment, loaded where they are complete, else made.

What is trained on what is said by the two kinds of study: `embedded_study` (embedded corpus, encoders from scratch) and
`pretrained_study` (real texts, pretrained encoders).
"""

from __future__ import annotations

import itertools
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch

from hybridlib.companion.experiment.runs import RunStore
from hybridlib.companion.search.collection import Collection
from hybridlib.companion.search.measure import search_collection
from hybridlib.corpora.base import Benchmark, ParallelPairs
from hybridlib.encoder import Encoder
from hybridlib.evaluation import evaluate
from hybridlib.sampler import BatchSampler
from hybridlib.training.processes import all_processes

UPSTREAM = ("corpora/base.py", "sampler.py", "loss.py", "encoder.py", "training/tokens.py")
UPSTREAM += ("training/gradients.py", "training/loop.py")
UPSTREAM += ("training/settings.py", "companion/experiment/study.py")  # what decides a training, whatever the study
DOWNSTREAM = ("evaluation.py", "metrics.py")  # and an evaluation
SEARCH = tuple(f"companion/search/{name}.py" for name in ("search", "topk", "measure")) + ("metrics.py",)
LABELS = ("profile", "checkpoint", "strategy", "alpha", "seed", "commit", "device", "batch_size")


@dataclass(frozen=True)
class Run:
    """One encoder: a strategy (with alpha for hybrid; "none" is what all start from) and a seed."""

    strategy: str
    seed: int
    alpha: float | None = None

    @classmethod
    def of_alpha(cls, alpha: float, seed: int) -> Run:
        """The run at a mixing ratio; the ends of the curve are the two pure strategies."""
        pure = {1.0: "x-x-mono", 0.0: "x-y"}.get(float(alpha))
        return cls(pure, seed) if pure else cls("hybrid", seed, float(alpha))

    @property
    def name(self) -> str:
        """Short name for folders and progress."""
        mixed = f"-{self.alpha:g}" if self.strategy == "hybrid" else ""
        return f"{self.strategy}{mixed}-seed{self.seed}"


class Corpus(Protocol):
    """The texts of a study."""

    train: ParallelPairs
    dev_pairs: ParallelPairs | None
    dev: Benchmark
    test: Benchmark


class Study(ABC):
    """Runs of one setting, loaded from or made under `root`/runs.

    Attributes:
        settings: what is run; has at least profile, seeds, alphas, steps, batch_size, trained and zero_shot.
        root: folder that holds runs/, figures/ and results/.
    """

    def __init__(self, settings, root: Path) -> None:
        self.settings, self.root = settings, root

    corpus: Corpus
    _last: tuple[Run, Encoder] | None = None

    # ---- what a kind of study says

    @property
    @abstractmethod
    def is_standard(self) -> bool:
        """Whether the settings are those of the profile."""

    @property
    @abstractmethod
    def checkpoint(self) -> str:
        """What is trained, in words."""

    @property
    @abstractmethod
    def data(self) -> str:
        """What it is measured on, in words."""

    @property
    def base(self) -> str | None:
        """What the paper's tables call the checkpoint; None: it is not in them."""
        return None

    @property
    def benchmark(self) -> str | None:
        """The benchmark of the paper that it is measured on; None: another one."""
        return None

    @property
    def stand_in(self) -> bool:
        """Whether its collections only stand in for those that a question is about."""
        return False

    @property
    def place(self) -> str:
        """Folder name of records and executed notebooks."""
        return self.settings.profile

    @abstractmethod
    def start_key(self, seed: int) -> str:
        """Names what all strategies of a seed start from, and changes with it."""

    @abstractmethod
    def start_encoder(self, seed: int) -> Encoder:
        """The encoder that all strategies of a seed start from."""

    @abstractmethod
    def sampler(self, run: Run) -> BatchSampler:
        """The batches of a run."""

    @abstractmethod
    def train(self, run: Run) -> Path:
        """Folder of a trained run: encoder/ and log.parquet."""

    @abstractmethod
    def evaluation_parameters(self, split: str) -> dict:
        """What decides an evaluation beside the encoder: at least what identifies the texts."""

    def collections(self, name: str) -> list[Collection]:
        """The test collections of that name."""
        raise ValueError(f"{name}: the profile {self.settings.profile} has no test collections; see DATA.md")

    def clusters(self, rows: pd.DataFrame) -> pd.Series:
        """What statistics resample of a search's rows: the query, unless the study knows better."""
        return rows["cluster"]

    @property
    def search_dtype(self) -> torch.dtype | None:
        """What searches encode in; None: float32."""
        return None

    # ---- what they share

    @cached_property
    def store(self) -> RunStore:
        """Where the runs lie; counts those made and reused."""
        return RunStore(self.root / "runs")

    @property
    def label(self) -> str:
        """Folder name of figures and results: the place, or its custom variant when a parameter was changed."""
        return self.place if self.is_standard else f"{self.place}-custom"

    def outputs(self, kind: str) -> Path:
        """Folder of "figures" or "results": in git for the demo as it is, under runs/ for everything else."""
        home = self.root if self.label == "demo" else self.root / "runs"
        return home / kind / self.label

    def encoder(self, run: Run) -> Encoder:
        """The encoder of a run. The last one asked for is kept: a run is searched in many collections."""
        if self._last is None or self._last[0] != run:
            self._last = None  # only one at a time is in memory
            start = run.strategy == "none"
            self._last = run, self.start_encoder(run.seed) if start else Encoder.load(str(self.train(run) / "encoder"))
        return self._last[1]

    def evaluation(self, run: Run, split: str = "test") -> Path:
        """Folder with rows.parquet, ranks.parquet and excluded.json of a run on dev or test."""
        if split not in ("dev", "test"):
            raise ValueError(f"split must be 'dev' or 'test', not {split!r}")
        parameters = {"stage": "evaluate", "encoder": self._encoder_key(run), "split": split}
        parameters |= self.evaluation_parameters(split)
        make = partial(self._make_evaluation, run=run, split=split)
        return self.store.load_or_make(f"{split}-{run.name}", parameters, UPSTREAM + DOWNSTREAM, make)

    def trained_key(self, run: Run) -> str:
        """Names a trained encoder, and changes with it."""
        return self.train(run).name

    def _encoder_key(self, run: Run) -> str:
        return self.start_key(run.seed) if run.strategy == "none" else self.trained_key(run)

    def searched(self, run: Run, collection: Collection, depth: int = 100) -> Path:
        """Folder of a run's search of a collection: rows.parquet, retrieval.json, run.gz and qrels.gz (TREC).

        Under `accelerate launch` all processes share the search.

        Args:
            depth: passages that each query is given; measures with a larger cutoff see no more.
        """
        parameters = {"stage": "search", "encoder": self._encoder_key(run), "collection": collection.fingerprint}
        parameters |= {"depth": depth, "dtype": str(self.search_dtype)}
        make = partial(self._make_search, run=run, collection=collection, depth=depth)
        name = f"search-{collection.name}-{run.name}"
        return self.store.load_or_make(name, parameters, UPSTREAM + SEARCH, make, together=all_processes())

    def search_rows(
        self, runs: Iterable[Run], collections: Sequence[str | Collection], depth: int = 100
    ) -> pd.DataFrame:
        """Measures per query of searches, with label columns: a macro mean is over languages and collections.

        Args:
            collections: names that `collections` takes, or collections.

        Returns:
            `measure.KEYS`, its MEASURES and LABELS.
        """
        runs, frames = list(runs), []
        found = [[name] if isinstance(name, Collection) else self.collections(name) for name in collections]
        for run in runs:
            for collection in itertools.chain.from_iterable(found):
                folder = self.searched(run, collection, depth)
                rows = pd.read_parquet(folder / "rows.parquet")
                frames.append(rows.assign(cluster=self.clusters(rows), **self._labels(run, folder)))
        return _together(frames)

    def rows(self, runs: Iterable[Run], split: str = "test") -> pd.DataFrame:
        """Measures per query and setting of several runs, with label columns."""
        return self._collect(runs, split, "rows")

    def ranks(self, runs: Iterable[Run], split: str = "test") -> pd.DataFrame:
        """Ranks of relevant candidates of several runs, with label columns."""
        return self._collect(runs, split, "ranks")

    def start_rows(self, split: str = "test") -> pd.DataFrame:
        """Measures per query and setting before any strategy, of every seed, with label columns."""
        runs = [Run("none", seed) for seed in self.settings.seeds]
        return self._collect(runs, split, "rows")

    def excluded(self, run: Run, split: str = "test") -> dict[str, dict[str, int]]:
        """Queries left out of a run's settings; see `evaluate.Evaluation`."""
        return json.loads((self.evaluation(run, split) / "excluded.json").read_text(encoding="utf-8"))

    def log(self, runs: Iterable[Run]) -> pd.DataFrame:
        """Training logs of several runs, with label columns."""
        folders = [(run, self.train(run)) for run in runs]
        logs = [pd.read_parquet(folder / "log.parquet").assign(**self._labels(run, folder)) for run, folder in folders]
        return pd.concat(logs, ignore_index=True)

    def runs(self, strategies: Sequence[str] = ("x-x-mono", "hybrid", "x-y"), alpha: float = 0.5) -> list[Run]:
        """The runs of some strategies with every seed."""
        return [
            Run(strategy, seed, alpha if strategy == "hybrid" else None)
            for strategy in strategies
            for seed in self.settings.seeds
        ]

    def all_runs(self) -> list[Run]:
        """Every run that the notebooks on quality, bias and the mixing ratio ask for, each once."""
        curve = [Run.of_alpha(alpha, seed) for alpha in self.settings.alphas for seed in self.settings.seeds]
        return list(dict.fromkeys(self.runs() + curve))

    def _collect(self, runs: Iterable[Run], split: str, what: str) -> pd.DataFrame:
        frames = []
        for run in runs:
            folder = self.evaluation(run, split)
            frames.append(pd.read_parquet(folder / f"{what}.parquet").assign(**self._labels(run, folder)))
        return _together(frames)

    def _labels(self, run: Run, folder: Path) -> dict:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        s = self.settings
        alpha = {"x-x-mono": 1.0, "x-y": 0.0}.get(run.strategy, run.alpha)
        values = (s.profile, self.checkpoint, run.strategy, alpha, run.seed, manifest["commit"], manifest["device"])
        return dict(zip(LABELS, (*values, s.batch_size), strict=True))

    def _make_evaluation(self, folder: Path, run: Run, split: str) -> None:
        evaluate(getattr(self.corpus, split), self.encoder(run)).save(folder)

    def _make_search(self, folder: Path, run: Run, collection: Collection, depth: int) -> None:
        options = {"dtype": self.search_dtype, "progress": len(collection.passages) > 100_000}
        encoder = self.encoder(run)
        search_collection(collection, encoder, depth, folder, shards=folder / "shards", **options)
        all_processes().wait_for_everyone()  # who is slow may still read a shard
        if all_processes().is_main_process:
            shutil.rmtree(folder / "shards")

    def _finish(self, encoder: Encoder, folder: Path, log: pd.DataFrame | None = None) -> None:
        """Write a trained encoder and its log, from the main process."""
        if all_processes().is_main_process:
            encoder.save(folder / "encoder")
            if log is not None:
                log.to_parquet(folder / "log.parquet")
            (folder / "training.safetensors").unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({asdict(self.settings)}, {self.root})"


def _together(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """One frame, its texts as categories: labels repeat in every row."""
    together = pd.concat(frames, ignore_index=True)
    words = together.select_dtypes(exclude="number").columns
    return together.astype(dict.fromkeys(words, "category"))
