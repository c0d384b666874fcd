"""The embedded corpus: facts about places in parallel wordings, offline and deterministic."""
