"""Texts and starting encoders of a study as in the paper: pretrained encoders, Table 9, XQuAD-R and MLQA-R.

Every stage is a separate run, which is loaded if it is complete: a data set (fetched, filtered, cleared of evaluation
texts), the translation of a data set, the pairs of all data sets together. A data set that cannot be had is left out,
and a message says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path

import torch

from hybridlib.companion.experiment.profiles import PretrainedSettings
from hybridlib.companion.experiment.runs import RunStore
from hybridlib.companion.sources.filters import TextLimits
from hybridlib.companion.sources.leakage import protect
from hybridlib.companion.sources.table9 import SOURCES, find, load, report
from hybridlib.companion.sources.translation import Translator, translate_pairs
from hybridlib.corpora.base import Benchmark, ParallelPairs
from hybridlib.corpora.lareqa import CHECKSUMS, load_lareqa
from hybridlib.corpora.own import open_pairs
from hybridlib.corpora.write import concatenate
from hybridlib.encoder import Encoder, identity
from hybridlib.files import write_json
from hybridlib.training.gradients import DTYPES

ENGLISH_ONLY = ("mr-tydi", "mfaq")  # the paper did not translate these two
ENCODER = ("pooling", "query_prefix", "passage_prefix", "max_length", "dropout")  # settings that `Encoder.load` takes
DATA_CODE, TRANSLATION_CODE = (f"hybridlib.companion.sources.{name}" for name in ("table9", "translation"))


class PretrainedTexts:
    """The training pairs, benchmarks and encoders of a study of pretrained encoders; each is made at its first use.

    Args:
        settings: settings of the study.
        store: holds the runs of the data.
    """

    progress = True  # a training takes minutes or hours

    def __init__(self, settings: PretrainedSettings, store: RunStore) -> None:
        self.settings, self.store = settings, store

    @cached_property
    def train(self) -> ParallelPairs:
        """The training pairs of all data sets."""
        return open_pairs(self.settings.pairs) if self.settings.pairs else self._mixed()

    @cached_property
    def dev_pairs(self) -> ParallelPairs | None:
        """Pairs of the dev loss, which chooses the weights that are kept; None: the last weights are kept."""
        name = self.settings.validation
        if name == "none":
            return None
        return ParallelPairs.load(self._data(name) / name) if name in SOURCES else open_pairs(name)

    @cached_property
    def dev(self) -> Benchmark:
        """The benchmark on which the mixing ratio is chosen."""
        return self._benchmark(self.settings.held_out)

    @cached_property
    def test(self) -> Benchmark:
        """The benchmark on which results are reported."""
        return self._benchmark(self.settings.benchmark)

    def start_key(self, seed: int) -> str:
        """Key of the checkpoint, its content and how its vectors are computed; the same for every seed."""
        taken = {name: getattr(self.settings, name) for name in ENCODER}
        return json.dumps({**taken, "checkpoint": self._identity}, sort_keys=True)

    def start_encoder(self, seed: int) -> Encoder:
        """The pretrained checkpoint."""
        return Encoder.load(self.settings.checkpoint, **{name: getattr(self.settings, name) for name in ENCODER})

    @property
    def search_dtype(self) -> torch.dtype | None:
        """Precision in which searches encode texts: that of training."""
        return DTYPES[self.settings.training.resolved().precision]

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Leave the number of threads as it is."""
        yield

    @cached_property
    def _identity(self) -> dict:
        return identity(self.settings.checkpoint)

    def _benchmark(self, name: str) -> Benchmark:
        languages = [lang for lang in self.settings.languages if lang in CHECKSUMS[name]] or None
        return load_lareqa(name, languages=languages, with_paragraph=self.settings.with_paragraph)

    # ---- training data

    def _mixed(self) -> ParallelPairs:
        """The pairs of all data sets that can be had, translated where the settings say so, as one mapped corpus.

        A data set that was left out stays left out until the folder of the run "pairs" is removed, so that all
        trainings see the same pairs.

        Raises:
            ValueError: none of the data sets can be had.
        """
        s = self.settings
        names = ("datasets", "trained", "translator", "limit", "fewest_characters", "query_characters")
        names += ("passage_characters", "answer_within", "leakage")
        parameters = {"stage": "pairs", **{name: getattr(s, name) for name in names}}
        parameters["sources"] = [asdict(find(name)) for name in s.datasets]
        folder = self.store.load_or_make("pairs", parameters, self._make_mixed, code=__name__)
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
            reasons = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
            raise ValueError(f"none of the data sets can be had. {reasons}")
        corpus = parts[0]
        if len(parts) > 1:
            corpora = [ParallelPairs.load(part) for part in parts]
            corpus = folder / "pairs"
            concatenate(corpus, corpora, "+".join(part.name for part in corpora))
        content = {"corpus": str(corpus.relative_to(self.store.folder)), "left out": problems}
        write_json(folder / "sets.json", content)

    def _data(self, name: str) -> Path:
        """Folder of the run that fetches and filters a data set of Table 9 and clears it of evaluation texts.

        Raises:
            OSError: the data set cannot be had; the message says what to do.
        """
        s, source = self.settings, find(name)
        languages = [lang for lang in s.trained if lang in source.languages] or ["en"]
        limits = {"query": (s.fewest_characters, s.query_characters)}
        limits |= {"passage": (s.fewest_characters, s.passage_characters), "answer_within": s.answer_within}
        options = {"languages": languages, "limit": s.limit or source.paper_size}
        parameters = {"stage": "data", "source": asdict(source), **options, "limits": limits, "leakage": s.leakage}
        make = partial(self._make_data, name=name, limits=TextLimits(**limits), options=options)
        return self.store.load_or_make(f"data-{name}", parameters, make, code=DATA_CODE)

    def _make_data(self, folder: Path, name: str, limits: TextLimits, options: dict) -> None:
        protected = protect(self.settings.leakage) if self.settings.leakage else None
        load(name, folder / name, limits=limits, protected=protected, **options)
        print(report(name, folder / name), flush=True)

    def _translated(self, name: str) -> Path:
        """Folder of a data set's pairs, translated into the trained languages that it lacks, if the settings say so."""
        s, data = self.settings, self._data(name)
        pairs = ParallelPairs.load(data / name)
        languages = [lang for lang in s.trained if lang != "en"]
        if s.translator == "none" or name in ENGLISH_ONLY or pairs.languages != ("en",) or not languages:
            return data / name
        parameters = {"stage": "translate", "data": data.name, "model": identity(s.translator), "languages": languages}
        make = partial(self._make_translation, pairs=pairs, languages=languages)
        return self.store.load_or_make(f"translated-{name}", parameters, make, code=TRANSLATION_CODE) / "corpus"

    def _make_translation(self, folder: Path, pairs: ParallelPairs, languages: list[str]) -> None:
        translator = Translator.load(self.settings.translator, dtype=self.search_dtype)
        _, counts = translate_pairs(pairs, languages, folder, translator)
        print(counts.to_string(index=False), flush=True)
