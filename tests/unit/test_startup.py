"""Start-up cost: help, usage errors and `import panscape` import nothing heavy."""

from __future__ import annotations

import pkgutil
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from maps import SHAPES
from processes import NOTHING, TORCH, Process, run_code

import panscape
import panscape.datasets
from panscape import zoo

HEAVY = (
    "torch",
    "torchvision",
    "numba",
    "timm",
    "scipy",
    "numpy",
    "PIL",
    "av",
    "huggingface_hub",
    "jinja2",
    "transformers",
)
OTHERS = ("panscape.models.dense_detections", "panscape.representations.dense_boxes")  # what SwiftNet does not need

_PROBE = """
import sys
try:
    {statement}
except SystemExit as end:
    code = end.code
else:
    code = 0
print([m for m in {heavy!r} if m in sys.modules], code or 0, file=sys.__stderr__)
"""


def probe(folder: Path, statement: str, imported: tuple[str, ...] = TORCH) -> str:
    """Run a statement in a new process; return its imported modules and exit code."""
    script = _PROBE.format(statement=statement, heavy=HEAVY + OTHERS)
    process = Process(folder / "out", run_code, script, err=folder / "err", imported=imported)
    assert process.end() == 0, (folder / "err").read_text()
    return (folder / "err").read_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("import panscape", 0),
        ("import panscape; dir(panscape); panscape.LabelSpace.bundled()", 0),
        ("import panscape.cli", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['--help']))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main([]))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['--version']))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['predict', '--help']))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['demo', '--help']))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['recipes', '--help']))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['evaluate', '--help']))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['evaluate', '--predictions', 'a', '--limit', '2']))", 2),
        ("import panscape.cli; sys.exit(panscape.cli.main(['tune', '--help']))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['tune', 'street', '--decode.top-k', '3']))", 2),
        ("import panscape.cli; sys.exit(panscape.cli.main(['benchmark', '--help']))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['benchmark', 'street', '--size', '3']))", 2),
        ("import panscape.cli; sys.exit(panscape.cli.main(['train', '--help']))", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['train', 'twon', '--out', 'x']))", 2),
        ("import panscape.cli; sys.exit(panscape.cli.main(['train', 'missing.py', '--out', 'x']))", 2),
        ("import panscape.recipes; panscape.recipes.list_recipes()", 0),
        ("import panscape.cli; sys.exit(panscape.cli.main(['predct', 'a.jpg']))", 2),
        ("import panscape.cli; sys.exit(panscape.cli.main(['predict', 'a.jpg', '--modle', 'x']))", 2),
        ("import panscape.cli; sys.exit(panscape.cli.main(['predict', 'a.jpg', '--precision', 'fp8']))", 2),
        ("import panscape.cli; sys.exit(panscape.cli.main(['models', '--jsn']))", 2),
        ("import panscape.cli.default_model as d; d.default_model(may_ask=True)", 0),
    ],
)
def test_nothing_heavy_is_loaded(tmp_path, statement, code):
    assert probe(tmp_path, statement, NOTHING) == f"[] {code}"


def test_modules_of_the_contract_load_neither_torch_nor_numba(tmp_path):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    contract = project["tool"]["importlinter"]["contracts"][1]
    assert contract["name"] == "Prediction starts without torch"
    modules = [module for module in contract["source_modules"] if not module.startswith("panscape.cli")]
    assert probe(tmp_path, f"import {', '.join(modules)}", NOTHING) == "['numpy', 'PIL'] 0"
    assert version("panscape") == panscape.__version__


def test_the_probe_sees_what_is_loaded(tmp_path):
    assert probe(tmp_path, "import panscape; panscape.PanopticMap", NOTHING).startswith("['torch'")


def test_drawing_leaves_training_alone(tmp_path):
    loaded = probe(tmp_path, "import panscape; panscape.draw, panscape.load_image")
    assert loaded.startswith("['torch'")
    assert not {"torchvision", "timm"} & set(loaded.split("'"))


@pytest.mark.parametrize(
    ("name", "options", "others"),
    [
        ("swiftnet", {"width": 8}, OTHERS),
        ("dense_detections", {"box_width": 8, "semantic_width": 8, "fpn_width": 8}, ()),
    ],
)
def test_predicting_with_saved_weights_leaves_training_alone(tmp_path, name, options, others):
    path = tmp_path / "residual.safetensors"
    zoo.save(panscape.create_model(name, SHAPES, backbone="residual_xs", **options), path)
    loaded = probe(
        tmp_path,
        f"import panscape, torch; "
        f"panscape.load({str(path)!r}).predict(torch.zeros(3, 64, 96, dtype=torch.uint8)).num_segments",
    )
    assert loaded.startswith("['torch', 'numba'")
    assert loaded.endswith("] 0")
    assert not {"torchvision", "timm", *others} & set(loaded.split("'"))


@pytest.mark.parametrize("package", [panscape, panscape.datasets], ids=lambda package: package.__name__)
def test_no_lazy_name_is_that_of_a_module(package: ModuleType) -> None:
    # Importing the module would put it in the place of the name.
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules & {"errors", "bsb_aerial"}
    assert not modules & set(package.__all__)
