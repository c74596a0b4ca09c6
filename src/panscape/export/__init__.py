"""Export of models as graphs for other runtimes, compared with the original before the file is kept.

:func:`panscape.load` loads an exported model like any other; what runs its graph is in :mod:`panscape.zoo.graphs`.
"""

from panscape.export.export import TARGETS as TARGETS
from panscape.export.export import Exported as Exported
from panscape.export.export import export_model as export_model
from panscape.export.int8 import Quantization as Quantization
from panscape.export.parity import FLOORS as FLOORS
from panscape.export.parity import OutputDifference as OutputDifference
from panscape.export.parity import ParityFloor as ParityFloor
from panscape.export.parity import ParityReport as ParityReport
from panscape.export.parity import StageTimes as StageTimes
from panscape.export.runtime import on_runtime as on_runtime
