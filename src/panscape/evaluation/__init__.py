"""Evaluation of models and of prediction files: metrics, error breakdown, bootstrap intervals and reports."""
