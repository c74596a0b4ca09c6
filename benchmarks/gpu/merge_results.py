"""Write the results of ``run_queue.py`` into the marked blocks of docs/performance.md; repeating it changes nothing.

::

    python3 benchmarks/gpu/merge_results.py OUT

An entry's block is between ``<!-- gpu: NAME -->`` and ``<!-- end of gpu: NAME -->``. It receives a heading, the
command, and the Markdown that the command wrote, or the last line of its log. Blocks of entries without results stay as
they are, and so do those of entries that ran on the CPU or with ``--quick``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
_NOTES = {
    "unfinished": "Unfinished; results so far.",
    "over its limit": "Stopped at the time limit; results so far.",
    "failed": "It ended with an error.",
}


def merged(page: str, out: Path) -> tuple[str, list[str]]:
    """Return a page with the results of a queue, and the names of entries with results that have no block.

    Args:
        page: Markdown with blocks.
        out: the ``--out`` of the queue.
    """
    homeless = []
    for name, outcome in json.loads((out / "queue.json").read_text(encoding="utf-8")).items():
        content = _content(out / name, outcome)
        if content is None:
            continue
        start, end = f"<!-- gpu: {name} -->", f"<!-- end of gpu: {name} -->"
        block = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
        if block.search(page) is None:
            homeless.append(name)
        text = f"{start}\n\n{content}\n\n{end}"
        page = block.sub(lambda _, text=text: text, page)  # a function, as backslashes in a text are commands
    return page, homeless


def _content(folder: Path, outcome: dict[str, Any]) -> str | None:
    """Return what the block of an entry receives; None if it has no results."""
    if outcome["device"] in ("cpu", "quick"):
        return None
    results = [path.read_text(encoding="utf-8").strip() for path in sorted(folder.glob("*.md"))]
    if not results and outcome["status"] in ("done", "failed"):
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        results = [f"`{lines[-1]}`"] if lines else []
    if not results:
        return None
    note = _NOTES.get(outcome["status"])
    head = [f"### {outcome['title']}", f"`python3 {outcome['command']}`{'' if note is None else f'. {note}'}"]
    return "\n\n".join([*head, *results])


def main() -> int:
    """Merge; return 1 if an entry has no block."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the --out of run_queue.py")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the blocks")
    args = parser.parse_args()
    if not (args.out / "queue.json").is_file():
        parser.error(f"expected queue.json in {args.out}; give the --out of run_queue.py")
    before = args.page.read_text(encoding="utf-8")
    after, homeless = merged(before, args.out)
    if after != before:
        temporary = args.page.with_suffix(".part")
        temporary.write_text(after, encoding="utf-8")
        temporary.replace(args.page)
    print(f"{args.page}: {'changed' if after != before else 'nothing new'}")
    for name in homeless:
        print(f"{name}: no block; add <!-- gpu: {name} --> and <!-- end of gpu: {name} -->", file=sys.stderr)
    return 1 if homeless else 0


if __name__ == "__main__":
    sys.exit(main())
