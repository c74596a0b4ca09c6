"""From sources to files: find images and videos, predict them one after the other, write what was found."""
