"""Export of models as graphs for other runtimes, compared with the original before the file is kept.

:func:`panscape.load` loads an exported model like any other; what runs its graph is in :mod:`panscape.zoo.graphs`.

Each name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panscape.lazy_names import lazy_names

if TYPE_CHECKING:
    from panscape.export.export import TARGETS as TARGETS
    from panscape.export.export import Exported as Exported
    from panscape.export.export import export_model as export_model
    from panscape.export.floors import FLOORS as FLOORS
    from panscape.export.floors import ParityFloor as ParityFloor
    from panscape.export.int8 import Quantization as Quantization
    from panscape.export.parity import OutputDifference as OutputDifference
    from panscape.export.parity import ParityReport as ParityReport
    from panscape.export.parity import StageTimes as StageTimes
    from panscape.export.runtime import on_runtime as on_runtime

_HOME = {
    "Exported": "export",
    "FLOORS": "floors",
    "OutputDifference": "parity",
    "ParityFloor": "floors",
    "ParityReport": "parity",
    "Quantization": "int8",
    "StageTimes": "parity",
    "TARGETS": "export",
    "export_model": "export",
    "on_runtime": "runtime",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
