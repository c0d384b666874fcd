"""Profiles: the settings that decide the results of a study, and how a user changes them.

`smoke` and `demo` train small encoders on the embedded corpus. `colab` and `paper` train pretrained ones on real texts;
data/open_choices.csv lists what the paper leaves open, with the setting that holds our choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pandas as pd

from hybridlib.companion.sources.embedded.corpus import LANGUAGES, TRAINED
from hybridlib.companion.sources.table9 import SOURCES
from hybridlib.corpora.lareqa import CHECKSUMS
from hybridlib.encoder import PRESETS
from hybridlib.training.settings import BatchSettings, TrainingSettings

BENCHMARKS = tuple(CHECKSUMS)
DICTIONARIES = ("all", "no held-out names", "trained languages", "none")
OF_A_RUN = ("strategy", "seed", "languages")  # fields of batches and training that are set by the run or by `trained`
MAY_BE_ZERO = ("alpha", "alphas", "seeds", "corpus_seed", "layers", "extra_candidates", "dropout")
MAY_BE_ZERO += ("negatives", "warmup", "weight_decay")
MAY_BE_EMPTY = ("leakage",)


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")


@dataclass(frozen=True)
class Described:
    """What tables, figures and file names say about a study.

    Attributes:
        encoder: name of the encoder that is trained.
        data: name of the data on which the encoder is measured.
        folder: folder of records and executed notebooks.
        standard: whether the settings are those of the profile.
        paper_encoder: the checkpoint's name in the paper's tables ("xlm-r" or "labse"); None: it is not in the tables.
        paper_benchmark: the paper's benchmark on which the encoder is measured; None: the benchmark is not the paper's.
    """

    encoder: str
    data: str
    folder: str
    standard: bool
    paper_encoder: str | None = None
    paper_benchmark: str | None = None

    @property
    def label(self) -> str:
        """Folder of figures and results: `folder`, with the ending "-custom" if a setting was changed."""
        return self.folder if self.standard else f"{self.folder}-custom"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that every study has, on the embedded corpus or on real texts.

    Attributes:
        languages: languages of the benchmarks; empty means all languages that they have.
        trained: languages of the training pairs.
        seeds: seeds of batches (and of weights, if an encoder is trained from scratch).
        alpha: share of monolingual batches of the strategy hybrid.
        alphas: mixing ratios of the curve; 1 is X-X-mono and 0 is X-Y.
        batches: size, number and mixture of the batches, equal for all strategies.
        training: hyperparameters of the training loop, equal for all strategies.
        validation_strategy, validation_batches: strategy and number of the dev batches whose mean loss chooses the
            weights. The default is En-En, since the paper's validation set is English.
    """

    profile: str
    languages: tuple[str, ...] = ()
    trained: tuple[str, ...] = TRAINED
    seeds: tuple[int, ...] = (0,)
    alpha: float = 0.5
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0)
    batches: BatchSettings = field(default_factory=BatchSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    validation_strategy: str = "en-en"
    validation_batches: int = 20


@dataclass(frozen=True, kw_only=True)
class EmbeddedSettings(Settings):
    """Settings of a study on the embedded corpus, with encoders trained from scratch; chosen on the development part.

    Attributes:
        corpus_seed: seed of the corpus, which is the same for every seed of the encoders.
        dictionary: names that the dictionary stage (pairs of names in two languages, before any strategy) trains on:
            "all", "no held-out names" (no dev and test subjects), those in the "trained languages", or "none".
        dictionary_steps: steps of the dictionary stage.
        layers, hidden, vocabulary: sizes of the encoder; 0 layers is the static-embedding encoder.
        extra_candidates: passages of training subjects among the candidates, per language.
    """

    corpus_seed: int = 0
    dictionary: str = "all"
    dictionary_steps: int = 1000
    layers: int = 0
    hidden: int = 128
    vocabulary: int = 8000
    extra_candidates: int = 300

    def __post_init__(self) -> None:
        _check_choice("dictionary", self.dictionary, DICTIONARIES)

    @property
    def zero_shot(self) -> tuple[str, ...]:
        """Languages that no strategy trains on."""
        return tuple(lang for lang in self.languages if lang not in self.trained)

    @property
    def described(self) -> Described:
        """The study in words."""
        encoder = f"{self.layers}-layer encoder from scratch" if self.layers else "static-embedding encoder"
        standard = self == PROFILES[self.profile]
        return Described(encoder=encoder, data="embedded corpus", folder=self.profile, standard=standard)


@dataclass(frozen=True, kw_only=True)
class PretrainedSettings(Settings):
    """Settings of a study as in the paper: a pretrained encoder, Table 9's data sets, XQuAD-R and MLQA-R.

    Attributes:
        checkpoint: a preset, a folder or a name on the hub.
        pooling, query_prefix, passage_prefix, max_length, dropout: of the encoder; None takes the value of the
            checkpoint or preset.
        encoders: folders of encoders that were trained elsewhere; nothing is trained then. The name has {strategy},
            {seed} and perhaps {alpha} in it, such as "runs-of-mine/{strategy}-{seed}"; each folder holds encoder/.
        benchmark: "xquad-r" or "mlqa-r".
        dev_benchmark: benchmark on which the mixing ratio is chosen; empty: the other one of these two.
        with_paragraph: a candidate is the sentence followed by its paragraph, as in LAReQA.
        datasets: names of Table 9's data sets.
        pairs: a file or folder of your own that replaces `datasets`.
        validation: pairs of the dev loss, which chooses the weights: "squadshifts", your own file or folder, or "none".
        translator: model that translates the English sets into the other training languages, or "none".
        limit: most pairs of each data set (of mmarco: triples to read); None: as many as Table 9 counts.
        fewest_characters, query_characters, passage_characters: shortest text, longest question and passage kept.
        answer_within: the answer must lie in so many first characters of the passage, in data sets with answers.
        leakage: evaluation sets whose texts are taken out of the training data.
    """

    checkpoint: str = "xlm-r-base"
    pooling: str | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_length: int | None = 256
    dropout: float | None = None
    encoders: str | None = None
    benchmark: str = "xquad-r"
    dev_benchmark: str = ""
    with_paragraph: bool = False
    datasets: tuple[str, ...] = tuple(name for name, source in SOURCES.items() if source.paper)
    pairs: str | None = None
    validation: str = "squadshifts"
    translator: str = "facebook/nllb-200-distilled-600M"
    limit: int | None = None
    fewest_characters: int = 3
    query_characters: int = 1000
    passage_characters: int = 50_000
    answer_within: int | None = 1000
    leakage: tuple[str, ...] = ("xquad-r", "mlqa-r", "miracl")

    def __post_init__(self) -> None:
        _check_choice("benchmark", self.benchmark, BENCHMARKS)
        _check_choice("dev_benchmark", self.dev_benchmark, ("", *BENCHMARKS))
        if self.encoders and not {"{strategy}", "{seed}"} <= set(re.findall(r"{\w+}", self.encoders)):
            raise ValueError(f"encoders must have {{strategy}} and {{seed}} in it, not {self.encoders!r}")
        for name in self.datasets:
            _check_choice("datasets", name, tuple(SOURCES))

    @property
    def zero_shot(self) -> tuple[str, ...]:
        """Languages of the benchmark that no strategy trains on."""
        return tuple(lang for lang in self.languages or CHECKSUMS[self.benchmark] if lang not in self.trained)

    @property
    def held_out(self) -> str:
        """Benchmark on which the mixing ratio is chosen."""
        return self.dev_benchmark or next(name for name in BENCHMARKS if name != self.benchmark)

    @property
    def described(self) -> Described:
        """The study in words; a change of checkpoint or benchmark alone leaves it standard."""
        standard = PROFILES[self.profile]
        preset = PRESETS.get(self.checkpoint)
        return Described(
            encoder=self.checkpoint,
            data=self.benchmark,
            folder=f"{self.profile}-{Path(self.checkpoint).name}-{self.benchmark}",
            standard=replace(self, checkpoint=standard.checkpoint, benchmark=standard.benchmark) == standard,
            paper_encoder=preset.family if preset else None,
            paper_benchmark=self.benchmark,
        )


DEMO = EmbeddedSettings(
    profile="demo",
    languages=LANGUAGES,
    seeds=(0, 1, 2),
    alphas=(0.0, 0.25, 0.5, 0.75, 1.0),
    batches=BatchSettings(batch_size=64, steps=1500),
    training=TrainingSettings(learning_rate=3e-4, temperature=0.1, validate_every=150),
    validation_batches=4,
)
PAPER = PretrainedSettings(
    profile="paper",
    trained=("ar", "de", "en", "es", "hi", "ru", "th", "tr", "zh"),
    batches=BatchSettings(batch_size=100, steps=20_000),
    training=TrainingSettings(negatives=1, precision="auto", validate_every=500, patience=10),
)
PROFILES: dict[str, Settings] = {
    "demo": DEMO,
    "smoke": replace(
        DEMO,
        profile="smoke",
        languages=("de", "el", "en"),
        trained=("de", "en"),
        seeds=(0,),
        alphas=(0.0, 0.5, 1.0),
        batches=replace(DEMO.batches, steps=20),
        training=replace(DEMO.training, validate_every=2),
        dictionary_steps=10,
        vocabulary=1000,
        extra_candidates=50,
        validation_batches=1,
    ),
    "colab": replace(
        PAPER,
        profile="colab",
        checkpoint="multilingual-minilm",
        max_length=128,
        trained=("de", "en", "es"),
        datasets=("mmarco",),
        translator="none",
        limit=500_000,
        leakage=("xquad-r", "mlqa-r"),
        batches=replace(PAPER.batches, steps=2000),
        training=replace(PAPER.training, negatives=0, validate_every=200),
    ),
    "paper": PAPER,
}


def resolve(profile: str, changes: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a profile with some of them changed.

    Args:
        profile: one of PROFILES.
        changes: name -> value; settings of batches and training go by their own names, such as {"steps": 500}. The
            value None keeps the profile's value.

    Raises:
        ValueError: unknown profile or setting, or a value of the wrong type or range; the message names it.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, not {profile!r}")
    if not isinstance(changes or {}, Mapping):
        raise ValueError(f"settings must be a dict such as {{'steps': 500}}, not {changes!r}")
    changed = PROFILES[profile]
    for name, value in (changes or {}).items():
        if value is not None:
            changed = _with(changed, name, value)
    return changed


def value_of(settings: Settings, name: str) -> Any:
    """Look up a setting by the name that `resolve` takes.

    Raises:
        ValueError: there is no setting of that name.
    """
    holder, _ = _holder(settings, name)
    return getattr(holder, name)


def names(settings: Settings) -> list[str]:
    """The names that `resolve` takes for a profile with these settings."""
    groups = [getattr(settings, part.name) for part in fields(settings) if is_dataclass(getattr(settings, part.name))]
    knobs = [knob.name for group in groups for knob in fields(group) if knob.name not in OF_A_RUN]
    plain = [part.name for part in fields(settings) if part.name != "profile"]
    return sorted({*plain, *knobs} - {"batches", "training"})


def open_choices(profile: str = "paper") -> pd.DataFrame:
    """The choices that the paper leaves open: choice, setting, reason, and the value of the setting in a profile."""
    with files("hybridlib.companion").joinpath("data", "open_choices.csv").open(encoding="utf-8") as file:
        choices = pd.read_csv(file)
    settings = choices["setting"].str.split(", ")
    return choices.assign(value=[", ".join(str(value_of(PROFILES[profile], n)) for n in part) for part in settings])


def _holder(settings: Settings, name: str) -> tuple[Any, str | None]:
    """The dataclass that has the setting as a field, and its own field name in `settings` (None for `settings`)."""
    if name in names(settings):
        for group in (None, "batches", "training"):
            holder = settings if group is None else getattr(settings, group)
            if name in {part.name for part in fields(holder)}:
                return holder, group
    raise ValueError(f"there is no parameter {name!r}; there are {', '.join(names(settings))}")


def _with(settings: Settings, name: str, value: Any) -> Settings:
    holder, group = _holder(settings, name)
    choices = next(part for part in fields(holder) if part.name == name).metadata.get("choices")
    if choices:
        _check_choice(name, value, choices)
    kind = get_type_hints(type(holder))[name]
    changed = replace(holder, **{name: _checked(name, value, kind, getattr(holder, name))})
    return changed if group is None else replace(settings, **{group: changed})


def _checked(name: str, value: Any, kind: Any, standard: Any) -> Any:
    """Convert a value to the type that the dataclass declares; error messages show the standard value."""
    if get_origin(kind) is tuple:
        needed = bool(standard) and name not in MAY_BE_EMPTY
        if isinstance(value, str) or not isinstance(value, Sequence) or (needed and not value):
            raise ValueError(f"{name} must be a list such as {list(standard)!r}, not {value!r}")
        item = get_args(kind)[0]
        return tuple(_checked(name, part, item, standard[0] if standard else item()) for part in value)
    if get_origin(kind) is UnionType:  # such as int | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        like = f"of the kind of {standard!r}" if standard is not None else f"a {kind.__name__}"
        raise ValueError(f"{name} must be {like}, not {value!r}")
    if kind in (int, float):
        _check_range(name, value)
    return kind(value)


def _check_range(name: str, value: float) -> None:
    if name in ("alpha", "alphas") and not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], not {value!r}")
    if name in MAY_BE_ZERO and value < 0:
        raise ValueError(f"{name} must be 0 or more, not {value!r}")
    if name not in MAY_BE_ZERO and not value > 0:
        raise ValueError(f"{name} must be above 0, not {value!r}")
