"""The training loop: it learns, resumes to the bit, stops where it must, and leaves nothing half written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from accelerate import PartialState
from made import encoder, parallel_corpus
from safetensors.torch import load_file

from hybridlib.encoder import Encoder
from hybridlib.sampler import BatchSampler
from hybridlib.training import TrainingSettings, train, train_encoder
from hybridlib.training.card import read_labels
from hybridlib.training.gradients import Gradients, prepare
from hybridlib.training.loop import validation_loss
from hybridlib.training.tokens import TokenizedPairs

SETTINGS = TrainingSettings(learning_rate=3e-3, validate_every=10, checkpoint_every=7)
CORPUS = parallel_corpus()


def sampler(steps: int = 30, **options) -> BatchSampler:
    return BatchSampler(CORPUS, **{"strategy": "hybrid", "batch_size": 8, "steps": steps, "seed": 1, **options})


def held_out_loss(model: Encoder, validation: BatchSampler) -> float:
    return validation_loss(Gradients(model, SETTINGS, PartialState()), validation, TokenizedPairs(CORPUS, model))


def test_training_lowers_the_loss_and_logs_every_step(tmp_path):
    model, validation = encoder(CORPUS), sampler(2, strategy="x-x")
    before = held_out_loss(model, validation)
    log = train(model, sampler(), SETTINGS, tmp_path / "state.safetensors", validation=validation)
    assert log["step"].tolist() == list(range(30))
    assert log["validation_loss"].notna().sum() == 3
    assert held_out_loss(model, validation) == pytest.approx(log["validation_loss"].min())
    assert log["validation_loss"].min() < before / 2


def test_rate_rises_and_falls_linearly(tmp_path):
    rates = train(encoder(CORPUS), sampler(20), SETTINGS, tmp_path / "s.safetensors")["learning_rate"].to_numpy()
    assert rates[:2] == pytest.approx([1.5e-3, 3e-3])
    assert np.diff(rates[1:]) == pytest.approx(np.full(18, -3e-3 / 19))


@pytest.mark.parametrize("layers", [0, 1])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, layers):
    whole, parts = encoder(CORPUS, layers=layers), encoder(CORPUS, layers=layers)
    log = train(whole, sampler(), SETTINGS, tmp_path / "a.safetensors", validation=sampler(2))

    class Stop(Exception):
        pass

    def stop_at_18(self, step, original=BatchSampler.batch):
        if self.steps == 30 and step == 18:
            raise Stop
        return original(self, step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(BatchSampler, "batch", stop_at_18)
        train(parts, sampler(), SETTINGS, tmp_path / "b.safetensors", validation=sampler(2))
    fresh = encoder(CORPUS, layers=layers)
    again = train(fresh, sampler(), SETTINGS, tmp_path / "b.safetensors", validation=sampler(2))
    assert again.equals(log)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name]), name


CHILD = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from made import encoder, parallel_corpus
    from hybridlib.sampler import BatchSampler
    from hybridlib.training import TrainingSettings, train
    import torch
    torch.set_num_threads(1)
    corpus = parallel_corpus()
    model = encoder(corpus, layers=1)
    model.backbone.config.hidden_dropout_prob = 0.1
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    folder = Path(sys.argv[1])
    sampler = BatchSampler(corpus, "hybrid", batch_size=8, steps=400, seed=1)
    train(model, sampler, TrainingSettings(learning_rate=1e-3, checkpoint_every=20), folder / "state.safetensors")
    model.save(folder / "encoder")
"""


def start_child(folder: Path) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    code = textwrap.dedent(CHILD.format(tests=str(Path(__file__).parent)))
    return subprocess.Popen([sys.executable, "-c", code, str(folder)])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    killed = start_child(tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "state.safetensors").exists():
        assert killed.poll() is None and time.monotonic() < deadline, "no checkpoint before the end"
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "encoder").exists()
    for folder in ("killed", "whole"):
        assert start_child(tmp_path / folder).wait(timeout=240) == 0
    a, b = (load_file(tmp_path / folder / "encoder" / "model.safetensors") for folder in ("killed", "whole"))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_weights_that_are_tied_are_saved_under_every_name(tmp_path):
    model = encoder(CORPUS)
    model.backbone.shared = model.backbone.embeddings.word_embeddings  # as T5's embeddings have two names
    train(model, sampler(2), SETTINGS, tmp_path / "s.safetensors")
    saved, weights = load_file(tmp_path / "s.safetensors"), model.state_dict()
    assert len({tensor.data_ptr() for tensor in weights.values()}) < len(weights)
    for name, tensor in weights.items():
        assert torch.equal(saved[f"model/{name}"], tensor)


def test_a_trained_encoder_is_saved_with_its_log_and_what_decided_it(tmp_path):
    """A call that was stopped goes on; what is saved is the encoder of the lowest validation loss."""
    stopped, settings = encoder(CORPUS), replace(SETTINGS, validate_every=5)
    train(stopped, sampler(10), settings, tmp_path / "training.safetensors", validation=sampler(2))
    model = encoder(CORPUS)
    log = train_encoder(tmp_path, model, sampler(10), settings, validation=sampler(2), labels={"start": "scratch/here"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder", "log.parquet"]
    assert pd.read_parquet(tmp_path / "log.parquet").equals(log)
    saved = Encoder.load(tmp_path / "encoder", device="cpu").state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in stopped.state_dict().items())
    labels = read_labels(tmp_path / "encoder")
    expected = {"strategy": "hybrid", "alpha": 0.5, "steps": 10, "pairs": "made", "start": "scratch/here"}
    assert expected.items() <= labels.items() and labels["kept_step"] == log["best_step"].iloc[0]


def test_same_seed_same_weights_and_other_seed_other_weights(tmp_path):
    models = [encoder(CORPUS) for _ in range(3)]
    for i, (model, seed) in enumerate(zip(models, (1, 1, 2), strict=True)):
        train(model, sampler(5, seed=seed), SETTINGS, tmp_path / f"{i}.safetensors")
    a, b, c = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_early_stopping_keeps_the_best_weights(tmp_path):
    model = encoder(CORPUS)
    rate = {"learning_rate": 1.0, "validate_every": 1, "patience": 3}  # one that can only spoil
    settings = replace(SETTINGS, checkpoint_every=500, **rate)
    log = train_encoder(tmp_path, model, sampler(200), settings, validation=sampler(2))
    best = int(log["best_step"].iloc[0])
    assert len(log) == best + 3 < 200
    assert held_out_loss(model, sampler(2)) == pytest.approx(log["validation_loss"].min())


def test_a_loss_that_is_not_finite_names_its_step(tmp_path):
    model = encoder(CORPUS)
    calls = []

    def spoil(module, args, kwargs, output):
        calls.append(1)
        return output * float("nan") if len(calls) > 2 * 4 else output

    model.register_forward_hook(spoil, with_kwargs=True)
    with pytest.raises(FloatingPointError, match="nan at step 4"):
        train(model, sampler(), SETTINGS, tmp_path / "s.safetensors")


def test_a_checkpoint_of_other_settings_or_a_torn_one_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    train(encoder(CORPUS), sampler(7), SETTINGS, path)
    with pytest.raises(ValueError, match="another run"):
        train(encoder(CORPUS), sampler(7, seed=2), SETTINGS, path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="torn"):
        train(encoder(CORPUS), sampler(7), SETTINGS, path)


def test_explicit_negatives_are_passages_in_the_language_of_the_positive():
    corpus = parallel_corpus(negatives=True)
    model, batch = encoder(corpus), BatchSampler(corpus, "x-y", batch_size=8, steps=1).batch(0)
    items = corpus.__getitems__(batch.keys())
    q = model.encode([item["query"] for item in items])
    positives = [item["passage"] for item in items]
    negatives = [text for item in items for text in item["negatives"][:1]]
    assert [text[:2] for text in negatives] == batch.passage_lang.tolist()
    p = model.encode(positives + negatives)
    thing = [text.split()[1] for text in positives + negatives]
    scores = q @ p.T / 0.05
    for i in range(8):
        for j in range(16):
            if j != i and thing[j] == thing[i]:  # a translation, or the same passage as somebody's negative
                scores[i, j] = float("-inf")
    expected = F.cross_entropy(scores, torch.arange(8)).item()
    settings = replace(SETTINGS, negatives=1)
    prepared = prepare(TokenizedPairs(corpus, model), batch, settings)
    assert Gradients(model, settings, PartialState()).loss(prepared) == pytest.approx(expected, rel=1e-5)
