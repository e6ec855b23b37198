"""Models on anomalib's side: what kinds of them share, callbacks, score table, export, checkpoints."""
