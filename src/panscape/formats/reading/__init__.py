"""Tolerant readers: label files as a stranger wrote them, with every issue reported."""
