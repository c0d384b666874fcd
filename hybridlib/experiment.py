"""The experiment on the embedded corpus: profiles, and "this run: load it or make it"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedTokenizerFast

from hybridlib.corpora.embedded import LANGUAGES, TRAINED, EmbeddedCorpus, build_corpus, train_tokenizer
from hybridlib.encoder import Encoder
from hybridlib.evaluate import evaluate
from hybridlib.runs import RunStore, default_root
from hybridlib.sampler import BatchSampler
from hybridlib.tokens import TokenizedPairs
from hybridlib.training import TrainingSettings, train

DICTIONARIES = ("all", "no held-out names", "trained languages", "none")
UPSTREAM = (
    "corpora/base.py",
    "corpora/embedded/__init__.py",
    "corpora/embedded/tokenizer.py",
    "sampler.py",
    "loss.py",
    "encoder.py",
)
UPSTREAM += ("checkpoint.py", "tokens.py", "gradients.py", "training.py", "experiment.py")  # what decides a training
MAY_BE_ZERO = ("alphas", "seeds", "corpus_seed", "layers", "extra_candidates")
DOWNSTREAM = ("evaluate.py", "metrics.py")  # and an evaluation
LABELS = ("profile", "checkpoint", "strategy", "alpha", "seed", "commit", "device", "batch_size")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the results of the experiment on the embedded corpus.

    The paper leaves most of it open; each is a parameter of the notebooks. Chosen on the development part.

    Attributes:
        languages, trained: of the corpus, and those with question-passage pairs in training.
        seeds: of weights and batches. The corpus has its own seed.
        alphas: mixing ratios of the curve; 1 is X-X-mono and 0 is X-Y.
        steps, batch_size, learning_rate, temperature: of the strategies' training, equal for all of them.
        dictionary: what the dictionary stage (pairs of names in two languages, before any strategy) has seen: "all"
            names, "no held-out names" (none of the dev and test subjects), names in the "trained languages", or "none".
        layers, hidden, vocabulary: of the encoder; no layers is the static-embedding encoder.
        extra_candidates: passages of training subjects among the candidates, per language.
        validation_batches: English dev batches whose mean loss chooses the weights, as in the paper.
    """

    profile: str = "demo"
    languages: tuple[str, ...] = LANGUAGES
    trained: tuple[str, ...] = TRAINED
    corpus_seed: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 3e-4
    temperature: float = 0.1
    dictionary: str = "all"
    dictionary_steps: int = 1000
    layers: int = 0
    hidden: int = 128
    vocabulary: int = 8000
    extra_candidates: int = 300
    validation_batches: int = 4

    def training(self, seed: int) -> TrainingSettings:
        """Settings of the training loop."""
        options = {"learning_rate": self.learning_rate, "temperature": self.temperature, "seed": seed}
        return TrainingSettings(**options, validate_every=max(1, self.steps // 10))

    @property
    def zero_shot(self) -> tuple[str, ...]:
        """Languages that no strategy trains on."""
        return tuple(lang for lang in self.languages if lang not in self.trained)


PROFILES = {
    "demo": Settings(),
    "smoke": Settings(
        profile="smoke",
        languages=("de", "el", "en"),
        trained=("de", "en"),
        seeds=(0,),
        alphas=(0.0, 0.5, 1.0),
        steps=20,
        dictionary_steps=10,
        vocabulary=1000,
        extra_candidates=50,
        validation_batches=1,
    ),
}


def resolve(profile: str, **overrides) -> Settings:
    """The settings of a profile with some replaced; None keeps the profile's.

    Raises:
        ValueError: no such profile or parameter, or a value of the wrong kind or range; the text names it.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, not {profile!r}")
    known = {f.name: getattr(PROFILES[profile], f.name) for f in fields(Settings)}
    changes = {}
    for name, value in overrides.items():
        if name not in known:
            raise ValueError(f"there is no parameter {name!r}; there are {', '.join(sorted(known))}")
        if value is not None:
            changes[name] = _checked(name, value, known[name])
    return replace(PROFILES[profile], **changes)


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


@dataclass
class Study:
    """Runs of one `Settings`, loaded from or made under `root`/runs.

    Attributes:
        settings: what is run.
        root: folder that holds runs/, figures/ and results/.
    """

    settings: Settings
    root: Path
    _tokens: TokenizedPairs | None = field(default=None, repr=False)

    @cached_property
    def store(self) -> RunStore:
        """Where the runs lie; counts those made and reused."""
        return RunStore(self.root / "runs")

    @property
    def label(self) -> str:
        """Folder name of figures and results: the profile, or its custom variant when a parameter was changed."""
        standard = self.settings == PROFILES[self.settings.profile]
        return self.settings.profile if standard else f"{self.settings.profile}-custom"

    @property
    def checkpoint(self) -> str:
        """What is trained, in words."""
        layers = self.settings.layers
        return "static-embedding encoder" if layers == 0 else f"{layers}-layer encoder from scratch"

    def outputs(self, kind: str) -> Path:
        """Folder of "figures" or "results": in git for the demo as it is, under runs/ for everything else."""
        home = self.root if self.label == "demo" else self.root / "runs"
        return home / kind / self.label

    @cached_property
    def corpus(self) -> EmbeddedCorpus:
        """The embedded corpus of these settings."""
        s = self.settings
        return build_corpus(
            corpus_seed=s.corpus_seed, languages=s.languages, trained=s.trained, extra_candidates=s.extra_candidates
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all texts."""
        parts = (self.corpus.train, self.corpus.dev_pairs, self.corpus.dev, self.corpus.test, self.corpus.dictionary())
        texts = json.dumps(list(self.corpus.texts()), ensure_ascii=False)  # the tokenizer's
        return hashlib.sha256("".join([part.fingerprint for part in parts] + [texts]).encode()).hexdigest()

    def start(self, seed: int) -> Path:
        """Folder of the encoder all strategies of a seed start from: random weights after the dictionary stage."""
        s = self.settings
        names = ("languages", "dictionary", "dictionary_steps", "batch_size", "layers", "hidden", "vocabulary")
        parameters = {"stage": "dictionary", "seed": seed, **{name: getattr(s, name) for name in names}}
        make = partial(self._make_start, seed=seed)
        return self._load_or_make(f"dictionary-seed{seed}", parameters, UPSTREAM, make)

    def train(self, run: Run) -> Path:
        """Folder of a trained run: encoder/ and log.parquet."""
        s = self.settings
        names = ("trained", "steps", "batch_size", "learning_rate", "temperature", "validation_batches")
        parameters = {"stage": "train", **asdict(run), "start": self.start(run.seed).name}
        parameters |= {name: getattr(s, name) for name in names}
        return self._load_or_make(run.name, parameters, UPSTREAM, partial(self._make_train, run=run))

    def encoder(self, run: Run) -> Encoder:
        """The trained encoder of a run."""
        return Encoder.load(str(self.train(run) / "encoder"))

    def evaluation(self, run: Run, split: str = "test") -> Path:
        """Folder with rows.parquet, ranks.parquet and excluded.json of a run on dev or test."""
        if split not in ("dev", "test"):
            raise ValueError(f"split must be 'dev' or 'test', not {split!r}")
        source = self.start(run.seed) if run.strategy == "none" else self.train(run)
        parameters = {"stage": "evaluate", "encoder": source.name, "split": split}
        parameters |= {"extra_candidates": self.settings.extra_candidates}
        make = partial(self._make_evaluation, source=source, split=split)
        return self._load_or_make(f"{split}-{run.name}", parameters, UPSTREAM + DOWNSTREAM, make)

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

    def _collect(self, runs: Iterable[Run], split: str, what: str) -> pd.DataFrame:
        frames = []
        for run in runs:
            folder = self.evaluation(run, split)
            frames.append(pd.read_parquet(folder / f"{what}.parquet").assign(**self._labels(run, folder)))
        together = pd.concat(frames, ignore_index=True)
        words = together.select_dtypes(exclude="number").columns
        return together.astype(dict.fromkeys(words, "category"))

    def _labels(self, run: Run, folder: Path) -> dict:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        s = self.settings
        alpha = {"x-x-mono": 1.0, "x-y": 0.0}.get(run.strategy, run.alpha)
        values = (s.profile, self.checkpoint, run.strategy, alpha, run.seed, manifest["commit"], manifest["device"])
        return dict(zip(LABELS, (*values, s.batch_size), strict=True))

    def _make_start(self, folder: Path, seed: int) -> None:
        s = self.settings
        encoder = Encoder.tiny(self._tokenizer(), layers=s.layers, hidden=s.hidden, seed=seed)
        if s.dictionary != "none":
            languages = s.trained if s.dictionary == "trained languages" else None
            names = self.corpus.dictionary(held_out=s.dictionary != "no held-out names", languages=languages)
            sampler = BatchSampler(names, "x-y", batch_size=s.batch_size, steps=s.dictionary_steps, seed=seed)
            settings = TrainingSettings(learning_rate=1e-3, temperature=0.05, seed=seed)
            with _threads(s.layers):
                train(encoder, sampler, settings, folder / "training.safetensors")
        _finish(encoder, folder)

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        dictionary = self.settings.dictionary
        texts = self.corpus.texts(
            held_out=dictionary != "no held-out names", untrained=dictionary != "trained languages"
        )
        return train_tokenizer(texts, vocabulary_size=self.settings.vocabulary)

    def _make_train(self, folder: Path, run: Run) -> None:
        s = self.settings
        encoder = Encoder.load(str(self.start(run.seed) / "encoder"))
        options = {"batch_size": s.batch_size, "seed": run.seed}
        sampler = BatchSampler(self.corpus.train, run.strategy, steps=s.steps, alpha=run.alpha, **options)
        validation = BatchSampler(
            self.corpus.dev_pairs, "en-en", steps=s.validation_batches, batch_size=s.batch_size, seed=0
        )
        self._tokens = self._tokens or TokenizedPairs(self.corpus.train, encoder)  # one tokenizer for all runs
        state = folder / "training.safetensors"
        with _threads(s.layers):
            log = train(encoder, sampler, s.training(run.seed), state, validation=validation, tokens=self._tokens)
        log.to_parquet(folder / "log.parquet")
        _finish(encoder, folder)

    def _make_evaluation(self, folder: Path, source: Path, split: str) -> None:
        benchmark = getattr(self.corpus, split)
        evaluate(benchmark, Encoder.load(str(source / "encoder"))).save(folder)

    def _load_or_make(self, name: str, parameters: dict, rooms: Sequence[str], make: Callable[[Path], None]) -> Path:
        return self.store.load_or_make(name, {**parameters, "corpus": self.fingerprint}, rooms, make)


def study(profile: str = "demo", *, root: Path | None = None, **overrides) -> Study:
    """A study of a profile, with parameters replaced where they are not None.

    Args:
        root: where runs/, figures/ and results/ are; None means $HYBRIDLIB_ROOT, else the repository, else (for an
            installed package) the working folder.

    Raises:
        ValueError: see `resolve`.
    """
    return Study(resolve(profile, **overrides), Path(root) if root else default_root())


@contextmanager
def _threads(layers: int) -> Iterator[None]:
    """One thread for the static-embedding encoder: its operations are so small that handing them out costs more."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if layers else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _finish(encoder: Encoder, folder: Path) -> None:
    encoder.save(folder / "encoder")
    (folder / "training.safetensors").unlink(missing_ok=True)


def _checked(name: str, value: object, standard: object) -> object:
    if isinstance(standard, tuple):
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise ValueError(f"{name} must be a list such as {list(standard)!r}, not {value!r}")
        return tuple(_checked(name, item, standard[0]) for item in value)
    kinds = (int, float) if isinstance(standard, float) else (type(standard),)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"{name} must be of the kind of {standard!r}, not {value!r}")
    if name == "dictionary" and value not in DICTIONARIES:
        raise ValueError(f"dictionary must be one of {', '.join(map(repr, DICTIONARIES))}, not {value!r}")
    if name == "alphas" and not 0 <= value <= 1:
        raise ValueError(f"alphas must be in [0, 1], not {value!r}")
    if name in MAY_BE_ZERO and value < 0:
        raise ValueError(f"{name} must be 0 or more, not {value!r}")
    if isinstance(value, int | float) and name not in MAY_BE_ZERO and not value > 0:
        raise ValueError(f"{name} must be above 0, not {value!r}")
    return type(standard)(value)
