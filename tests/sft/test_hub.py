from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from sft.hub import HubError, Kind, hub_api, upload


@pytest.mark.parametrize("name", ["", "model", "a/b/c", "me/mo del"])
def test_an_id_that_is_none_is_refused_by_the_name_of_its_flag(name: str) -> None:
    with pytest.raises(HubError, match=f'--push takes OWNER/NAME, not "{name}"'):
        hub_api(name, "--push")


def test_no_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft.hub.get_token", lambda: None)
    with pytest.raises(HubError, match=r"no token of the hub.*; without --push none is needed"):
        hub_api("me/model", "--push")


def test_the_token_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft.hub.get_token", lambda: "hf_mine")
    assert hub_api("me/model", "--push").token == "hf_mine"


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_hub_that_is_not_there_is_one_clear_error(tmp_path: Path, kind: Kind) -> None:
    with pytest.raises(HubError, match=r"^the hub did not take me/model: .*offline mode"):
        upload(tmp_path, "me/model", HfApi(token="hf_mine"), kind, private=True)
