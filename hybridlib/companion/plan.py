"""`run_all.sh --plan`: what a profile would run, fetch, fill and cost, before anything starts.

Hours are estimates: floating-point operations of the products, over a GPU's published peak times a share of it. The
share measured is of a CPU's own matrix rate (benchmarks/train.py); no GPU was at hand, and GPUs reach less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from hybridlib.companion.experiment.pretrained_study import ENGLISH_ONLY
from hybridlib.companion.experiment.profiles import PretrainedSettings
from hybridlib.companion.experiment.study import Study
from hybridlib.companion.report import paper
from hybridlib.companion.sources import mmarco
from hybridlib.companion.sources.table9 import SOURCES, files_of, find
from hybridlib.corpora.base import data_folder
from hybridlib.corpora.lareqa import CHECKSUMS
from hybridlib.files import stated_size

# Dense peak of the tensor cores in TFLOP/s (fp16 on the T4, bf16 on the others), from NVIDIA's data sheets.
PEAKS = {"T4": 65, "A100": 312, "H100 SXM": 989}
SHARE = 0.66  # of the matrix rate of 2 CPU cores, reached by training in float32: benchmarks/README.md
ASSUMED_SHARE = 0.20  # of a GPU's peak; assumed, not measured
QUERY_TOKENS, PASSAGE_TOKENS = 16, 100  # assumed means; MS MARCO has short questions and passages of a paragraph
BENCHMARK_TEXTS, TEXT_TOKENS = 26_104, 60  # XQuAD-R's texts; tokens assumed
ON_MIRACL = ("07_miracl", "08_high_resource", "11_ratio", "12_other_encoders")
SEARCHING = (*ON_MIRACL, "09_low_resource", "10_english")
ENGLISH = ("en-en", "x-x")  # what notebook 10 trains besides
GB = 1e9


@dataclass(frozen=True)
class Shape:
    """What the cost of an encoder hangs on: its layers, and all its weights, token vectors included."""

    layers: int
    width: int
    feedforward: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Weights of a BERT-like encoder, to about 1 %."""
        return self.layers * self._linear + (self.vocabulary + 514) * self.width

    @property
    def _linear(self) -> int:
        return 4 * self.width**2 + 2 * self.width * self.feedforward

    def flops(self, texts: int, tokens: float) -> float:
        """Operations of the products of one forward pass over texts of so many tokens; a training step takes three."""
        return texts * tokens * self.layers * (2 * self._linear + 4 * tokens * self.width)


# From the public config.json of each repository of `encoder.PRESETS`.
SHAPES = {
    "xlm-r-base": Shape(12, 768, 3072, 250_002),
    "labse": Shape(12, 768, 3072, 501_153),
    "multilingual-minilm": Shape(12, 384, 1536, 250_037),
}


def shape_of(checkpoint: str) -> Shape | None:
    """The shape of a preset or of a checkpoint's folder; None: not known without a download."""
    if checkpoint in SHAPES or not Path(checkpoint).is_dir():
        return SHAPES.get(checkpoint)
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    return Shape(config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.vocab_size)


def describe(studies: Sequence[Study], notebooks: Sequence[str]) -> Iterator[str]:
    """The plan, line by line.

    Args:
        studies: one for each time that the notebooks will run.
        notebooks: their names.
    """
    settings = studies[0].settings
    yield f"profile {settings.profile}: {len(notebooks)} notebooks ({', '.join(notebooks)})"
    if not isinstance(settings, PretrainedSettings):
        yield f"runs: {len(studies[0].all_runs())} trainings of {settings.steps} steps of {settings.batch_size} pairs"
        yield "downloads: none; everything is made on this machine (--list says what each notebook costs)"
        return
    models = {study.settings.checkpoint: study for study in studies}
    for study in studies:
        yield f"  for {study.settings.checkpoint} on {study.settings.benchmark}: {study.outputs('results')}"
    common = studies[0].all_runs()
    runs = common + (studies[0].runs(ENGLISH) if "10_english" in notebooks else [])
    strategies = sorted({run.name.rpartition("-seed")[0] for run in runs})
    yield (
        f"runs: {len(models)} checkpoints ({', '.join(models)}) x {len(strategies)} strategies "
        f"({', '.join(strategies)}) x {len(settings.seeds)} seeds = {len(models) * len(runs)} trainings"
    )
    yield f"steps: at most {settings.steps:,} each (patience {settings.patience}) of {settings.batch_size} pairs"
    yield from _downloads(settings, list(models))
    yield from _disk(settings, list(models), len(runs))
    yield from _translation(settings)
    yield from _hours(settings, list(models), len(runs))
    yield from _searches(settings, notebooks, list(models), len(common))


def _downloads(settings: PretrainedSettings, checkpoints: Sequence[str]) -> Iterator[str]:
    yield "downloads:"
    known, unknown = 0, []
    for name, size, lacking in _sizes(settings, checkpoints):
        known += size
        unknown += [f"{name} ({lacking} files)"] if lacking else []
        if size:
            yield f"  {name:<24} {size / GB:7.2f} GB" + (f", and {lacking} files more" if lacking else "")
    yield f"  {'together':<24} {known / GB:7.2f} GB"
    if unknown:
        yield f"  not counted, since the hub gave no answer: {', '.join(unknown)}"


def _sizes(settings: PretrainedSettings, checkpoints: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """What is to be fetched, bytes, and how many files have a size that is not known; caches are not looked at."""
    for checkpoint in checkpoints:
        shape = shape_of(checkpoint)
        if not Path(checkpoint).is_dir():  # weights are published in float32
            yield checkpoint, 4 * shape.parameters if shape else 0, 0 if shape else 1
    asking, known = True, mmarco.known_sizes()
    for name in dict.fromkeys((*(() if settings.pairs else settings.datasets), settings.validation)):
        source = SOURCES.get(name)
        if source is None or not source.repo or (data_folder() and (data_folder() / name).is_dir()):
            continue
        sizes = []
        for file in files_of(source, [lang for lang in settings.trained if lang in source.languages]):
            size = stated_size(source.repo, file, revision=source.revision) if asking else None
            asking = size is not None  # a hub that does not answer is not asked again
            sizes.append(known.get(file) if size is None else size)
        yield name, sum(filter(None, sizes)), sizes.count(None)
    yield "xquad-r and mlqa-r", sum(size for files in CHECKSUMS.values() for size, _ in files.values()), 0


def _disk(settings: PretrainedSettings, checkpoints: Sequence[str], runs: int) -> Iterator[str]:
    fetched = sum(size for _, size, _ in _sizes(settings, checkpoints))
    weights = [4 * shape.parameters for shape in map(shape_of, checkpoints) if shape]
    trained, working = runs * sum(weights), 8 * max(weights, default=0)  # 4 of them, old and new side by side
    total = 2 * fetched + trained + working
    yield (
        f"disk, an estimate: {total / GB:.0f} GB (what is fetched, twice, since texts are written as Arrow files; "
        f"{trained / GB:.1f} GB of trained encoders; {working / GB:.1f} GB for the state of a training; token ids and "
        "translations come on top, 4 bytes a token)"
    )


def _translation(settings: PretrainedSettings) -> Iterator[str]:
    if settings.pairs or settings.translator == "none":
        return
    names = [name for name in settings.datasets if find(name).languages == ("en",) and name not in ENGLISH_ONLY]
    pairs = sum(settings.limit or find(name).paper_size or 0 for name in names)
    into = len([lang for lang in settings.trained if lang != "en"])
    if names and into:
        yield (
            f"translation: at most {pairs:,} pairs ({', '.join(names)}) into {into} languages with "
            f"{settings.translator}; its hours are not estimated, since no rate of it has been measured on a GPU"
        )


def _hours(settings: PretrainedSettings, checkpoints: Sequence[str], runs: int) -> Iterator[str]:
    pairs = settings.batch_size * settings.steps
    checks = settings.validation_batches * settings.batch_size * (settings.steps // settings.validate_every)
    passage = min(PASSAGE_TOKENS, settings.max_length)
    yield (
        f"GPU hours of training and evaluation, estimates: {runs} runs each, queries of {QUERY_TOKENS} and passages of "
        f"{passage} tokens (assumed), {settings.negatives} explicit negatives, cached gradients: {settings.cached}"
    )
    yield f"  {'':<24} " + " ".join(f"{gpu + f' ({peak} TFLOP/s)':>22}" for gpu, peak in PEAKS.items())
    for checkpoint in checkpoints:
        shape = shape_of(checkpoint)
        if shape is None:
            yield f"  {Path(checkpoint).name:<24} its shape is not known before it is fetched"
            continue
        step = shape.flops(1, QUERY_TOKENS) + (1 + settings.negatives) * shape.flops(1, passage)
        work = (4 if settings.cached else 3) * pairs * step + checks * (
            step - settings.negatives * shape.flops(1, passage)
        )
        work = runs * (work + 2 * shape.flops(BENCHMARK_TEXTS, TEXT_TOKENS))
        yield _row(Path(checkpoint).name, work)
    yield (
        f"  from {SHARE:.0%} of the published peak (the share of a CPU's matrix rate that training reached, see "
        f"benchmarks/README.md) to {ASSUMED_SHARE:.0%} (assumed: short texts fill a GPU less); not measured on a GPU"
    )


def _searches(
    settings: PretrainedSettings, notebooks: Sequence[str], checkpoints: Sequence[str], runs: int
) -> Iterator[str]:
    """The searches of MIRACL in full, which cost more than everything else together."""
    named = [name for name in notebooks if name in SEARCHING]
    if not named:
        return
    yield f"searches ({', '.join(named)}): their downloads and disk are not counted above; DATA.md says what is fetched"
    if settings.profile != "paper" or not set(named) & set(ON_MIRACL):
        yield "  their hours are not estimated"
        return
    passages = int(paper.reported(11, measure="candidates")["value"].sum())
    yield (
        f"  MIRACL in full is {passages:,} passages (Table 11), encoded once for each of {runs} runs; GPU hours, "
        f"estimates as above, {PASSAGE_TOKENS} tokens a passage:"
    )
    for checkpoint in checkpoints:
        if shape := shape_of(checkpoint):
            yield _row(Path(checkpoint).name, runs * shape.flops(passages, PASSAGE_TOKENS))
    yield "  all other collections, and other encoders as they are (12_other_encoders), come on top, not estimated"


def _row(name: str, work: float) -> str:
    """Hours of so many operations on each GPU, at the larger and at the smaller share of its peak."""
    hours = [work / peak / 1e12 / 3600 / share for peak in PEAKS.values() for share in (SHARE, ASSUMED_SHARE)]
    cells = [f"{one:.2g}" if one < 10 else f"{one:.0f}" for one in hours]
    columns = [f"{a} to {b}" for a, b in zip(cells[::2], cells[1::2], strict=True)]
    return f"  {name:<24} " + " ".join(f"{column:>22}" for column in columns)
