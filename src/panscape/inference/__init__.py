"""Prediction of files: find images and videos, predict them one by one, write the results."""
