"""Machine translation of many texts with NLLB-200 or M2M-100 through transformers."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, takewhile
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from hybridlib.companion.sources.languages import NLLB, WITHOUT_SPACES, check_language
from hybridlib.companion.sources.sentences import cut, split_sentences
from hybridlib.encoder import (
    CheckpointError,
    check_complete,
    check_texts,
    identity,
    local_folder,
    plan_batches,
    reading,
)

NLLB_600M = "facebook/nllb-200-distilled-600M"
SPECIAL = 2  # tokens around those of a sentence: its language before it, the end after it


@dataclass(frozen=True)
class TranslationSettings:
    """How texts are translated; all but `batch_tokens` decide the outcome.

    Attributes:
        beams: 1 is greedy; published scores are mostly of 4 or 5, which takes about as many times as long.
        max_source_tokens: a longer sentence is cut at spaces. Users of NLLB report that quality falls from about 200
            tokens on (sillsdev/silnlp, issue 182).
        growth: a translation is cut off at so many times as many tokens as its source has, and 16 more: where a loop
            ends. Not measured on the real tokenizers.
        batch_tokens: source tokens of a batch, padding and beams counted in (a GPU wants more, 16,384 say).
    """

    beams: int = 1
    max_source_tokens: int = 200
    growth: float = 2.0
    batch_tokens: int = 1024

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value >= 1:
                raise ValueError(f"{name} is {value}: give at least 1")

    def most_tokens(self, source_tokens: int) -> int:
        """Give the tokens that the translation of a sentence of so many tokens may have."""
        return math.ceil(self.growth * source_tokens) + 16


class Translator:
    """A model and its tokenizer.

    Attributes: model (transformers' M2M100ForConditionalGeneration, the class of both families), tokenizer, folder
    (where the checkpoint lies).
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
        self.model, self.tokenizer, self.folder = model, tokenizer, folder
        start = model.generation_config.decoder_start_token_id
        special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        # What a checkpoint says about beams and lengths stays out: `TranslationSettings` does.
        model.generation_config = GenerationConfig(decoder_start_token_id=start, **special)

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path = NLLB_600M,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Translator:
        """Load a checkpoint of NLLB-200 or M2M-100, from a folder or from the hub at `revision`; no code of it is run.

        M2M-100's tokenizer needs the package sentencepiece. Weights that are a pickle are read as weights only.

        Args:
            device: None: the GPU that $LOCAL_RANK numbers (accelerate launch and torchrun set it), else the first,
                else the CPU.
            dtype: of the weights; None is float32. On a GPU torch.float16 is faster and takes half the memory.

        Raises:
            CheckpointError: (a ValueError) anything else than a complete translation model.
        """
        folder = local_folder(name_or_folder, revision)
        with reading(folder, "translation model"):
            options = {"trust_remote_code": False, "weights_only": True, "output_loading_info": True}
            model, report = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=dtype or torch.float32, **options)
            tokenizer = _read_tokenizer(folder)
            check_complete(folder, report["missing_keys"], tokenizer)
        translator = cls(model.to(device or _default_device()).eval(), tokenizer, folder)
        if not translator.languages:
            raise CheckpointError(f"{folder} knows no language as NLLB-200 or M2M-100 names it: use one of these")
        return translator

    @cached_property
    def languages(self) -> dict[str, int]:
        """Languages that the model knows -> token of the language, which NLLB-200 writes deu_Latn, M2M-100 __de__."""
        tokens = {lang: self.tokenizer.convert_tokens_to_ids([code, f"__{lang}__"]) for lang, code in NLLB.items()}
        unknown = (None, self.tokenizer.unk_token_id)
        known = {lang: [token for token in pair if token not in unknown] for lang, pair in tokens.items()}
        return {lang: pair[0] for lang, pair in known.items() if pair}

    def check_languages(self, *languages: str) -> None:
        """Refuse a language that hybridlib or the model does not know, by a ValueError that lists those known."""
        for lang in languages:
            check_language(lang)
            if lang not in self.languages:
                known = " ".join(self.languages)
                raise ValueError(f"{self.folder} does not translate {lang!r}; it knows {known}")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the checkpoint's files and the dtype: equal models have equal ones, whatever their folder."""
        content = {"dtype": str(self.model.dtype), **identity(self.folder)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def translate(
        self,
        texts: Sequence[str],
        *,
        target: str,
        source: str = "en",
        settings: TranslationSettings | None = None,
        progress: bool = False,
    ) -> list[str]:
        """Translate texts, in their order; an empty text stays empty.

        Every sentence is translated by itself, equal ones once: models trained on sentence pairs leave out what comes
        after the first (facebookresearch/fairseq, issues 5108 and 5478). Sentences are joined with a space, in
        Chinese and Japanese without. In which batch a text stands changes nothing but ties within rounding.

        Raises:
            ValueError: an unknown language, a setting out of range, or a text that is none; the text says which.
        """
        settings = settings or TranslationSettings()
        self.check_languages(source, target)
        self._check_length(settings)
        check_texts(texts)
        pieces = [self._pieces(text, settings) for text in texts]
        distinct = list(dict.fromkeys(chain.from_iterable(pieces)))
        translated = self._translate_all(distinct, source, target, settings, progress)
        translations = dict(zip(distinct, translated, strict=True))
        joint = "" if target in WITHOUT_SPACES else " "
        return [joint.join(filter(None, map(translations.get, parts))) for parts in pieces]

    def _check_length(self, settings: TranslationSettings) -> None:
        longest = settings.most_tokens(settings.max_source_tokens) + SPECIAL
        positions = getattr(self.model.config, "max_position_embeddings", longest)
        if longest > positions:
            raise ValueError(
                f"max_source_tokens {settings.max_source_tokens} and growth {settings.growth:g} make translations of "
                f"{longest} tokens, but {self.folder} has {positions} positions: lower one of them"
            )

    def _pieces(self, text: str, settings: TranslationSettings) -> list[str]:
        """The sentences of a text, those that are too long in parts."""
        longest, sentences = settings.max_source_tokens, split_sentences(text)
        parts = (
            [sentence] if length <= longest else cut(sentence, longest, self._count)
            for sentence, length in zip(sentences, self._count(sentences), strict=True)
        )
        return list(chain.from_iterable(parts))

    def _count(self, texts: Sequence[str]) -> list[int]:
        return list(map(len, self._tokenize(texts)))

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids without special tokens, which `_batch` puts around them as both families want them."""
        options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
        return self.tokenizer(list(texts), **options)["input_ids"] if texts else []

    def _translate_all(
        self, texts: list[str], source: str, target: str, settings: TranslationSettings, progress: bool
    ) -> list[str]:
        tokens = self._tokenize(texts)
        lengths = np.array([len(ids) + SPECIAL for ids in tokens], dtype=np.int64)
        translations = [""] * len(texts)
        with tqdm(total=len(texts), unit="sentence", desc=f"{source}-{target}", disable=not progress) as bar:
            for places in plan_batches(lengths, max(1, settings.batch_tokens // settings.beams)):
                batch = self._generate([tokens[place] for place in places], source, target, settings)
                for place, ids in zip(places, batch, strict=True):
                    translations[place] = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
                bar.update(len(places))
        return translations

    @torch.inference_mode()
    def _generate(
        self, tokens: list[list[int]], source: str, target: str, settings: TranslationSettings
    ) -> list[list[int]]:
        """Token ids of the translations of a batch, longest source first, without special tokens."""
        input_ids, mask = self._batch(tokens, self.languages[source])
        most = [settings.most_tokens(len(ids)) for ids in tokens]
        output = self.model.generate(
            input_ids=input_ids,
            attention_mask=mask,
            forced_bos_token_id=self.languages[target],
            num_beams=settings.beams,
            do_sample=False,
            max_new_tokens=max(most) + SPECIAL,
        )
        end = self.tokenizer.eos_token_id
        # Each row starts with the decoder's start and the language. A row is cut at its own limit, not at the batch's.
        rows = ([*takewhile(lambda token: token != end, row)] for row in output[:, 2:].tolist())
        return [row[:limit] for row, limit in zip(rows, most, strict=True)]

    def _batch(self, tokens: list[list[int]], language: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask (B, T) of `language ids end`: the format of M2M-100 and, since April 2023, of NLLB-200."""
        rows = [torch.tensor([language, *ids, self.tokenizer.eos_token_id]) for ids in tokens]
        ids = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return ids.to(self.model.device), mask.to(self.model.device)


def _read_tokenizer(folder: Path) -> Tokenizer:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except ImportError as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{folder}: its tokenizer needs a package that is not installed ({reason}); M2M-100 needs sentencepiece: "
            "pip install 'hybridlib[translate]'"
        ) from error


def _default_device() -> str:
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
