"""A small BPE tokenizer for texts in many scripts, trained in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
# Characters that are tokens even where the texts lack them: printable ASCII, and the Vietnamese letters, of which names
# alone do not show all.
ALPHABET = [chr(code) for code in (*range(0x21, 0x7F), *range(0x1EA0, 0x1EFA))]
LONGEST = 16  # characters of a token: Thai does not space words, and a whole sentence must not become one token


def train_tokenizer(texts: Iterable[str], *, vocabulary_size: int = 8000) -> PreTrainedTokenizerFast:
    """Train a tokenizer; the same texts in the same order give the same one.

    NFKC, then words and punctuation apart, every Chinese character alone (unspaced, and characters carry meaning), then
    BPE. Runs of Thai are left to BPE, whose merges find the frequent words. Text is not lower-cased and is encoded as
    [CLS] text [SEP].

    Raises:
        ValueError: there is no text, or the vocabulary is too small for the characters in the texts.
    """
    # Here and not above: importing transformers takes longer than building the corpus.
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.NFKC()
    chinese = pre_tokenizers.Split(Regex(r"\p{Han}"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), chinese])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=ALPHABET,
        max_token_length=LONGEST,
        show_progress=False,
    )
    texts = list(texts)
    if not texts:
        raise ValueError("no text to train a tokenizer on; give at least one")
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() > vocabulary_size:
        needed = tokenizer.get_vocab_size()
        raise ValueError(f"vocabulary_size {vocabulary_size} is below the {needed} characters of the texts; raise it")
    cls, sep = SPECIAL["cls_token"], SPECIAL["sep_token"]
    ends = [(token, tokenizer.token_to_id(token)) for token in (cls, sep)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B {sep}", special_tokens=ends
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
