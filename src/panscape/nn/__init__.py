"""Layers, backbones and losses that two or more networks share."""
