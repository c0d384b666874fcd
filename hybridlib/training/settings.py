"""What decides a training, once: the batches that are drawn and the knobs of the loop.

Both are dataclasses whose fields say what they are, so that commands make their flags from them. Nothing heavy is
imported: a command's --help must be quick.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace

from hybridlib.corpora.base import ParallelPairs
from hybridlib.sampler import MIXTURES, STRATEGIES, BatchSampler

PRECISIONS = ("no", "bf16", "fp16", "auto")


def _knob(default: object, text: str, **options: object) -> object:
    """A field with its default and what --help says; `options` such as choices are argparse's."""
    return field(default=default, metadata={"help": text, **options})


@dataclass(frozen=True)
class BatchSettings:
    """What is in the batches, apart from the corpus; `hybridlib.sampler.BatchSampler` says it in full."""

    strategy: str = _knob("hybrid", "what a batch is made of", choices=STRATEGIES)
    alpha: float | None = _knob(None, "share of monolingual batches, of hybrid only (None: 0.5)")
    batch_size: int = _knob(100, "pairs in a batch, over all processes; the paper's")
    steps: int = _knob(1000, "number of batches")
    languages: list[str] | None = _knob(None, "training languages (None: all of the pairs)")
    mixture: str = _knob(MIXTURES[0], "whether a language is drawn first, or a data set by its size", choices=MIXTURES)
    seed: int = _knob(0, "of the batches, and of dropout")

    def sampler(self, corpus: ParallelPairs) -> BatchSampler:
        """The batches of these settings from a corpus; ValueError where it cannot fill them."""
        return BatchSampler(corpus, **asdict(self))

    @classmethod
    def of(cls, sampler: BatchSampler) -> BatchSettings:
        """The settings that a sampler was made with."""
        return cls(**{field.name: getattr(sampler, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class TrainingSettings:
    """What the loop needs to know beside the batches.

    The paper has learning_rate and weight_decay (of AdamW, arXiv 1711.05101) and keeps the weights of the lowest
    validation loss; about the others it is silent. Vectors such as biases and LayerNorm weights are not decayed (usual
    practice). `symmetric` and `mask_translations` are explained in `hybridlib.loss`, `cached` in
    `hybridlib.training.gradients`; benchmarks/README.md says what `compile` gains. Its results are equal but for
    rounding, with the same dropout. Texts are sorted by length before they are cut into parts of `part_tokens`; an
    encoder without layers computes the queries and the passages as they come where it is None.

    Raises:
        ValueError: a value is out of its range; the text names it.
    """

    learning_rate: float = _knob(3e-5, "highest rate of AdamW; the paper's")
    weight_decay: float = _knob(1e-2, "of matrices; the paper's")
    warmup: float = _knob(0.1, "share of the steps in which the rate rises linearly; then it falls linearly to 0")
    temperature: float = _knob(0.05, "scores are divided by it")
    max_grad_norm: float = _knob(1.0, "gradients are scaled down to this norm")
    symmetric: bool = _knob(False, "also find the query of each passage")
    mask_translations: bool = _knob(True, "translations of the passage are no negatives; with --no- they are")
    negatives: int = _knob(0, "explicit negatives per pair, the first of those it has")
    validate_every: int = _knob(100, "steps between validation losses")
    patience: int | None = _knob(None, "validations without a new lowest loss before stopping (None: all steps)")
    checkpoint_every: int = _knob(500, "steps between checkpoints, from which a killed run goes on")
    seed: int = _knob(0, "of the batches, and of dropout")
    precision: str = _knob("no", "no: float32; auto: half on a GPU that has it", choices=PRECISIONS)
    cached: bool = _knob(False, "recompute vectors part by part: memory of a part, whatever the batch size; slower")
    part_tokens: int | None = _knob(None, "padded tokens computed at once; None: 1,536 on a CPU, 32,768 on a GPU")
    compile: bool = _knob(False, "let torch.compile translate the encoder: a minute or more, then faster steps in bf16")

    def __post_init__(self) -> None:
        for name in ("learning_rate", "temperature", "max_grad_norm", "validate_every", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if self.part_tokens is not None and self.part_tokens < 1:
            raise ValueError(f"part_tokens must be above 0, or None, not {self.part_tokens}")
        if self.negatives < 0 or self.weight_decay < 0 or not 0 <= self.warmup <= 1:
            raise ValueError("negatives and weight_decay must be 0 or more, and warmup in [0, 1]")

    def resolved(self) -> TrainingSettings:
        """These settings with what precision "auto" means on this machine."""
        if self.precision != "auto":
            return self
        import torch

        if not torch.cuda.is_available():
            return replace(self, precision="no")
        return replace(self, precision="bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")
