"""Full-size models with random weights: number of parameters, memory, one training step, shape of the vectors.

    python benchmarks/sizes.py [--only NAME ...] [--vocabulary N] [--json FILE]

Every model is built in a process of its own, one after the other, from the configuration in its repository's
config.json, written down from copies of it in repositories of fine-tuned models (nothing is downloaded). An encoder
takes one step in float32 of AdamW with the gradients of `hybridlib.training`: 8 pairs of a question of 16 and a
passage of 128 tokens, in cached parts of 1,536 tokens. Computed for it: 16 bytes per parameter (weights, gradients, two
moments). Measured: the most memory that the process ever had, libraries included; what training writes to disk is not
part of it. The translator translates 8 sentences. GB are 10^9 bytes. A model that does not fit is not run, and the
table says so. `--vocabulary` cuts the vocabularies, for a quick try; no number counts then.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts: threads that spin slow each other down

import psutil
import pyarrow as pa
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import NllbTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.m2m_100.modeling_m2m_100 import M2M100ForConditionalGeneration

PAIRS, QUESTION, PASSAGE, WORDS = 8, 16, 128, 400
SPARE = 2e9  # bytes for the libraries, activations and the system


@dataclass(frozen=True)
class Size:
    """One model.

    Attributes:
        config: class of its configuration in transformers; settings: what config.json says.
        build: from a configuration to the model.
        source: repository whose config.json that is.
        published: parameters, in millions, and who says so; None: not found, or of the whole model only.
        pooling: "pooler" adds LaBSE's dense layer.
    """

    config: str
    settings: dict
    build: Callable[[object], PreTrainedModel]
    source: str
    published: float | None
    says: str
    pooling: str = "mean"


def _encoder(name: str) -> Callable[[object], PreTrainedModel]:
    return lambda config: getattr(transformers, name)(config, add_pooling_layer=False)


BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
MINI = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536}
XLMR = {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
SEQ2SEQ = {"d_model": 1024, "encoder_layers": 12, "decoder_layers": 12, "scale_embedding": True}
SEQ2SEQ |= {"encoder_attention_heads": 16, "decoder_attention_heads": 16, "max_position_embeddings": 1024}
SEQ2SEQ |= {"encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096}
MT5 = {"vocab_size": 250112, "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12}

SIZES = {
    "multilingual-minilm": Size(
        "BertConfig",
        {"vocab_size": 250037, **MINI},
        _encoder("BertModel"),
        "microsoft/Multilingual-MiniLM-L12-H384; intfloat/multilingual-e5-small has the same",
        21 + 96,
        "card: 21M and 96M of embeddings",
    ),
    "mbert": Size(
        "BertConfig",
        {"vocab_size": 119547, **BASE},
        _encoder("BertModel"),
        "google-bert/bert-base-multilingual-cased",
        None,
        "not found",
    ),
    "xlm-r-base": Size(
        "XLMRobertaConfig",
        {**XLMR, **BASE},
        _encoder("XLMRobertaModel"),
        "FacebookAI/xlm-roberta-base; intfloat/multilingual-e5-base has the same",
        270,
        "arXiv 1911.02116",
    ),
    "labse": Size(
        "BertConfig",
        {"vocab_size": 501153, **BASE},
        _encoder("BertModel"),
        "sentence-transformers/LaBSE",
        471,
        "the hub",
        pooling="pooler",
    ),
    "xlm-r-large": Size(
        "XLMRobertaConfig",
        {**XLMR, **LARGE},
        _encoder("XLMRobertaModel"),
        "FacebookAI/xlm-roberta-large; intfloat/multilingual-e5-large has the same",
        550,
        "arXiv 1911.02116",
    ),
    "bge-m3": Size(
        "XLMRobertaConfig",
        {**XLMR, **LARGE, "max_position_embeddings": 8194},
        _encoder("XLMRobertaModel"),
        "BAAI/bge-m3",
        569,
        "documentation of FlagEmbedding",
    ),
    "gte-multilingual-base": Size(
        "GteConfig",
        {"vocab_size": 250048, **BASE},
        lambda config: transformers.GteModel(config),  # not in every version that pyproject.toml admits
        "the defaults of transformers' GteConfig",
        305,
        "card",
    ),
    "mt5-base": Size(
        "MT5Config",
        MT5,
        transformers.MT5EncoderModel,
        "google/mt5-base, its encoder",
        None,
        "of the whole model only",
    ),
    "nllb-200-distilled-600m": Size(
        "M2M100Config",
        {"vocab_size": 256206, **SEQ2SEQ, "activation_function": "relu"},
        M2M100ForConditionalGeneration,
        "facebook/nllb-200-distilled-600M, the translator",
        600,
        "its name",
    ),
}


def parameters(model: nn.Module) -> int:
    """Number of them, tied ones once."""
    return sum(weights.numel() for weights in model.parameters())


def build(name: str, vocabulary: int | None = None) -> tuple[PreTrainedModel, nn.Sequential | None]:
    """The model, and LaBSE's dense layer where it has that."""
    size = SIZES[name]
    settings = size.settings | ({"vocab_size": vocabulary} if vocabulary else {})
    width = settings.get("hidden_size", 0)
    torch.manual_seed(0)
    model = size.build(getattr(transformers, size.config)(**settings, pad_token_id=0))
    return model, nn.Sequential(nn.Linear(width, width), nn.Tanh()) if size.pooling == "pooler" else None


def measure(name: str, vocabulary: int | None) -> dict:
    """What this process finds out about one model."""
    with torch.device("meta"):
        n = sum(parameters(part) for part in build(name, vocabulary) if part is not None)
    translator = SIZES[name].config == "M2M100Config"
    found = {"parameters": n, "weights_gb": 4 * n / 1e9, "training_gb": None if translator else 16 * n / 1e9}
    needed, free = (4 if translator else 16) * n + SPARE, psutil.virtual_memory().available
    if needed > free:
        return found | {"not_run": f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"}
    model, dense = build(name, vocabulary)
    found |= translate(model) if translator else train(model, dense, SIZES[name].pooling)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return found | {"peak_gb": peak / 1e9}


def train(model: PreTrainedModel, dense: nn.Sequential | None, pooling: str) -> dict:
    """One step, and the shape of the vectors of the questions after it."""
    from hybridlib.encoder import Encoder
    from hybridlib.sampler import BatchSampler
    from hybridlib.training.gradients import Gradients, prepare
    from hybridlib.training.loop import make_optimizer
    from hybridlib.training.processes import all_processes
    from hybridlib.training.settings import TrainingSettings
    from hybridlib.training.tokens import TokenizedPairs

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i + 2 for i in range(WORDS)}}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
    encoder = Encoder(model, tokenizer, pooling=pooling, dense=dense, max_length=PASSAGE).train()
    settings = TrainingSettings(cached=True, part_tokens=1536)
    sampler = BatchSampler(made_pairs(), "en-en", batch_size=PAIRS, steps=1)
    gradients = Gradients(encoder, settings, all_processes("cpu"))
    optimizer = make_optimizer(encoder, settings)
    prepared = prepare(TokenizedPairs(sampler.corpus, encoder), sampler.batch(0), settings)
    began = time.perf_counter()
    loss = gradients.backward(prepared)
    torch.nn.utils.clip_grad_norm_(encoder.parameters(), settings.max_grad_norm)
    optimizer.step()
    seconds = time.perf_counter() - began
    assert all(weights.grad is not None for weights in encoder.parameters())
    vectors = encoder.encode(sampler.corpus.queries["en"].to_pylist())
    return {"seconds": seconds, "loss": loss, "output": str(tuple(vectors.shape))}


def made_pairs():
    """PAIRS questions and passages of made-up words."""
    from hybridlib.corpora import ParallelPairs

    ids = [str(i) for i in range(PAIRS)]
    questions = [" ".join(f"w{(37 * i + 3 * j) % WORDS}" for j in range(QUESTION)) for i in range(PAIRS)]
    passages = [" ".join(f"w{(37 * i + 7 * j) % WORDS}" for j in range(PASSAGE)) for i in range(PAIRS)]
    return ParallelPairs.build(
        pa.table({"query_id": ids, "en": questions}),
        pa.table({"passage_id": ids, "en": passages}),
        pa.table({"query_id": ids, "passage_id": ids, "source": ["made"] * PAIRS}),
        name="made",
    )


def translate(model: PreTrainedModel) -> dict:
    """8 sentences into German."""
    from hybridlib.companion.sources.translator import Translator

    letters = [*"abcdefghijklmnopqrstuvwxyz.,"]
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *letters])}
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=["eng_Latn", "deu_Latn"])
    model.generation_config.decoder_start_token_id = 2
    translator = Translator(model.eval(), tokenizer, Path("made"))
    began = time.perf_counter()
    made = translator.translate([f"{letter} river flows by the town" for letter in letters[:PAIRS]], target="de")
    return {"seconds": time.perf_counter() - began, "output": f"{len(made)} texts"}


# ---- all of them


def row(name: str, found: dict) -> str:
    """A line of the table."""
    size, n = SIZES[name], found["parameters"] / 1e6
    published = f"{size.published:.0f}M ({size.says})" if size.published else size.says
    training = "-" if found["training_gb"] is None else f"{found['training_gb']:.1f}"
    if "not_run" in found:
        measured = ["not run: " + found["not_run"], "", ""]
    else:
        measured = [f"{found['peak_gb']:.1f}", f"{found['seconds']:.1f}", found["output"]]
    cells = [name, size.source, f"{n:.1f}M", published, f"{found['weights_gb']:.2f}", training, *measured]
    return f"| {' | '.join(cells)} |"


HEAD = ["model", "config.json of", "parameters", "published", "weights, GB"]
HEAD += ["with gradients and AdamW, GB, computed", "peak of the process, GB", "step or translation, s", "output"]


def main() -> None:
    """Measure, one process after the other, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES), metavar="NAME")
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=SIZES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.vocabulary)))
        return
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    report = {}
    for name in arguments.only:
        command = [sys.executable, __file__, "--child", name]
        command += ["--vocabulary", str(arguments.vocabulary)] if arguments.vocabulary else []
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        report[name] = json.loads(done.stdout.splitlines()[-1])
        print(row(name, report[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
