from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envs.client import Deadlines
from envs.errors import ClientError, ServerStartError
from envs.servers.config import ServerConfig
from envs.servers.pool import Pool
from envs.servers.stand import Eras, Stand
from tests.envs.servers.playing import PATIENT, starts, toy
from tests.envs.servers.test_process import alive, wait_for

MakePool = Callable[..., Pool]

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def pool(folder: Path) -> Iterator[MakePool]:
    made: list[Pool] = []

    def make(spares: int = 1, deadlines: Deadlines = PATIENT, **settings: Any) -> Pool:
        servers = [toy(folder, **settings)]
        made.append(Pool(lambda: Stand(servers, deadlines, Eras()), spares, deadlines.start))
        return made[-1]

    yield make
    for one in made:
        one.close()


def pid(stand: Stand) -> int:
    process = stand.connections["toy"]._server.process
    assert process is not None
    return int(process.pid)


def test_the_successor_is_made_while_the_episode_runs(pool: MakePool, folder: Path) -> None:
    filled = pool(spares=1)
    first = filled.take()
    wait_for(lambda: len(starts(folder)) == 2)
    second = filled.take()
    assert [pid(first), pid(second)] == starts(folder)[:2]
    assert first.work != second.work


def test_as_many_are_kept_ready_as_the_pool_is_told(pool: MakePool, folder: Path) -> None:
    filled = pool(spares=3)
    filled.take()
    wait_for(lambda: len(starts(folder)) == 4)
    wait_for(lambda: all(future.done() for future in filled._waiting))
    assert len(filled._waiting) == 3


def test_without_spares_a_stand_is_made_when_it_is_asked_for(pool: MakePool, folder: Path) -> None:
    filled = pool(spares=0)
    for number in (1, 2):
        filled.take()
        assert len(starts(folder)) == number


def test_the_first_that_is_ready_is_taken(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, quick = toy(tmp_path / "silent"), toy(folder)
    (tmp_path / "silent" / "silent").touch()
    configs: list[ServerConfig] = [silent, quick, quick]
    made = Pool(lambda: Stand([configs.pop(0)], PATIENT, Eras()), 2, PATIENT.start)
    assert pid(made.take()) in starts(folder)
    made.close()


def test_a_stand_that_is_discarded_goes_behind_the_callers_back(
    pool: MakePool, folder: Path
) -> None:
    filled = pool()
    stand = filled.take()
    process, work = pid(stand), stand.work
    assert alive(process)
    assert work.is_dir()
    filled.discard(stand)
    wait_for(lambda: not alive(process) and not work.exists())


def test_a_failing_start_is_an_error_and_a_later_one_works(pool: MakePool, folder: Path) -> None:
    filled = pool(spares=2)
    (folder / "broken").touch()
    with pytest.raises(ServerStartError, match=r"exit code 1(.|\n)*it is broken"):
        filled.take()
    (folder / "broken").unlink()
    # What was ordered in the meantime and failed is not held against the server.
    wait_for(lambda: all(future.done() for future in filled._waiting))
    assert alive(pid(filled.take()))


def test_a_spare_that_has_died_is_not_handed_out(pool: MakePool, folder: Path) -> None:
    filled = pool(spares=1)
    first = filled.take()
    [spare] = filled._waiting
    dead = spare.result(60)
    process = dead.connections["toy"]._server.process
    process._transport.kill()
    wait_for(lambda: not dead.alive)
    third = filled.take()
    assert len({pid(first), pid(dead), pid(third)}) == 3
    assert third.alive


def test_a_server_that_says_nothing_is_an_error_after_its_deadline(
    pool: MakePool, folder: Path
) -> None:
    filled = pool(deadlines=Deadlines(start=0.5))
    (folder / "silent").touch()
    with pytest.raises(ServerStartError, match=r"did not answer"):
        filled.take()


def test_a_closed_pool_gives_nothing(pool: MakePool) -> None:
    closed = pool()
    closed.close()
    with pytest.raises(ClientError, match="is closed"):
        closed.take()


def test_closing_takes_down_what_is_taken_ready_or_in_the_making(
    pool: MakePool, folder: Path, tmp_path: Path
) -> None:
    filled = pool(spares=2)
    taken = filled.take()
    wait_for(lambda: all(future.done() for future in filled._waiting))
    (folder / "silent").touch()
    filled._order(4)  # more than start at a time
    wait_for(lambda: len(starts(folder)) >= 4)
    filled.close()
    assert not taken.alive
    assert not any(map(alive, starts(folder)))
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_pool_can_be_closed_twice(pool: MakePool) -> None:
    closed = pool()
    closed.take()
    closed.close()
    closed.close()


def test_a_fork_leaves_the_servers_of_its_parent_alone(pool: MakePool) -> None:
    filled = pool()
    stand = filled.take()
    child = multiprocessing.get_context("fork").Process(target=filled.close)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert stand.alive
    assert alive(pid(stand))


def test_a_folder_that_cannot_be_made_is_a_failing_start(
    pool: MakePool, folder: Path, tmp_path: Path
) -> None:
    template = tmp_path / "template"
    template.mkdir()
    filled = pool(spares=0, template=template)
    filled.take()
    template.rmdir()
    with pytest.raises(ServerStartError, match=r"folder of an episode cannot be made.*template"):
        filled.take()
