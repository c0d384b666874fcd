"""What decides a training, once: the knobs of the loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch

PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainingSettings:
    """What the loop needs to know.

    Attributes:
        learning_rate, weight_decay: AdamW (arXiv 1711.05101); the paper has 3e-5 and 1e-2. Vectors such as biases and
            LayerNorm weights are not decayed (usual practice; the paper is silent).
        warmup: share of the steps in which the rate rises linearly; then it falls linearly to 0 (paper silent).
        temperature: of the loss (paper silent).
        max_grad_norm: gradients are scaled down to this norm (paper silent).
        symmetric, mask_translations: see `hybridlib.loss` (paper silent).
        negatives: explicit negatives per pair, the first of those it has (paper silent).
        validate_every: steps between validation losses; the weights with the lowest are kept, as in the paper.
        patience: stop after this many validations without a new lowest loss; None trains all steps.
        checkpoint_every: steps between checkpoints.
        seed: of dropout, if there is any.
        precision: of the backbone's products: "no" (float32), "bf16" or "fp16" (with a loss scale).
        cached: recompute vectors part by part, so that memory does not grow with the batch; see `gradients`.
        part_tokens: texts are sorted by length and computed in parts of so many tokens, padding included; None: as the
            device likes it (1,536 on a CPU, 32,768 on a GPU; without layers queries and passages as they come).
        compile: let torch.compile translate the encoder, a minute or more at the start, for faster steps in half
            precision (benchmarks/README.md says how much); the same dropout, results equal but for rounding.
    """

    learning_rate: float = 3e-5
    weight_decay: float = 1e-2
    warmup: float = 0.1
    temperature: float = 0.05
    max_grad_norm: float = 1.0
    symmetric: bool = False
    mask_translations: bool = True
    negatives: int = 0
    validate_every: int = 100
    patience: int | None = None
    checkpoint_every: int = 500
    seed: int = 0
    precision: str = "no"
    cached: bool = False
    part_tokens: int | None = None
    compile: bool = False

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
