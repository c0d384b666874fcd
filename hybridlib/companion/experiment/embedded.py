"""Texts and starting encoders of a study on the embedded corpus: random weights, then a dictionary stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from hybridlib.companion.experiment.profiles import EmbeddedSettings
from hybridlib.companion.experiment.runs import RunStore
from hybridlib.companion.sources.embedded.corpus import EmbeddedCorpus, build_corpus
from hybridlib.companion.sources.embedded.tokenizer import train_tokenizer
from hybridlib.corpora.base import Benchmark, ParallelPairs
from hybridlib.encoder import Encoder
from hybridlib.training.loop import train
from hybridlib.training.processes import all_processes
from hybridlib.training.settings import BatchSettings, TrainingSettings


class EmbeddedTexts:
    """The training pairs, benchmarks and starting encoders of a study on the embedded corpus.

    Args:
        settings: settings of the study.
        store: holds the runs of the dictionary stage.
    """

    search_dtype = None  # float32
    progress = False  # a training takes seconds

    def __init__(self, settings: EmbeddedSettings, store: RunStore) -> None:
        self.settings, self.store = settings, store

    @cached_property
    def corpus(self) -> EmbeddedCorpus:
        """The embedded corpus of these settings."""
        s = self.settings
        options = {"corpus_seed": s.corpus_seed, "extra_candidates": s.extra_candidates}
        return build_corpus(languages=s.languages, trained=s.trained, **options)

    @property
    def train(self) -> ParallelPairs:
        """Training pairs in the trained languages."""
        return self.corpus.train

    @property
    def dev_pairs(self) -> ParallelPairs:
        """Pairs of the dev loss, which chooses the weights that are kept."""
        return self.corpus.dev_pairs

    @property
    def dev(self) -> Benchmark:
        """The benchmark on which the mixing ratio is chosen."""
        return self.corpus.dev

    @property
    def test(self) -> Benchmark:
        """The benchmark on which results are reported."""
        return self.corpus.test

    def start_key(self, seed: int) -> str:
        """Key of the encoder that all strategies of a seed start from; another starting encoder has another key."""
        return self.store.path(*self._start_run(seed)).name

    def start_encoder(self, seed: int) -> Encoder:
        """The encoder that all strategies of a seed start from: random weights after the dictionary stage."""
        name, parameters, code = self._start_run(seed)
        make = partial(self._make_start, seed=seed)
        folder = self.store.load_or_make(name, parameters, make, code=code, together=all_processes())
        return Encoder.load(str(folder / "encoder"))

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Use one thread for the static-embedding encoder, whose operations are too small to gain by more threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(before if self.settings.layers else 1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _start_run(self, seed: int) -> tuple[str, dict, str]:
        """Name, parameters and code of the dictionary stage, as the store takes them."""
        s = self.settings
        names = ("languages", "dictionary", "dictionary_steps", "layers", "hidden", "vocabulary")
        parameters = {"stage": "dictionary", "seed": seed, "batch_size": s.batches.batch_size}
        parameters |= {name: getattr(s, name) for name in names}
        return f"dictionary-seed{seed}", {**parameters, "texts": self._fingerprint}, __name__

    @cached_property
    def _fingerprint(self) -> str:
        """Hash of all texts that the dictionary stage and the tokenizer may see."""
        texts = json.dumps(list(self.corpus.texts()), ensure_ascii=False)
        return hashlib.sha256((self.corpus.dictionary().fingerprint + texts).encode()).hexdigest()

    def _make_start(self, folder: Path, seed: int) -> None:
        s = self.settings
        encoder = Encoder.tiny(self._tokenizer(), layers=s.layers, hidden=s.hidden, seed=seed)
        if s.dictionary != "none":
            languages = s.trained if s.dictionary == "trained languages" else None
            pairs = self.corpus.dictionary(held_out=s.dictionary != "no held-out names", languages=languages)
            batches = BatchSettings("x-y", batch_size=s.batches.batch_size, steps=s.dictionary_steps, seed=seed)
            settings = TrainingSettings(learning_rate=1e-3, temperature=0.05, seed=seed)
            with self.threads():
                train(encoder, batches.sampler(pairs), settings, folder / "training.safetensors")
        if all_processes().is_main_process:
            encoder.save(folder / "encoder")
            (folder / "training.safetensors").unlink(missing_ok=True)

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        dictionary = self.settings.dictionary
        texts = self.corpus.texts(
            held_out=dictionary != "no held-out names", untrained=dictionary != "trained languages"
        )
        return train_tokenizer(texts, vocabulary_size=self.settings.vocabulary)
