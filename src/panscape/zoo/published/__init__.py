"""Published checkpoints, loaded into panscape's models; see :mod:`panscape.zoo.published.load`."""
