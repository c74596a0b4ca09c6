"""Time the resizing of images for a network, from bytes to floats: panscape's kernel and torch's interpolation.

Images are noise. The largest difference of each from torch in double precision is printed too, in parts of the range of
pixels. Times are CPU time of the process with one thread, the minimum over several rounds in which both alternate.

Run ``python benchmarks/resize_images.py``; it prints a Markdown table.
"""

from __future__ import annotations

import argparse

import torch
from reporting import cpu_milliseconds, machine, table
from torch import Tensor
from torch.nn import functional as F

from panscape.images import resize_images
from panscape.ops.resize_cpu import resized_pixels

SIZES = (
    ((1024, 2048), (320, 640)),
    ((3000, 4000), (480, 640)),
    ((768, 1024), (480, 640)),
    ((360, 480), (720, 960)),
)


def row(own_size: tuple[int, int], size: tuple[int, int], repeats: int) -> list[str]:
    """Return the entries of the table for one pair of sizes."""
    image = torch.randint(0, 256, (3, *own_size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    exact = F.interpolate(image[None].double() / 255, size, mode="bilinear", antialias=True)[0]

    def by_torch() -> Tensor:
        return resize_images(image[None].float() / 255, size)[0]

    def by_panscape() -> Tensor:
        return torch.from_numpy(resized_pixels(image.numpy(), size))

    ways = {"torch": by_torch, "panscape": by_panscape}
    differences = [f"{float((way() - exact).abs().max()):.0e}" for way in ways.values()]
    times = [f"{best:.1f}" for best in cpu_milliseconds(ways, repeats).values()]
    return ["x".join(map(str, own_size)), "x".join(map(str, size)), *times, *differences]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="rounds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    header = ["image", "network input", "torch, ms", "panscape, ms", "torch, difference", "panscape, difference"]
    print(table(header, [row(*sizes, args.repeats) for sizes in SIZES]))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
