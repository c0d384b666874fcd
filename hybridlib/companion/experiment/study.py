"""A study: the encoders, evaluations and searches of one profile, each loaded if it is complete, else made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from hybridlib.companion.experiment.embedded import EmbeddedTexts
from hybridlib.companion.experiment.pretrained import PretrainedTexts
from hybridlib.companion.experiment.profiles import Described, EmbeddedSettings, Settings, resolve
from hybridlib.companion.experiment.runs import RunStore, commit, default_root, device, is_complete
from hybridlib.companion.search import sources
from hybridlib.companion.search.collection import Collection
from hybridlib.companion.search.measure import MEASURES, search_collection
from hybridlib.encoder import Encoder, identity
from hybridlib.evaluation import evaluate
from hybridlib.sampler import BatchSampler
from hybridlib.training.loop import train_encoder
from hybridlib.training.processes import all_processes
from hybridlib.training.settings import BatchSettings, TrainingSettings
from hybridlib.training.tokens import TokenizedPairs

TRAINING_CODE = "hybridlib.training.loop"
EVALUATION_CODE = "hybridlib.evaluation"
SEARCH_CODE = "hybridlib.companion.search.measure"
# Not in a run's parameters: the name of the run has the seed, and checkpoint_every does not change the result.
NO_EFFECT = ("seed", "checkpoint_every")
CORE = ("x-x-mono", "hybrid", "x-y")
PURE = {1.0: "x-x-mono", 0.0: "x-y"}  # strategies that hybrid equals at alpha 1 and 0


@dataclass(frozen=True)
class Run:
    """One encoder: a strategy (with alpha for hybrid; "none" is the encoder before any strategy) and a seed."""

    strategy: str
    seed: int
    alpha: float | None = None

    @classmethod
    def of_alpha(cls, alpha: float, seed: int) -> Run:
        """The run at a mixing ratio; alpha 1 is X-X-mono and alpha 0 is X-Y."""
        strategy = PURE.get(float(alpha), "hybrid")
        return cls(strategy, seed, float(alpha) if strategy == "hybrid" else None)

    @property
    def name(self) -> str:
        """Short name of the run, for folders and progress messages."""
        alpha = f"-{self.alpha:g}" if self.strategy == "hybrid" else ""
        return f"{self.strategy}{alpha}-seed{self.seed}"


class Study:
    """Loads the runs of one profile from `root`/runs, or makes them there.

    Args:
        settings: settings of the study.
        root: folder that holds runs/, figures/ and results/.
    """

    def __init__(self, settings: Settings, root: Path) -> None:
        self.settings, self.root = settings, root
        self.store = RunStore(root / "runs")
        kind = EmbeddedTexts if isinstance(settings, EmbeddedSettings) else PretrainedTexts
        self.texts = kind(settings, self.store)
        self._last: tuple[Run, Encoder] | None = None
        self._tokens: TokenizedPairs | None = None

    @cached_property
    def described(self) -> Described:
        """The study in words."""
        return self.settings.described

    def outputs(self, kind: str) -> Path:
        """Folder of "figures" or "results": in git for the unchanged demo, under runs/ for every other study."""
        home = self.root if self.described.label == "demo" else self.root / "runs"
        return home / kind / self.described.label

    # ---- which runs there are

    def runs(self, strategies: Sequence[str] = CORE) -> list[Run]:
        """The runs of these strategies with every seed; hybrid has the alpha of the settings."""
        alpha = {"hybrid": self.settings.alpha}
        return [Run(strategy, seed, alpha.get(strategy)) for strategy in strategies for seed in self.settings.seeds]

    def curve(self, alpha: float) -> list[Run]:
        """The runs at a mixing ratio with every seed."""
        return [Run.of_alpha(alpha, seed) for seed in self.settings.seeds]

    def all_runs(self) -> list[Run]:
        """Every run that the notebooks on quality, bias and the mixing ratio ask for, each once."""
        return list(dict.fromkeys(self.runs() + [run for alpha in self.settings.alphas for run in self.curve(alpha)]))

    def is_ready(self, run: Run) -> bool:
        """Whether the encoder of a run need not be trained."""
        return is_complete(self._training_path(run))

    def _training_path(self, run: Run) -> Path:
        return self.store.path(run.name, self._training(run), TRAINING_CODE)

    # ---- encoders

    def batches(self, run: Run) -> BatchSettings:
        """The settings that decide the batches of a run."""
        s = self.settings
        return replace(s.batches, strategy=run.strategy, alpha=run.alpha, seed=run.seed, languages=list(s.trained))

    def sampler(self, run: Run) -> BatchSampler:
        """The batches of a run."""
        return self.batches(run).sampler(self.texts.train)

    def training(self, run: Run) -> TrainingSettings:
        """The training settings of a run, resolved for this machine."""
        return replace(self.settings.training.resolved(), seed=run.seed)

    def train(self, run: Run) -> Path:
        """Folder of a trained run: encoder/, with its model card, and log.parquet.

        Raises:
            FileNotFoundError: the setting `encoders` names a folder without an encoder.
        """
        if getattr(self.settings, "encoders", None):
            return self._trained_elsewhere(run)
        make = partial(self._make_training, run=run)
        parameters = self._training(run)
        return self.store.load_or_make(run.name, parameters, make, code=TRAINING_CODE, together=all_processes())

    def encoder(self, run: Run) -> Encoder:
        """The encoder of a run. The last encoder stays loaded, since one run searches many collections."""
        if self._last is None or self._last[0] != run:
            self._last = None  # only one encoder is in memory at a time
            start = run.strategy == "none"
            encoder = self.texts.start_encoder(run.seed) if start else Encoder.load(str(self.train(run) / "encoder"))
            self._last = run, encoder
        return self._last[1]

    def _training(self, run: Run) -> dict:
        """Everything that decides the result of a training."""
        s, texts = self.settings, self.texts
        knobs = {name: value for name, value in asdict(self.training(run)).items() if name not in NO_EFFECT}
        held_out = texts.dev_pairs.fingerprint if texts.dev_pairs else None
        validation = {"pairs": held_out, "strategy": s.validation_strategy, "batches": s.validation_batches}
        parameters = {"stage": "train", "start": texts.start_key(run.seed), "pairs": texts.train.fingerprint}
        return parameters | {"batches": asdict(self.batches(run)), "training": knobs, "validation": validation}

    def _make_training(self, folder: Path, run: Run) -> None:
        texts, encoder = self.texts, self.texts.start_encoder(run.seed)
        self._tokens = self._tokens or TokenizedPairs(texts.train, encoder)  # shared by all runs
        labels = {"start": self.described.encoder, "commit": commit(), "device": device()}
        options = {"validation": self._validation(), "tokens": self._tokens, "labels": labels}
        with texts.threads():
            train_encoder(folder, encoder, self.sampler(run), self.training(run), progress=texts.progress, **options)

    def _validation(self) -> BatchSampler | None:
        """The dev batches, whose mean loss chooses the weights; None: the last weights are kept."""
        s = self.settings
        if not self.texts.dev_pairs:
            return None
        batches = BatchSettings(s.validation_strategy, batch_size=s.batches.batch_size, steps=s.validation_batches)
        return batches.sampler(self.texts.dev_pairs)

    def _trained_elsewhere(self, run: Run) -> Path:
        alpha = "" if run.alpha is None else f"{run.alpha:g}"
        folder = Path(self.settings.encoders.format(strategy=run.strategy, alpha=alpha, seed=run.seed)).expanduser()
        if not (folder / "encoder").is_dir():
            raise FileNotFoundError(f"{folder / 'encoder'}: no encoder there; see the setting `encoders`")
        return folder

    def _encoder_key(self, run: Run) -> Any:
        """Key of the encoder of a run; another encoder has another key."""
        if run.strategy == "none":
            return self.texts.start_key(run.seed)
        if getattr(self.settings, "encoders", None):
            return identity(str(self.train(run) / "encoder"))
        return self._training_path(run).name

    # ---- evaluations and searches

    def evaluation(self, run: Run, split: str = "test") -> Path:
        """Folder with rows.parquet, ranks.parquet and excluded.json of a run on dev or test."""
        if split not in ("dev", "test"):
            raise ValueError(f"split must be 'dev' or 'test', not {split!r}")
        parameters = {"stage": "evaluate", "encoder": self._encoder_key(run)}
        parameters["benchmark"] = getattr(self.texts, split).fingerprint
        make = partial(self._make_evaluation, run=run, split=split)
        return self.store.load_or_make(f"{split}-{run.name}", parameters, make, code=EVALUATION_CODE)

    def searched(self, run: Run, collection: Collection, depth: int = 100, measures: Sequence[str] = MEASURES) -> Path:
        """Folder of a run's search of a collection: rows.parquet, retrieval.json, run.gz and qrels.gz (TREC).

        Under `accelerate launch` all processes share the search.

        Args:
            depth: number of passages retrieved per query; measures with a larger cutoff see no more passages.
            measures: names as `metrics.measure` takes them.
        """
        parameters = {"stage": "search", "encoder": self._encoder_key(run), "collection": collection.fingerprint}
        parameters |= {"depth": depth, "measures": list(measures), "dtype": str(self.texts.search_dtype)}
        make = partial(self._make_search, run=run, collection=collection, depth=depth, measures=measures)
        name = f"search-{collection.name}-{run.name}"
        return self.store.load_or_make(name, parameters, make, code=SEARCH_CODE, together=all_processes())

    def collections(self, name: str) -> list[Collection]:
        """The test collections that `search.sources` loads by a name; the main process prepares them."""
        with all_processes().main_process_first():
            return sources.load(name)

    def _make_evaluation(self, folder: Path, run: Run, split: str) -> None:
        evaluate(getattr(self.texts, split), self.encoder(run)).save(folder)

    def _make_search(self, folder: Path, run: Run, collection: Collection, depth: int, measures: Sequence[str]) -> None:
        options = {"dtype": self.texts.search_dtype, "progress": len(collection.passages) > 100_000}
        options |= {"shards": folder / "shards", "measures": measures}
        search_collection(collection, self.encoder(run), depth, folder, **options)
        all_processes().wait_for_everyone()  # a slow process may still read a shard
        if all_processes().is_main_process:
            shutil.rmtree(folder / "shards")

    # ---- results

    def rows(self, runs: Iterable[Run], split: str = "test") -> pd.DataFrame:
        """Measures per query and setting of several runs, with columns that name the run."""
        return self._collect(runs, split, "rows")

    def ranks(self, runs: Iterable[Run], split: str = "test") -> pd.DataFrame:
        """Ranks of relevant candidates of several runs, with columns that name the run."""
        return self._collect(runs, split, "ranks")

    def start_rows(self, split: str = "test") -> pd.DataFrame:
        """Measures per query and setting of the encoders before any strategy, with columns that name the run."""
        return self.rows([Run("none", seed) for seed in self.settings.seeds], split)

    def search_rows(
        self,
        runs: Iterable[Run],
        collections: Iterable[str | Collection],
        depth: int = 100,
        measures: Sequence[str] = MEASURES,
    ) -> pd.DataFrame:
        """Measures per query of searches, with columns that name the run.

        A macro mean of these rows is over languages and collections.

        Args:
            collections: names that `collections` takes, or `Collection` objects.
        """
        loaded = [[name] if isinstance(name, Collection) else self.collections(name) for name in collections]
        frames = []
        for run in runs:
            for collection in (part for parts in loaded for part in parts):
                folder = self.searched(run, collection, depth, measures)
                frames.append(pd.read_parquet(folder / "rows.parquet").assign(**self._labels(run)))
        return _together(frames)

    def excluded(self, run: Run, split: str = "test") -> dict[str, dict[str, int]]:
        """Queries left out of a run's settings; see `evaluation.Evaluation`."""
        return json.loads((self.evaluation(run, split) / "excluded.json").read_text(encoding="utf-8"))

    def log(self, runs: Iterable[Run]) -> pd.DataFrame:
        """Training logs of several runs, with columns that name the run."""
        return _together([pd.read_parquet(self.train(run) / "log.parquet").assign(**self._labels(run)) for run in runs])

    def _collect(self, runs: Iterable[Run], split: str, table: str) -> pd.DataFrame:
        paths = [(run, self.evaluation(run, split) / f"{table}.parquet") for run in runs]
        return _together([pd.read_parquet(path).assign(**self._labels(run)) for run, path in paths])

    def _labels(self, run: Run) -> dict:
        """Columns that name the run; alpha is NaN for a strategy without alpha."""
        s = self.settings
        alpha = float("nan") if run.alpha is None else run.alpha
        labels = {"profile": s.profile, "encoder": self.described.encoder, "strategy": run.strategy, "alpha": alpha}
        return labels | {"seed": run.seed, "batch_size": s.batches.batch_size}

    def __repr__(self) -> str:
        plain = {part.name: getattr(self.settings, part.name) for part in fields(self.settings)}
        return f"{type(self).__name__}({plain}, {self.root})"


def open_study(profile: str = "demo", settings: dict[str, Any] | None = None, *, root: Path | None = None) -> Study:
    """Open the study of a profile, with some settings changed.

    Args:
        profile: smoke, demo, colab or paper.
        settings: name -> value, as `profiles.resolve` takes them.
        root: folder that holds runs/, figures/ and results/; None means $HYBRIDLIB_ROOT, else the repository, else (for
            an installed package) the working directory.

    Raises:
        ValueError: unknown profile or setting, or a value of the wrong type or range; the message names it.
    """
    return Study(resolve(profile, settings), Path(root) if root else default_root())


def _together(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Join the frames into one; text columns become categories, since their values repeat in every row."""
    together = pd.concat(frames, ignore_index=True)
    words = together.select_dtypes(exclude="number").columns
    return together.astype(dict.fromkeys(words, "category"))
