"""The fetch_model command, against a small model hub of our own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django import Settings

MANAGE = Path(__file__).parents[2] / "manage.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serve the files of a folder as the model somebody/tiny, as far as huggingface_hub asks."""

    def __init__(self, folder: Path, *args: object) -> None:
        self.folder = folder
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/somebody/tiny/tree/"):
            self._answer_json([{"type": "file", "oid": "0" * 40, "path": n, "size": s} for n, s in self._files()])
        elif path.startswith("/api/models/somebody/tiny"):
            siblings = [{"rfilename": name} for name, _ in self._files()]
            card = {"license": "mit"}
            self._answer_json({"id": "somebody/tiny", "sha": COMMIT, "siblings": siblings, "cardData": card})
        elif path.startswith(f"/somebody/tiny/resolve/{COMMIT}/"):
            self._answer((self.folder / path.split(f"{COMMIT}/")[1]).read_bytes(), "application/octet-stream")
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _files(self) -> list[tuple[str, int]]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return [(str(path.relative_to(self.folder)), path.stat().st_size) for path in files]

    def _answer_json(self, value: object) -> None:
        self._answer(json.dumps(value).encode(), "application/json")

    def _answer(self, content: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hash(content):x}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(tiny_model: Callable[[str], Path]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, tiny_model("turbo")))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(tmp_path: Path, endpoint: str, source: str = "somebody/tiny") -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own: the hub's client reads its address when it is imported."""
    environment = os.environ | {
        "REPRISE_DATA": str(tmp_path),
        "REPRISE_MODELS": f"tiny={source}",
        "HF_HOME": str(tmp_path / "hub"),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, str(MANAGE), "fetch_model", "tiny"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_model_is_fetched_once_after_its_size_and_licence_are_said(tmp_path: Path, hub: str) -> None:
    fetched = fetch(tmp_path, hub)
    assert fetched.returncode == 0, fetched.stderr
    said, done = fetched.stdout.splitlines()
    assert said.startswith("somebody/tiny: ")
    assert said.endswith(" MB to download, licence: mit")
    assert done == "'tiny' is ready."
    assert fetch(tmp_path, "http://127.0.0.1:9").stdout == "'tiny' is here already.\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [("somebody/tiny", "refused"), ("somebody/else", "404")],
)
def test_a_hub_that_cannot_help_is_said_plainly(tmp_path: Path, hub: str, source: str, reason: str) -> None:
    endpoint = hub if source == "somebody/else" else "http://127.0.0.1:9"
    failed = fetch(tmp_path, endpoint, source)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"CommandError: {source} could not be fetched: ")
    assert reason in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_what_cannot_be_fetched_is_refused(settings: Settings, tmp_path: Path) -> None:
    settings.REPRISE_MODELS = {"sketch": "bundled", "mine": str(tmp_path)}
    with pytest.raises(CommandError, match="Unknown model 'nobody': choose one of sketch, mine"):
        call_command("fetch_model", "nobody")
    with pytest.raises(CommandError, match="holds no complete model"):
        call_command("fetch_model", "mine")
