from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from curated_rows import read, row, run, write
from datasets import load_dataset
from huggingface_hub import DatasetCard

from sft.data.card import size_category

ROWS = [row(name, outcome="success") for name in ("Rome", "Oslo", "Bern")]


def pushed(tmp_path: Path, rows: list[dict[str, Any]], *flags: object) -> Path:
    folder = tmp_path / "weather"
    train = write(tmp_path / "train.jsonl", rows)
    test = write(tmp_path / "test.jsonl", ROWS[:1])
    assert run("push", train, test, "--folder", folder, *flags) == 0
    return folder


def test_the_folder_has_the_rows_and_a_card_with_metadata_and_counts(tmp_path: Path) -> None:
    folder = pushed(tmp_path, ROWS)
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["README.md", "stats.json", "test.jsonl", "train.jsonl"]
    assert read(folder / "train.jsonl") == ROWS
    card = DatasetCard.load(folder / "README.md")
    data = card.data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["size_categories"] == "n<1K"
    assert data["task_categories"] == ["text-generation"]
    assert data["language"] == ["en"]
    assert {"tool-calling", "mcp"} <= set(data["tags"])
    files = data["configs"][0]["data_files"]
    assert files == [{"split": s, "path": f"{s}.jsonl"} for s in ("train", "test")]
    assert "# weather" in card.text
    assert "| train | train.jsonl | 3 |" in card.text
    assert "| glaive | 4 |" in card.text
    assert json.loads((folder / "stats.json").read_text(encoding="utf-8"))["rows"] == 4


def test_the_folder_loads_as_a_data_set_with_its_splits(tmp_path: Path) -> None:
    folder = pushed(tmp_path, ROWS)
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 3, "test": 1}
    assert loaded["train"][1]["id"] == "Oslo"


@pytest.mark.parametrize(
    ("licences", "flags", "licence"),
    [
        (["apache-2.0"], (), "apache-2.0"),
        (["MIT", "apache-2.0"], (), "other"),
        (["", "apache-2.0"], (), "unknown"),
        (["", "apache-2.0"], ("--licence", "cc-by-4.0"), "cc-by-4.0"),
    ],
)
def test_the_licence_is_that_of_all_rows_or_the_one_given(
    tmp_path: Path, licences: list[str], flags: tuple[str, ...], licence: str
) -> None:
    rows = [row(f"r{number}", licence=name) for number, name in enumerate(licences)]
    card = DatasetCard.load(pushed(tmp_path, rows, *flags) / "README.md")
    assert card.data.to_dict()["license"] == licence
    assert ("carry no licence" in card.text) == ("" in licences)


def test_what_must_not_be_reported_and_what_is_not_free_stands_under_limits(tmp_path: Path) -> None:
    rows = [row("a", source="apigen-mt", licence="cc-by-nc-4.0")]
    card = (pushed(tmp_path, rows) / "README.md").read_text(encoding="utf-8")
    limits = card.split("## Limits")[1]
    assert "1 rows: spoils tau-bench." in limits
    assert "1 rows: licence forbids commercial use." in limits


def test_a_name_in_the_data_breaks_no_table(tmp_path: Path) -> None:
    rows = [
        row("a", source="x | y\n## <script>`"),
        *(row(f"{n}", model=f"m{n}") for n in range(30)),
    ]
    card = (pushed(tmp_path, rows, "--name", "Mine") / "README.md").read_text(encoding="utf-8")
    assert r"| x \| y ## &lt;script>\` | 1 |" in card
    assert "| 11 others |" in card
    assert "# Mine" in card


@pytest.mark.parametrize(
    ("rows", "name"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**8, "10M<n<100M")],
)
def test_sizes_have_the_names_of_the_hub(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_a_broken_line_leaves_a_folder_without_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pushed(tmp_path, ROWS)
    broken = tmp_path / "train.jsonl"
    broken.write_text("{\n", encoding="utf-8")
    assert run("push", broken, "--folder", folder) == 2
    assert f"error: {broken}:1: not JSON" in capsys.readouterr().err
    assert not (folder / "README.md").exists()


def test_inputs_and_folders_that_cannot_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "train.jsonl", ROWS)
    odd = write(tmp_path / "my-data.jsonl", ROWS)
    (tmp_path / "other").mkdir()
    twin = write(tmp_path / "other" / "train.jsonl", ROWS)
    (tmp_path / "README.md").write_text("# A project\n", encoding="utf-8")
    for inputs, folder, message in (
        ([odd], tmp_path / "out", "the hub takes letters, digits, _ and . in the name"),
        ([good, twin], tmp_path / "out", 'two files are the split "train"'),
        ([good], tmp_path, "was not written by this command"),
        ([twin], tmp_path / "other", "is in the folder itself"),
        ([good], good, "cannot write"),
    ):
        assert run("push", *inputs, "--folder", folder) == 2
        assert message in capsys.readouterr().err
    assert read(good) == read(twin) == ROWS
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "# A project\n"


# --- the hub --------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """What `create_repo` and `upload_folder` ask of the hub, over real HTTP."""

    files: dict[str, bytes]
    seen: list[tuple[str, str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization", "")
        path = self.path.split("?")[0]
        address = f"http://{self.headers['Host']}/datasets/me/weather"
        if token != "Bearer hf_secret":
            return self._answer(401, {"error": "no such token"})
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            return self._answer(200, {"files": [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]})  # fmt: skip
        if path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.seen.append((path, "commit", None))
            return self._answer(200, {"commitUrl": f"{address}/commit/1", "commitOid": "1" * 40,
                                      "success": True})  # fmt: skip
        if path == "/api/repos/create":
            self.seen.append((path, "create", json.loads(body)))
            return self._answer(200, {"url": address})
        return self._answer(200, {"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self._answer(200, {"sha": "0" * 40, "id": "me/weather", "siblings": []})

    def _answer(self, code: int, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    handler = type("ThisHub", (Hub,), {"files": {}, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


def command(hub: str, tmp_path: Path, *arguments: object, token: str = "hf_secret") -> Any:
    """Run the command as users do, with the stand-in as the hub."""
    variables = {"HF_ENDPOINT": hub, "HF_TOKEN": token, "HF_HOME": str(tmp_path / "home"),
                 "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "sft.data", "push", *map(str, arguments)],
        env={**os.environ, **variables}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_makes_the_data_set_and_uploads_rows_and_card_in_one_commit(
    tmp_path: Path, hub: tuple[str, type[Hub]]
) -> None:
    address, server = hub
    train = write(tmp_path / "train.jsonl", ROWS)
    done = command(address, tmp_path, train, "--hub_id", "me/weather", "--private")
    assert done.returncode == 0, done.stderr
    assert sorted(server.files) == ["README.md", "stats.json", "train.jsonl"]
    assert [json.loads(line) for line in server.files["train.jsonl"].splitlines()] == ROWS
    assert server.files["README.md"].startswith(b"---\n")
    assert [kind for _, kind, _ in server.seen] == ["create", "commit"]
    made = server.seen[0][2]
    assert (made["type"], made["name"]) == ("dataset", "weather")
    assert "me/weather" in done.stdout


@pytest.mark.slow
def test_what_the_hub_refuses_is_one_clear_line(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    address, server = hub
    train = write(tmp_path / "train.jsonl", ROWS)
    done = command(address, tmp_path, train, "--hub_id", "me/weather", token="hf_wrong")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the hub did not take me/weather: ")
    assert "401" in done.stderr
    assert "hf_wrong" not in done.stderr + done.stdout
    assert server.files == {}


def test_without_a_token_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    path = write(tmp_path / "train.jsonl", ROWS)
    assert run("push", path, "--hub_id", "me/weather") == 2
    assert "error: no token of the hub: run `hf auth login`" in capsys.readouterr().err


def test_a_hub_id_has_an_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "train.jsonl", ROWS)
    assert run("push", path, "--hub_id", "weather") == 2
    assert 'error: --hub_id takes OWNER/NAME, not "weather"' in capsys.readouterr().err


def test_offline_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    path = write(tmp_path / "train.jsonl", ROWS)
    assert run("push", path, "--hub_id", "me/weather") == 2
    assert "error: the hub did not take me/weather" in capsys.readouterr().err
