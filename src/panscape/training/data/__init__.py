"""Training data: the sample stream, its augmentation, and the data loader."""
