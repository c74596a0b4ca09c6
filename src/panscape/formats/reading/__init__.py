"""Tolerant readers: label files of other tools, with every issue reported."""
