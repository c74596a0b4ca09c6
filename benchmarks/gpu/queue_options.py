"""The options that all scripts of the queue share."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS.parent / "src")]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--out``, ``--device`` and ``--quick``."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, required=True, help="folder for the results")
    options.add_argument("--device", default="cuda")
    options.add_argument("--quick", action="store_true", help="small sizes and few rounds, to try the script")
    return options


def write(out: Path, name: str, markdown: str, values: Any) -> None:
    """Print the results and write them as ``name.md`` and ``name.json``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(markdown + "\n", encoding="utf-8")
    (out / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(markdown, flush=True)
