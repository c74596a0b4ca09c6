"""Maps for tests: drawn from text, or generated from a seed."""

from __future__ import annotations

import torch

from panscape import Category, LabelSpace, PanopticMap

SHAPES = LabelSpace(
    "shapes",
    (
        Category("sky", False, 11, (70, 130, 180)),
        Category("ground", False, 7, (128, 64, 128)),
        Category("disc", True, 24, (220, 20, 60)),
        Category("box", True, 26, (0, 0, 142)),
    ),
)


def a_map(drawing: str, categories: dict[str, int] | None = None, crowd: str = "") -> PanopticMap:
    """Draw a map: one character a pixel, ``.`` is void, each other character one segment, in sorted order.

    Without ``categories`` the category of ``A`` is 0, of ``B`` 1, and so on. ``crowd`` lists the crowd segments.
    """
    rows = [line.strip() for line in drawing.strip().splitlines()]
    letters = sorted(set("".join(rows)) - {"."})
    ids = torch.tensor([[0 if c == "." else letters.index(c) + 1 for c in row] for row in rows], dtype=torch.int32)
    category = [(categories[c] if categories else ord(c) - ord("A")) for c in letters]
    flags = torch.tensor([c in crowd for c in letters]) if crowd else None
    return PanopticMap(ids, torch.tensor(category, dtype=torch.int64), None, flags)


def generated_map(
    seed: int,
    size: tuple[int, int] = (96, 128),
    labels: LabelSpace = SHAPES,
    objects: int = 6,
    smallest: int = 8,
    void: bool = True,
    crowd: bool = False,
) -> PanopticMap:
    """Generate a layout of stuff with ellipses and boxes of things over it; everything follows from the seed."""
    g = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, max(high, low + 1), (1,), generator=g))

    height, width = size
    ids = torch.zeros(size, dtype=torch.int32)
    category: list[int] = []
    stuff, things = labels.stuff_ids, labels.thing_ids
    edges = sorted(draw(1, height) for _ in range(len(stuff) - 1))
    for top, bottom, c in zip([0, *edges], [*edges, height], stuff, strict=True):
        if bottom > top:
            category.append(c)
            ids[top:bottom] = len(category)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    flags = [False] * len(category)
    for i in range(objects):
        h, w = draw(smallest, height // 2), draw(smallest, width // 2)
        cy, cx = draw(0, height), draw(0, width)
        if draw(0, 2):
            mask = ((y - cy) / (h / 2)) ** 2 + ((x - cx) / (w / 2)) ** 2 <= 1
        else:
            mask = ((y - cy).abs() <= h // 2) & ((x - cx).abs() <= w // 2)
        category.append(things[draw(0, len(things))])
        flags.append(crowd and i % 3 == 0)
        ids[mask] = len(category)
    if void:
        ids[draw(0, height) :, draw(0, width) :] = 0
    return PanopticMap(ids, torch.tensor(category), None, torch.tensor(flags) if crowd else None).compact()
