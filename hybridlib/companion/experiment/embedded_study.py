"""The experiment on the embedded corpus, with encoders trained from scratch; profiles and parameters of every study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedTokenizerFast

from hybridlib.companion.experiment.parameters import changed
from hybridlib.companion.experiment.pretrained_study import PretrainedStudy
from hybridlib.companion.experiment.profiles import COLAB, PAPER, PretrainedSettings
from hybridlib.companion.experiment.runs import default_root
from hybridlib.companion.experiment.study import UPSTREAM, Run, Study
from hybridlib.companion.report import paper
from hybridlib.companion.sources.embedded.corpus import (
    LANGUAGES,
    TRAINED,
    EmbeddedCorpus,
    build_corpus,
    train_tokenizer,
)
from hybridlib.encoder import Encoder
from hybridlib.sampler import BatchSampler
from hybridlib.training.loop import train
from hybridlib.training.processes import all_processes
from hybridlib.training.settings import TrainingSettings
from hybridlib.training.tokens import TokenizedPairs

__all__ = ["PROFILES", "EmbeddedStudy", "Run", "Settings", "Study", "resolve", "study"]

MIRACL = tuple("ar bn en es fa fi fr hi id ja ko ru sw te th zh".split())  # the languages of Table 11
THINNINGS = {"none": None, "table 11": 1.0, "square root of table 11": 0.5}  # name -> power of the corpus sizes
DICTIONARIES = ("all", "no held-out names", "trained languages", "none")
ROOMS = (
    *UPSTREAM,
    "companion/sources/embedded/corpus.py",
    "companion/sources/embedded/tokenizer.py",
    "companion/experiment/embedded_study.py",
)


@dataclass(frozen=True)
class Settings:
    """Everything that decides the results of the experiment on the embedded corpus.

    The paper leaves most of it open; each is a parameter of the notebooks. Chosen on the development part.

    Attributes:
        languages, trained: of the corpus, and those with question-passage pairs in training.
        thinning: "table 11" leaves each trained language a share of its pairs in proportion to the size of its MIRACL
            corpus in the paper's Table 11, the largest all of them; "square root of table 11" is gentler; or "none".
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
    thinning: str = "none"
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

    def __post_init__(self) -> None:
        if self.dictionary not in DICTIONARIES:
            known = ", ".join(map(repr, DICTIONARIES))
            raise ValueError(f"dictionary must be one of {known}, not {self.dictionary!r}")
        if self.thinning not in THINNINGS:
            raise ValueError(f"thinning must be one of {', '.join(map(repr, THINNINGS))}, not {self.thinning!r}")

    def training(self, seed: int) -> TrainingSettings:
        """Settings of the training loop."""
        options = {"learning_rate": self.learning_rate, "temperature": self.temperature, "seed": seed}
        return TrainingSettings(**options, validate_every=max(1, self.steps // 10))

    @property
    def zero_shot(self) -> tuple[str, ...]:
        """Languages that no strategy trains on."""
        return tuple(lang for lang in self.languages if lang not in self.trained)

    @property
    def share(self) -> dict[str, float]:
        """Trained language -> share of its training facts that `thinning` leaves."""
        power = THINNINGS[self.thinning]
        if power is None:
            return {}
        sizes = paper.reported(11, measure="candidates").set_index("language")["value"]
        trained = [lang for lang in self.trained if lang in self.languages]
        if unknown := [lang for lang in trained if lang not in sizes]:
            raise ValueError(f"thinning: Table 11 has no {unknown[0]!r}; train on {' '.join(sizes.index)}")
        largest = max(sizes[trained])
        return {lang: float((sizes[lang] / largest) ** power) for lang in trained}


PROFILES: dict[str, Settings | PretrainedSettings] = {
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
    "colab": COLAB,
    "paper": PAPER,
}
# The embedded corpus in MIRACL's languages. Proportional, Swahili keeps 7 facts, 21 pairs: a monolingual batch has no
# more. So batches are small, and there are more of them.
WIDER = {
    "demo": replace(
        PROFILES["demo"],
        languages=MIRACL,
        trained=MIRACL,
        thinning="table 11",
        batch_size=16,
        steps=3000,
        dictionary_steps=4000,
    ),
    "smoke": replace(
        PROFILES["smoke"],
        languages=("bn", "en", "ru", "sw"),
        trained=("bn", "en", "ru", "sw"),
        thinning="table 11",
        batch_size=8,
    ),
}


def resolve(profile: str, *, wider: bool = False, **overrides) -> Settings | PretrainedSettings:
    """The settings of a profile with some replaced; None keeps the profile's.

    Args:
        wider: smoke and demo in the languages of MIRACL, with training pairs in proportion to its corpora (`WIDER`).

    Raises:
        ValueError: no such profile or parameter, or a value of the wrong kind or range; the text names it.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, not {profile!r}")
    return changed((PROFILES | WIDER if wider else PROFILES)[profile], overrides)


class EmbeddedStudy(Study):
    """Runs on the embedded corpus."""

    settings: Settings
    _tokens: TokenizedPairs | None = None

    @property
    def is_standard(self) -> bool:
        """Whether the settings are those of the profile."""
        return self.settings in (PROFILES[self.settings.profile], WIDER[self.settings.profile])

    @property
    def checkpoint(self) -> str:
        """What is trained, in words."""
        layers = self.settings.layers
        return "static-embedding encoder" if layers == 0 else f"{layers}-layer encoder from scratch"

    @property
    def data(self) -> str:
        """What it is measured on, in words."""
        thinned = self.settings.thinning.replace("table", "Table")
        return "embedded corpus" if thinned == "none" else f"embedded corpus, pairs thinned in proportion to {thinned}"

    @property
    def stand_in(self) -> bool:
        """Always: they are made of the embedded corpus."""
        return True

    @cached_property
    def corpus(self) -> EmbeddedCorpus:
        """The embedded corpus of these settings."""
        s = self.settings
        options = {"corpus_seed": s.corpus_seed, "languages": s.languages, "trained": s.trained}
        return build_corpus(**options, extra_candidates=s.extra_candidates)

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
        return self._load_or_make(f"dictionary-seed{seed}", parameters, make)

    def sampler(self, run: Run) -> BatchSampler:
        """The batches of a run."""
        s = self.settings
        options = {"batch_size": s.batch_size, "seed": run.seed}
        return BatchSampler(self.corpus.train, run.strategy, steps=s.steps, alpha=run.alpha, **options)

    def train(self, run: Run) -> Path:
        """Folder of a trained run: encoder/ and log.parquet."""
        s = self.settings
        names = ("trained", "steps", "batch_size", "learning_rate", "temperature", "validation_batches")
        parameters = {"stage": "train", **asdict(run), "start": self.start(run.seed).name}
        parameters |= {name: getattr(s, name) for name in names}
        return self._load_or_make(run.name, parameters, partial(self._make_train, run=run))

    def start_key(self, seed: int) -> str:
        """The run of the dictionary stage."""
        return self.start(seed).name

    def start_encoder(self, seed: int) -> Encoder:
        """The encoder after the dictionary stage."""
        return Encoder.load(str(self.start(seed) / "encoder"))

    def evaluation_parameters(self, split: str) -> dict:
        """The corpus."""
        return {"extra_candidates": self.settings.extra_candidates, "corpus": self.fingerprint}

    def clusters(self, rows: pd.DataFrame) -> pd.Series:
        """The subject, which is the same in every language."""
        queries = self.corpus.test.queries.select(["question_id", "cluster"]).to_pandas().drop_duplicates()
        subjects = queries.set_index("question_id")["cluster"]
        return rows["query_id"].str.partition("#")[0].str.partition(":")[2].map(subjects)

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
        self._finish(encoder, folder)

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        dictionary = self.settings.dictionary
        texts = self.corpus.texts(
            held_out=dictionary != "no held-out names", untrained=dictionary != "trained languages"
        )
        return train_tokenizer(texts, vocabulary_size=self.settings.vocabulary)

    def _make_train(self, folder: Path, run: Run) -> None:
        s = self.settings
        encoder = self.start_encoder(run.seed)
        validation = BatchSampler(
            self.corpus.dev_pairs, "en-en", steps=s.validation_batches, batch_size=s.batch_size, seed=0
        )
        self._tokens = self._tokens or TokenizedPairs(self.corpus.train, encoder)  # one tokenizer for all runs
        state = folder / "training.safetensors"
        with _threads(s.layers):
            log = train(
                encoder, self.sampler(run), s.training(run.seed), state, validation=validation, tokens=self._tokens
            )
        self._finish(encoder, folder, log)

    def _load_or_make(self, name: str, parameters: dict, make: Callable[[Path], None]) -> Path:
        return self.store.load_or_make(
            name, {**parameters, "corpus": self.fingerprint}, ROOMS, make, together=all_processes()
        )


def study(
    profile: str = "demo", *, wider: bool = False, root: Path | None = None, more: dict | None = None, **overrides
) -> Study:
    """A study of a profile, with parameters replaced where they are not None.

    Args:
        wider: as in `resolve`.
        more: further parameters by name, for notebooks, which name only some of them.
        root: where runs/, figures/ and results/ are; None means $HYBRIDLIB_ROOT, else the repository, else (for an
            installed package) the working folder.

    Raises:
        ValueError: see `resolve`.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    if not isinstance(more or {}, dict):
        raise ValueError(f"more must be a dict such as {{'max_length': 128}}, not {more!r}")
    if twice := given.keys() & (more or {}).keys():
        raise ValueError(f"{min(twice)} is given twice, once in `more`: give it once")
    settings, root = resolve(profile, wider=wider, **given, **(more or {})), Path(root) if root else default_root()
    return EmbeddedStudy(settings, root) if isinstance(settings, Settings) else PretrainedStudy(settings, root)


@contextmanager
def _threads(layers: int) -> Iterator[None]:
    """One thread for the static-embedding encoder: its operations are so small that handing them out costs more."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if layers else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
