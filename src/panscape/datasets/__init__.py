"""Datasets: each reads disk (or draws) and gives samples; none knows a model."""
