"""A training with backbone weights from the hub, which are downloaded only once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file
from training_runs import Command, last_checkpoint, recipe_file, torchrun

RECIPE = """replace(WHOLE, steps=2, model=__import__("panscape.recipes.model_options", fromlist=["x"]).SwiftNetOptions(
        backbone="test_resnet", levels=1, width=8, pretrained=True, representation=EVEN))"""
OPTIONS = ("--device", "cpu", "--threads", 1, "--workers", 0, "--log-every", 1, "--image-every", 0)
PATH = "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"


class Hub(ThreadingHTTPServer):
    """A local hub with one file; ``requests`` records its requests."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content = content
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        is_there = self.path == PATH
        self.send_response(200 if is_there else 404)
        if is_there:
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(self.server.content).hexdigest()}"')
            self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        if is_there and self.command == "GET":
            self.wfile.write(self.server.content)

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    save_file({n: t + 0.25 for n, t in timm.create_model("test_resnet").state_dict().items()}, tmp_path / "w")
    server = Hub((tmp_path / "w").read_bytes())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_once_and_a_run_goes_on_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    file, out = recipe_file(tmp_path / "recipe.py", RECIPE), tmp_path / "out"
    environment = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0"}
    both = torchrun(tmp_path / "log", 2, "train", file, "--out", out, *OPTIONS, environment=environment)
    assert [c.end() for c in both] == [0, 0], both[0].text + both[1].text
    size = len(hub.content) / 1e6
    line = f"fetching {hub.address}{PATH}, {size:.1f} MB"
    assert both[0].text.splitlines().count(line) == 1, both[0].text
    assert "fetching" not in both[1].text
    assert hub.requests.count(f"GET {PATH}") == 1, hub.requests
    norm = last_checkpoint(out)[1]["model"]["pyramid.levels.0.layer4.0.bn1.bias"]
    assert ((norm - 0.25).abs() < 0.1).all(), "timm begins with zeros"

    # Elsewhere: another machine, without the cache and the hub.
    asked = len(hub.requests)
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "empty")}
    again = Command(tmp_path / "again", "train", file, "--out", out, *OPTIONS, "--resume", environment=environment)
    assert again.end() == 0, again.text
    assert "this run is complete" in again.text
    new = Command(tmp_path / "new", "train", file, "--out", tmp_path / "new_out", *OPTIONS, environment=environment)
    assert new.end() == 2, new.text
    assert "--backbone-weights FILE" in new.text
    assert len(new.text.splitlines()) == 1
    assert not (tmp_path / "new_out").exists()
    assert len(hub.requests) == asked
