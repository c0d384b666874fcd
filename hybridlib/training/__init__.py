"""Training: the loop, gradients of a global batch, token ids, model cards, processes."""
