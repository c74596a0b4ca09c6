"""Models as folders and repositories of the hub, against a hub on this machine with the requests of its client."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from maps import SHAPES

import panscape
from panscape.errors import InvalidArgumentError, UnwritableFileError
from panscape.models import PanopticModel
from panscape.models.dense_detections import DenseDetections
from panscape.models.swiftnet import PanopticSwiftNet

CARD = {
    "data": "synthetic scenes",
    "licence": "Apache-2.0",
    "commands": ["panscape train town", "panscape tune"],
    "val": {"PQ": 56.4, "mIoU": 64.0},
    "per category": {"disc": {"PQ": 1.5, "IoU": 2.0}, "box": {"PQ": 3.0, "IoU": 4.0}},
}
IMAGE = torch.arange(3 * 64 * 96).reshape(3, 64, 96).to(torch.uint8)


@pytest.fixture(scope="module")
def model() -> PanopticModel:
    made = panscape.create_model("swiftnet", SHAPES, backbone="residual_xs", width=8)
    made.card = CARD
    return made.eval()


class FakeHub(ThreadingHTTPServer):
    """Stores the files of one repository; "refused" as token is refused."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}
        self.message = ""


class _Answers(BaseHTTPRequestHandler):
    server: FakeHub

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub = self.server
        if self.headers["Authorization"] == "Bearer refused":
            self._answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            hub.created = json.loads(content)
            self._answer(200, {"url": f"{hub.url}/{hub.created['organization']}/{hub.created['name']}"})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(content)["files"]]
            self._answer(
                200, {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
            )
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "header":
                    hub.message = line["value"]["summary"]
            self._answer(200, {"commitUrl": f"{hub.url}/owner/name/commit/1", "commitOid": "1", "success": True})
        else:
            self._answer(404, {})

    def do_GET(self) -> None:
        self._file()

    def do_HEAD(self) -> None:
        self._file()

    def _file(self) -> None:
        content = self.server.files.get(self.path.rpartition("/resolve/main/")[2])
        if content is None:
            self._answer(404, {})
            return
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _answer(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def front_matter(card: str) -> dict[str, Any]:
    start, header, _ = card.split("---\n", 2)
    assert start == ""
    found: dict[str, Any] = yaml.safe_load(header)
    return found


def test_a_folder_has_weights_config_and_card_and_is_loaded_again(model: PanopticModel, tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    model.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert (config["library_name"], config["model"], config["card"]) == ("panscape", "swiftnet", CARD)
    card = (folder / "README.md").read_text()
    assert front_matter(card) == {
        "library_name": "panscape",
        "pipeline_tag": "image-segmentation",
        "license": "apache-2.0",
        "tags": ["panoptic-segmentation"],
    }
    for line in (
        "# shapes",
        "| PQ | 56.4 |",
        "| box | 3.0 | 4.0 |",
        "    - `panscape tune`",
        'panscape.load("shapes")',
    ):
        assert line in card
    again = PanopticModel.from_pretrained(folder)
    assert again.card == CARD
    assert again.predict(IMAGE) == model.predict(IMAGE)
    model.save(tmp_path / "one.safetensors")
    assert panscape.load(tmp_path / "one.safetensors").card == CARD
    model.save(tmp_path / "one.safetensors", {"note": 1})
    assert panscape.load(tmp_path / "one.safetensors").card == {"note": 1}


def test_terms_that_the_hub_does_not_know_are_in_the_text() -> None:
    card = panscape.zoo.model_card(panscape.load("street"), "owner/street")
    header = front_matter(card)
    assert (header["license"], header["license_name"]) == ("other", "see-model-card")
    assert "- licence: Apache-2.0 for the weights; the images they were trained on are for research\n" in card
    assert "| PQ | 65.0 |" in card


def test_the_class_of_a_loaded_model_is_checked(model: PanopticModel, tmp_path: Path) -> None:
    model.save(tmp_path / "one.safetensors")
    assert isinstance(PanopticSwiftNet.from_pretrained(tmp_path / "one.safetensors"), PanopticSwiftNet)
    with pytest.raises(InvalidArgumentError, match="to be a DenseDetections, got a PanopticSwiftNet; use"):
        DenseDetections.from_pretrained(tmp_path / "one.safetensors")


def test_a_model_is_pushed_and_loaded_by_its_id(model: PanopticModel, hub: FakeHub) -> None:
    url = model.push_to_hub("owner/name", private=True, token="hf_test")
    assert url == f"{hub.url}/owner/name/commit/1"
    assert (hub.created["organization"], hub.created["name"]) == ("owner", "name")
    privacy = hub.created.get("visibility"), hub.created.get("private")  # depends on the version of the client
    assert privacy in {("private", None), (None, True)}
    assert hub.message == "Upload a model of panscape"
    assert sorted(hub.files) == ["README.md", "config.json", "model.safetensors"]
    assert b'panscape.load("owner/name")' in hub.files["README.md"]
    again = PanopticModel.from_pretrained("owner/name")
    assert again.predict(IMAGE) == model.predict(IMAGE)


def test_a_refused_token_and_a_silent_hub_are_one_error_with_a_remedy(
    model: PanopticModel, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UnwritableFileError, match=r"^cannot write owner/name at http://127.*401.*hf auth login, or token"
    ):
        model.push_to_hub("owner/name", token="refused")
    with pytest.raises(UnwritableFileError, match="check the id"):
        model.push_to_hub("no id")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        UnwritableFileError, match=r"cannot write owner/name at http://127\.0\.0\.1:9: .*refused; check"
    ):
        model.push_to_hub("owner/name", token="hf_test")
    assert hub.files == {}
