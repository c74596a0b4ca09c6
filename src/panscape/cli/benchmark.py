"""`panscape benchmark`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from panscape.benchmark.options import BenchmarkOptions
from panscape.cli.options import require_writable
from panscape.cli.printing import print_json, say
from panscape.errors import InvalidArgumentError


@dataclass(frozen=True)
class Benchmark(BenchmarkOptions):
    """Measure speed and memory of models by stage, side by side; the ratios are to the first model."""

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL [MODEL ...]", help_behavior_hint="")] = ()
    """Models, as in "panscape predict"; the name of a network without weights, such as swiftnet_r18, measures it with
    random ones."""

    out: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Also write the result to a file: FILE.json as --json prints it, or FILE.md."""

    json: bool = False
    """Print one JSON object instead of Markdown tables."""

    def run(self) -> int:
        """Measure."""
        if not self.models:
            raise InvalidArgumentError("expected at least one MODEL: panscape benchmark MODEL...")
        if self.out is not None and self.out.suffix not in (".json", ".md"):
            raise InvalidArgumentError(f"expected --out as FILE.json or FILE.md, got {self.out}")
        self.require_valid()
        require_writable(self.out)
        from panscape.atomic_io import atomic_write
        from panscape.benchmark.run import run_benchmark
        from panscape.progress import ProgressBar

        with ProgressBar("batches") as bar:
            report = run_benchmark(self.models, self, progress=bar.update)
        if self.json:
            print_json(report.to_dict())
        else:
            say(str(report))
        if self.out is not None:
            text = json.dumps(report.to_dict(), indent=1) if self.out.suffix == ".json" else str(report)
            with atomic_write(self.out) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        return 0
