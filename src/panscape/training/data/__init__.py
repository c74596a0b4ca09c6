"""Training samples: the stream, its augmentation, and the processes that load it."""
