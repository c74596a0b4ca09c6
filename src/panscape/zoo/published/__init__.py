"""Checkpoints that authors published, read into panscape's models; see :mod:`panscape.zoo.published.load`."""
