"""Representations of instances: outputs, targets, encode, loss and decode, independent of networks and datasets."""
