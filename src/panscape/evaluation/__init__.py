"""Scores predictions that lie in files, whoever made them: reading, checking, errors, intervals and reports."""
