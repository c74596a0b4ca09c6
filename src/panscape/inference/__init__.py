"""From sources to files: find pictures and videos, predict them one after the other, write what was found."""
