"""Parameters of the experiment with pretrained encoders: profiles `paper` and `colab`, what the paper leaves open."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

import torch

from hybridlib.companion.sources.table9 import SOURCES
from hybridlib.corpora.lareqa import CHECKSUMS
from hybridlib.sampler import MIXTURES
from hybridlib.training.settings import TrainingSettings

BENCHMARKS = tuple(CHECKSUMS)
TABLE_9 = tuple(name for name, source in SOURCES.items() if source.paper)
PRECISIONS = ("auto", "no", "bf16", "fp16")


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")


@dataclass(frozen=True)
class PretrainedSettings:
    """Everything that decides the results with a pretrained encoder; `OPEN_CHOICES` says what the paper leaves open.

    Attributes:
        checkpoint: a folder, a name of `encoder.PRESETS` or a name on the hub.
        benchmark: "xquad-r" or "mlqa-r"; `dev_benchmark`, where the mixing ratio is chosen, is the other one if empty.
        languages: of the benchmarks; empty means all they have.
        encoders: encoders trained elsewhere take the place of training: their folders, with {strategy}, {seed} and
            perhaps {alpha} in the name, such as "runs-of-mine/{strategy}-{seed}"; each holds encoder/.
        datasets: names of Table 9's sets; `pairs`, a file or folder of your own, takes their place.
        validation: pairs that choose the weights: "squadshifts", a file or folder of your own, or "none".
        trained: training languages.
        translator: model that translates the English sets into the other training languages, or "none".
        limit: pairs of each data set at most (of mmarco: triples to read); None: as many as Table 9 counts.
        fewest_characters, query_characters, passage_characters: shortest text, longest question and passage kept.
        answer_within: characters of the passage that must hold the answer, where a set has answers.
        leakage: evaluation sets whose texts are taken out of the training data.
        seeds, alphas: as in `experiment.Settings`. The others are those of `TrainingSettings`, `BatchSampler` and
            `Encoder.load`; None for pooling, prefixes and dropout: the checkpoint's or the preset's. Precision "auto"
            is bf16 or fp16 on a GPU, whichever it has, and "no" (float32) on a CPU.
        with_paragraph: a candidate is the sentence followed by its paragraph, as in LAReQA.
    """

    profile: str = "paper"
    checkpoint: str = "xlm-r-base"
    encoders: str | None = None
    benchmark: str = "xquad-r"
    dev_benchmark: str = ""
    languages: tuple[str, ...] = ()
    with_paragraph: bool = False
    datasets: tuple[str, ...] = TABLE_9
    pairs: str | None = None
    validation: str = "squadshifts"
    trained: tuple[str, ...] = ("ar", "de", "en", "es", "hi", "ru", "th", "tr", "zh")
    translator: str = "facebook/nllb-200-distilled-600M"
    limit: int | None = None
    fewest_characters: int = 3
    query_characters: int = 1000
    passage_characters: int = 50_000
    answer_within: int | None = 1000
    leakage: tuple[str, ...] = ("xquad-r", "mlqa-r", "miracl")
    seeds: tuple[int, ...] = (0,)
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0)
    mixture: str = "language-first"
    steps: int = 20_000
    batch_size: int = 100
    learning_rate: float = 3e-5
    weight_decay: float = 1e-2
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    temperature: float = 0.05
    symmetric: bool = False
    mask_translations: bool = True
    negatives: int = 1
    pooling: str | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_length: int = 256
    dropout: float | None = None
    precision: str = "auto"
    cached: bool = False
    part_tokens: int | None = None
    compile: bool = False
    validation_strategy: str = "en-en"
    validation_batches: int = 20
    validate_every: int = 500
    patience: int | None = 10

    def __post_init__(self) -> None:
        _check_choice("benchmark", self.benchmark, BENCHMARKS)
        _check_choice("dev_benchmark", self.dev_benchmark, ("", *BENCHMARKS))
        if self.encoders and not {"{strategy}", "{seed}"} <= set(re.findall(r"{\w+}", self.encoders)):
            raise ValueError(f"encoders must have {{strategy}} and {{seed}} in it, not {self.encoders!r}")
        _check_choice("mixture", self.mixture, MIXTURES)
        _check_choice("precision", self.precision, PRECISIONS)
        for name in self.datasets:
            _check_choice("datasets", name, tuple(SOURCES))
        self.training(self.seeds[0])

    @property
    def zero_shot(self) -> tuple[str, ...]:
        """Languages of the benchmark that no strategy trains on."""
        spoken = self.languages or tuple(CHECKSUMS[self.benchmark])
        return tuple(lang for lang in spoken if lang not in self.trained)

    @property
    def held_out(self) -> str:
        """Benchmark on which the mixing ratio is chosen."""
        return self.dev_benchmark or next(name for name in BENCHMARKS if name != self.benchmark)

    def training(self, seed: int) -> TrainingSettings:
        """Settings of the training loop on this machine."""
        names = {field.name for field in fields(TrainingSettings)} & set(vars(self))
        values = {name: getattr(self, name) for name in names} | {"seed": seed, "precision": self.resolved_precision()}
        return TrainingSettings(**values)

    def resolved_precision(self) -> str:
        """What "auto" means on this machine."""
        if self.precision != "auto":
            return self.precision
        if not torch.cuda.is_available():
            return "no"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


PAPER = PretrainedSettings()
COLAB = PretrainedSettings(
    profile="colab",
    checkpoint="multilingual-minilm",
    datasets=("mmarco",),
    trained=("de", "en", "es"),
    translator="none",
    limit=500_000,
    leakage=("xquad-r", "mlqa-r"),
    steps=2000,
    max_length=128,
    negatives=0,
    validate_every=200,
)

# What the paper leaves open, the parameter that holds our choice, and why it is what it is (values: PAPER).
OPEN_CHOICES = (
    ("size of XLM-R", "checkpoint", "base, since LaBSE is base-sized too"),
    ("pooling", "pooling", "of the preset: mean for XLM-R, LaBSE's published head (CLS, dense, tanh)"),
    (
        "prefixes to the letter",
        "query_prefix, passage_prefix",
        "'Query: ' and 'Passage: ', with one space as E5 has it",
    ),
    ("maximum length", "max_length", "tokens; holds nearly all passages of mMARCO, the largest set"),
    ("temperature", "temperature", "E5 and SimCSE take .01 to .05; the gentle end, to be chosen on dev"),
    ("loss in both directions", "symmetric", "equation 1 has one direction"),
    ("translations of the passage as negatives", "mask_translations", "they answer the query too, so they are masked"),
    (
        "where explicit negatives come from",
        "negatives",
        "equation 1 has triplets: the first negative of each pair",
    ),
    ("number of steps", "steps", "the same for all strategies; two million pairs, with early stopping"),
    (
        "early stopping",
        "patience, validate_every",
        "lowest SQuADShifts loss is kept; ten without gain end it",
    ),
    ("validation loss", "validation_strategy, validation_batches", "English batches, as SQuADShifts is English"),
    ("warm-up and schedule", "warmup", "linear up, then linear down to 0: the usual one for these encoders"),
    ("gradient clipping", "max_grad_norm", "the usual norm"),
    ("dropout", "dropout", "None: as in the checkpoint"),
    ("mixed precision", "precision", "what the device has"),
    ("data sets and languages", "mixture", "section 2.2 draws languages uniformly; the abstract says by data-set size"),
    ("English-only sets in X-Y", "datasets", "Mr. TyDi and MFAQ stay untranslated, so they serve English batches only"),
    ("translation", "translator", "the paper's own is not public; it names NLLB"),
    ("filters of the sets", "answer_within, passage_characters", "an encoder sees the beginning of a passage only"),
    ("leaks", "leakage", "the paper says that training and evaluation are separate; exact matches are taken out"),
    ("candidates", "with_paragraph", "a sentence alone, as Table 10 counts them; LAReQA appends the paragraph"),
    ("what chose alpha", "dev_benchmark", "the other benchmark: the paper names no held-out set"),
    ("seeds", "seeds", "one, as in the paper; more give an uncertainty over seeds"),
)
