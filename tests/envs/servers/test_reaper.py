from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.servers import reaper as module
from envs.servers.reaper import MARKER, Reaper, Server, family, kill_family, reaper, started_at
from tests.envs.servers.test_process import alive, wait_for

ROOT = Path(__file__).parents[3]
TOKEN = f"sleeper of {os.getpid()}"  # tests in other processes have sleepers too
SLEEP = [sys.executable, "-I", "-S", "-c", "import time; print(1, flush=True); time.sleep(600)"]

TRAINER = """
import json, os, sys, time
from envs.event_loop import event_loop
from envs.servers.reaper import reaper
from tests.envs.servers.test_process import call, start

reaper().watch_folder(sys.argv[1])
reaper().watch_folder(sys.argv[1] + "-kept")
reaper().forget_folder(sys.argv[1] + "-kept")
pids = []
for _ in range(2):
    # One that ends by itself, before the reaper looks, leaves its `_bare` child unknown.
    server = event_loop().run(start("stubborn"), 60)
    pids += [server.pid, *event_loop().run(call(server, "kin"), 60)]
child = 0
if "fork" in sys.argv:
    child = os.fork()
    if child == 0:
        time.sleep(600)
print(json.dumps({"pids": pids, "child": child, "reaper": reaper()._watcher}), flush=True)
time.sleep(600)
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own that carries the token."""
    with subprocess.Popen(
        SLEEP, env={MARKER: TOKEN}, start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture
def watcher() -> Iterator[Reaper]:
    own = Reaper()
    yield own
    end(own)


def end(own: Reaper) -> None:
    """Let a reaper believe that its trainer ended, and wait until it is done."""
    if own._pipe is not None:
        own._drop_pipe()
        os.waitpid(own._watcher, 0)


@pytest.mark.parametrize("options", [[], ["fork"]])
def test_nothing_is_left_of_a_trainer_that_is_killed(tmp_path: Path, options: list[str]) -> None:
    folder = tmp_path / "scratch"
    kept = tmp_path / "scratch-kept"
    (folder / "work").mkdir(parents=True)
    (folder / "work" / "file").touch()
    kept.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(folder), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as trainer:
        assert trainer.stdout
        told = json.loads(trainer.stdout.readline())
        assert all(alive(pid) for pid in [*told["pids"], told["reaper"]])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(told["reaper"], number)
        trainer.kill()
        # A forked child that lives on does not keep the reaper waiting.
        wait_for(lambda: not alive(told["reaper"]))
        assert not any(alive(pid) for pid in told["pids"])
        assert not folder.exists()
        assert kept.exists()
        if told["child"]:
            assert alive(told["child"])
            os.kill(told["child"], signal.SIGKILL)


def test_there_is_one_reaper_in_a_process() -> None:
    assert reaper() is reaper()


def test_a_server_that_is_watched_dies_with_the_trainer(
    watcher: Reaper, sleeper: subprocess.Popen[bytes]
) -> None:
    watcher.watch(Server(TOKEN))
    end(watcher)
    assert sleeper.wait(60) == -signal.SIGKILL


def test_a_server_that_is_forgotten_lives_on(
    watcher: Reaper, sleeper: subprocess.Popen[bytes]
) -> None:
    watcher.watch(Server(TOKEN, sleeper.pid, started_at(sleeper.pid)))
    watcher.forget(TOKEN)
    end(watcher)
    assert sleeper.poll() is None


def test_a_reaper_that_is_killed_is_replaced_and_its_successor_knows_everything(
    watcher: Reaper, sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    watcher.watch(Server(TOKEN))
    watcher.watch_folder(folder)
    first = watcher._watcher
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not alive(first))
    watcher.forget("another")
    assert watcher._watcher != first
    end(watcher)
    assert sleeper.wait(60) == -signal.SIGKILL
    assert not folder.exists()


def test_a_stranger_with_a_reused_id_is_spared(sleeper: subprocess.Popen[bytes]) -> None:
    started = started_at(sleeper.pid)
    assert kill_family([Server("gone", sleeper.pid, started - 1)]) == set()
    assert sleeper.poll() is None
    assert family([Server("gone", sleeper.pid, started)]) == [Server("gone", sleeper.pid, started)]


def test_a_process_is_known_by_its_token_alone(sleeper: subprocess.Popen[bytes]) -> None:
    assert kill_family([Server(TOKEN)]) == {sleeper.pid}
    assert sleeper.wait(60) == -signal.SIGKILL
    assert kill_family([Server(TOKEN)]) == set()
    assert started_at(sleeper.pid) == 0


def test_without_proc_the_group_is_killed(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_PROC", tmp_path / "none")
    assert kill_family([Server(TOKEN, sleeper.pid), Server("not started")]) == set()
    assert sleeper.wait(60) == -signal.SIGKILL


def test_a_message_that_the_trainer_did_not_finish_is_ignored() -> None:
    whole = [b'["watch", "a", 1, 2]\n', b'["watch", "b", 3, 4]\n', b'["forget", "a"]\n']
    folders = [b'["watch_folder", "/x"]\n', b'["watch_folder", "/y"]\n']
    messages = [*whole, *folders, b'["forget_folder", "/x"]\n', b'["forget", "b']
    assert module._obey(messages) == ([Server("b", 3, 4)], {"/y"})
