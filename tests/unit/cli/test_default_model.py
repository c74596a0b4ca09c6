"""The model of `panscape predict` without --model: nothing is fetched unasked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from panscape.cli.default_model import BUNDLED, STRONG, default_model
from panscape.zoo import WeightsCache
from panscape.zoo.published.catalogue import catalogue

BUNDLED_LINE = (
    "the bundled street is for street scenes; for everyday photos: panscape weights fetch maskformer_r50_coco (180 MB, "
    "Apache-2.0)"
)
STRONG_LINE = "maskformer_r50_coco is for everyday photos; --model street is for street scenes, and faster"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsCache:
    monkeypatch.setenv("PANSCAPE_CACHE", str(tmp_path))
    monkeypatch.delenv("PANSCAPE_OFFLINE")
    return WeightsCache()


@pytest.mark.parametrize(
    ("answer", "model"), [("y\n", STRONG), (" YES \n", STRONG), ("n\n", BUNDLED), ("\n", BUNDLED), ("", BUNDLED)]
)
def test_a_user_at_a_terminal_is_asked(answer: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Terminal()
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr", asked)
    chosen = default_model(may_ask=True)
    assert chosen == (model, STRONG_LINE if model == STRONG else BUNDLED_LINE)
    assert asked.getvalue() == (
        "maskformer_r50_coco segments everyday photos into 133 categories (COCO PQ 46.9; 180 MB, Apache-2.0); the "
        "bundled street is for street scenes.\nFetch maskformer_r50_coco once, and use it from now on? [y/N] "
    )


@pytest.mark.parametrize("terminal", ["stdin", "stderr", "both", "offline"])
def test_others_are_not(terminal: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(
            f"sys.{name}", Terminal("y\n") if terminal in (name, "both", "offline") else io.StringIO("y\n")
        )
    if terminal == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert default_model(may_ask=terminal != "both") == (BUNDLED, BUNDLED_LINE)


def test_the_strong_model_is_used_once_it_is_here(cache: WeightsCache) -> None:
    cache.create()
    cache.path(catalogue()[STRONG]).write_bytes(b"")
    assert default_model(may_ask=True) == (STRONG, STRONG_LINE)
