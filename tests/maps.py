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


def spoilt_map(
    truth: PanopticMap,
    generator: torch.Generator,
    other: PanopticMap,
    *,
    shift: tuple[int, int],
    one_in: int = 6,
    num_categories: int = 4,
    part: int = 1,
    void: bool = True,
) -> PanopticMap:
    """Make a prediction out of a truth, in which matches of every quality, misses and surplus occur.

    Args:
        truth: is shifted, and its crowds forgotten.
        generator: decides all.
        other: segments of which those in a random rectangle are drawn over it; of the size of ``truth``.
        shift: at most so many rows and columns, either way.
        one_in: so many segments get another category.
        num_categories: below which that is.
        part: the rectangle has at most the size of the map divided by this.
        void: whether a corner becomes void.
    """
    height, width = truth.size

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    ids = truth.ids.roll((draw(-shift[0], shift[0] + 1), draw(-shift[1], shift[1] + 1)), (0, 1))
    category = truth.category.clone()
    for row in range(truth.num_segments):
        if draw(0, one_in) == 0:
            category[row] = draw(0, num_categories)
    top, left = draw(0, height), draw(0, width)
    region = torch.zeros_like(ids, dtype=torch.bool)
    region[top : top + draw(1, height // part), left : left + draw(1, width // part)] = True
    ids = torch.where(region & (other.ids > 0), other.ids + truth.num_segments, ids)
    if void:
        ids[draw(0, height) :, draw(0, width) :] = 0
    return PanopticMap(ids, torch.cat([category, other.category])).compact()
