"""Tokens that tell an encoder which language a text is in: mBART's en_XX, M2M-100's __en__, NLLB-200's eng_Latn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES

from hybridlib.companion.sources.languages import NLLB

# ISO 639-1 -> the token's name, in each family. mBART-50's codes begin with those of mBART.
FAMILIES = ({code[:2]: code for code in FAIRSEQ_LANGUAGE_CODES}, {lang: f"__{lang}__" for lang in NLLB}, NLLB)


class NoLanguageCode(ValueError):
    """A language that an encoder which puts codes beside texts has no code for."""


@dataclass(frozen=True)
class LanguageCodes:
    """The codes of a tokenizer.

    Attributes:
        tokens: language (ISO 639-1) -> id of the token that stands for it.
        place: where it stands among the tokens of a text, 0 or -1: `[code] text [eos]` in mBART-50, M2M-100 and
            NLLB-200, `text [eos] [code]` in mBART.
    """

    tokens: dict[str, int]
    place: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> LanguageCodes | None:
        """Those that the tokenizer knows and puts beside a text; None where it does not."""
        empty = tokenizer("")["input_ids"]
        for family in FAMILIES:
            ids = tokenizer.convert_tokens_to_ids(list(family.values()))
            pairs = zip(family, ids, strict=True)
            tokens = {lang: token for lang, token in pairs if token not in (None, tokenizer.unk_token_id)}
            places = [place for place in (0, -1) if empty and empty[place] in tokens.values()]
            if places:
                return cls(tokens, places[0])
        return None

    def check(self, languages: Sequence[str] | None, texts: Sequence[str]) -> None:
        """ValueError where there is not one language for each text, or one has no code."""
        if languages is None or isinstance(languages, str) or len(languages) != len(texts):
            raise ValueError(
                f"this encoder puts a language code beside each text: give languages, a list with one for each of the "
                f"{len(texts)} texts"
            )
        self.require(languages, "texts")

    def require(self, languages: Sequence[str], name: str) -> None:
        """NoLanguageCode where one of these languages, of what has that name, has none."""
        lacking = [repr(lang) for lang in dict.fromkeys(languages) if lang not in self.tokens]
        if lacking:
            known = " ".join(sorted(self.tokens))
            raise NoLanguageCode(f"{name}: this encoder has no code for {', '.join(lacking)}; it knows {known}")

    def put(self, ids: list[list[int]], languages: Sequence[str]) -> None:
        """Replace the code that the tokenizer put into each text's ids by that of the text's own language."""
        for row, lang in zip(ids, languages, strict=True):
            row[self.place] = self.tokens[lang]
