"""Fetching a checkpoint with huggingface_hub itself, from a hub that is a process on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from argus_ros.core import hub
from argus_ros.core.checkpoint import CheckpointError
from argus_ros.core.protocol import EngineConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: Serves the files of a folder as the hub does a repository's.
HUB = """
import hashlib, json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
root, commit = Path(sys.argv[1]), sys.argv[2]

class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        parts = self.path.partition("?")[0].strip("/").split("/")
        headers = {}
        if parts[:2] == ["api", "models"] and "tree" in parts:
            one = {"type": "file", "size": 1, "oid": "0" * 40}
            data = json.dumps([{**one, "path": p.name} for p in sorted(root.iterdir())]).encode()
        elif parts[:2] == ["api", "models"]:
            names = [{"rfilename": p.name} for p in sorted(root.iterdir())]
            data = json.dumps({"id": "Org/Name", "sha": commit, "siblings": names}).encode()
        elif "resolve" in parts and (root / parts[-1]).is_file():
            data = (root / parts[-1]).read_bytes()
            headers = {"ETag": '"%s"' % hashlib.sha1(data).hexdigest(), "X-Repo-Commit": commit}
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
#: What the node does, and then what the engine's process does.
ALLOW = """
import json, sys
from argus_ros.core import checkpoint, hub
from argus_ros.core.protocol import EngineConfig
config = EngineConfig(sys.argv[1], allow_download=True)
try:
    read = checkpoint.read_for(config)
    first = sorted(p.name for p in read.path.iterdir())
    hub.allow(config, weights=True)
    print(json.dumps([first, sorted(p.name for p in read.path.iterdir())]))
except checkpoint.CheckpointError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "published"
    folder.mkdir()
    vision = {"image_size": 64, "patch_size": 8}
    config = {"model_type": "idefics3", "vision_config": vision, "scale_factor": 2, "text_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    images = {"max_image_size": {"longest_edge": 64}, "size": {"longest_edge": 128}}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    for name in ("model.safetensors", "pytorch_model.bin", "modeling.py"):
        (folder / name).write_bytes(b"x" * 50)
    command = [sys.executable, "-c", HUB, str(folder), COMMIT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def allowed(name: str, address: str, cache: Path, **more: str) -> list[list[str]] | str:
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_CACHE": str(cache), **more}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ALLOW, name], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_descriptions_come_first_and_weights_with_the_engine(address: str, tmp_path: Path) -> None:
    """No pickle and no code comes along, and what is here is not fetched again."""
    described = ["config.json", "preprocessor_config.json"]
    whole = ["config.json", "model.safetensors", "preprocessor_config.json"]
    name = f"Org/Name@{COMMIT}"
    assert allowed(name, address, tmp_path / "cache") == [described, whole]
    assert allowed(name, "http://127.0.0.1:9", tmp_path / "cache") == [whole, whole]


@pytest.mark.slow
def test_without_a_network_the_error_names_the_checkpoint_and_the_cache(address: str, tmp_path: Path) -> None:
    for more in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        said = allowed(f"Org/Name@{COMMIT}", **{"address": address, "cache": tmp_path / "none"}, **more)
        assert "cannot be downloaded" in said
        assert str(tmp_path / "none") in said


@pytest.mark.parametrize("name", ["Org/Name", "Org/Name@main", "Org/Name@0123456"])
def test_a_revision_that_may_change_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="full commit"):
        hub.allow(EngineConfig(name, allow_download=True), weights=False)
    hub.allow(EngineConfig(name), weights=True)  # nothing was asked for


def test_names_that_are_not_hub_ids_are_ignored(tmp_path: Path) -> None:
    for name in ("argus-nano", str(tmp_path), "http://127.0.0.1:8000/v1"):
        hub.allow(EngineConfig(name, allow_download=True), weights=True)
