from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from exported import make_run
from safetensors import SafetensorError
from tiny_models import save_base

from sft.export import main
from sft.export_folder import ExportError, check_space, check_target, mark, push, whole_folder
from sft.hub import hub_api


def former(folder: Path) -> Path:
    """Make an export."""
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "weights").write_bytes(b"old")
    mark(folder, {"form": "merged"})
    return folder


# --- where an export may be written -------------------------------------------------------------


def test_a_new_an_empty_and_a_former_folder_may_be_written(tmp_path: Path) -> None:
    check_target(tmp_path / "deep" / "new")
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty")
    check_target(former(tmp_path / "former"))


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=f"{tmp_path} is not empty and no former export"):
        check_target(tmp_path)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ExportError, match="is a file"):
        check_target(tmp_path / "out")


def test_a_former_export_that_others_wrote_into_is_refused(tmp_path: Path) -> None:
    folder = former(tmp_path / "former")
    (folder / "part" / "model.gguf").write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"did not write \(part/model\.gguf\)"):
        check_target(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}'])
def test_a_marker_that_no_export_wrote_protects_the_folder(tmp_path: Path, content: str) -> None:
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(ExportError, match="did not write"):
        check_target(tmp_path)


def test_space_is_asked_of_the_disk_where_the_folder_will_be(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(ExportError, match=rf"needs 1000000\.00 GB and {tmp_path} has"):
        check_space(tmp_path / "not" / "yet", 10**15)


# --- whole or not at all ------------------------------------------------------------------------


def test_the_folder_appears_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    with whole_folder(folder) as scratch:
        (scratch / "weights").write_bytes(b"new")
        assert not folder.exists()
        assert scratch.stat().st_dev == tmp_path.stat().st_dev
    assert (folder / "weights").read_bytes() == b"new"
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def write_half(folder: Path, error: BaseException) -> None:
    with whole_folder(folder) as scratch:
        (scratch / "weights").write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [OSError(28, "No space left"), SafetensorError("I/O")])
def test_an_error_leaves_the_former_folder_and_nothing_else(
    tmp_path: Path, error: Exception
) -> None:
    folder = former(tmp_path / "out")
    with pytest.raises(ExportError, match="it was left as it was"):
        write_half(folder, error)
    assert (folder / "part" / "weights").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "out", KeyboardInterrupt())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("before", [True, False])
def test_a_swap_that_fails_brings_the_former_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    folder = former(tmp_path / "out") if before else tmp_path / "out"
    rename = Path.rename

    def stubborn(self: Path, target: Any) -> Path:
        if self.name == "new":
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stubborn)
    with pytest.raises(ExportError, match="cannot write"), whole_folder(folder):
        pass
    assert folder.exists() is before


def test_a_place_that_cannot_be_made_is_an_export_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write"), whole_folder(tmp_path / "file" / "out"):
        pass


# --- the hub ------------------------------------------------------------------------------------


class Hub(ThreadingHTTPServer):
    """Takes a model as huggingface.co does, and keeps it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.refuses = False
        self.made: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.keys: set[str | None] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.keys.add(self.headers["Authorization"])
        if self.server.refuses:
            return self.answer({"error": "no rights"}, 403)
        if self.path == "/api/repos/create":
            self.server.made = json.loads(body)
            return self.answer({"url": f"{self.server.url}/me/model"})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            return self.answer(
                {
                    "files": [
                        {**one, "uploadMode": "regular", "shouldIgnore": False} for one in files
                    ]
                }
            )
        if "/commit/" in self.path:
            for entry in map(json.loads, body.splitlines()):
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.files[entry["value"]["path"]] = content
            url = f"{self.server.url}/me/model/commit/0123"
            return self.answer({"commitUrl": url, "commitOid": "0123", "success": True})
        return self.answer({}, 200 if self.path == "/api/validate-yaml" else 404)

    def do_GET(self) -> None:
        self.answer({"id": "me/model", "sha": "0" * 40, "siblings": []})

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("sft.hub.get_token", lambda: "hf_mine")
        yield server
        server.shutdown()
        thread.join(10)


def test_an_export_is_uploaded_as_it_is_into_a_private_model(tmp_path: Path, hub: Hub) -> None:
    folder = former(tmp_path / "out")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# out\n")
    address = push(folder, "me/model", hub_api("me/model", "--push"))
    assert address == f"{hub.url}/me/model"
    assert (hub.made["name"], hub.made["organization"]) == ("model", "me")
    assert hub.made["visibility"] == "private"
    there = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    assert hub.files == {**there, "part/weights": b"old"}
    assert hub.keys == {"Bearer hf_mine"}


def test_the_command_pushes_what_it_wrote(
    tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_run(tmp_path / "run", save_base(tmp_path / "base"))
    folder = tmp_path / "out"
    flags = ["--adapter", str(adapter), "--output_dir", str(folder), "--form", "adapter"]
    assert main([*flags, "--push", "me/model"]) == 0
    assert f"pushed to {hub.url}/me/model" in capsys.readouterr().out
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert b"# me/model" in hub.files["README.md"]


def test_what_the_hub_refuses_is_one_clear_error_and_the_export_stays(
    tmp_path: Path, hub: Hub
) -> None:
    hub.refuses = True
    folder = former(tmp_path / "out")
    with pytest.raises(
        ExportError, match=f"the hub did not take me/model: .*upload me/model {folder}"
    ):
        push(folder, "me/model", hub_api("me/model", "--push"))
    assert (folder / "export.json").is_file()
