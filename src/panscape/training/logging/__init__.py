"""Logging of a training: progress, events, curves and sample images."""
