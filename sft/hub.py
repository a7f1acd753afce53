"""A folder onto the hub: huggingface.co, or what HF_ENDPOINT names.

HubError    nothing was uploaded; the message says why
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

Kind = Literal["model", "dataset"]

_ID = re.compile(r"[\w.-]+/[\w.-]+")


class HubError(Exception):
    """Nothing was uploaded."""


def hub_api(hub_id: str, flag: str) -> HfApi:
    """Return the hub with the user's token, before anything is made for it.

    Args:
        hub_id: Where a folder is to go.
        flag: The flag that says so.

    Raises:
        HubError: If the id is none, or there is no token.
    """
    if not _ID.fullmatch(hub_id):
        raise HubError(f'{flag} takes OWNER/NAME, not "{hub_id}"')
    token = get_token()
    if not token:
        raise HubError(
            "no token of the hub: run `hf auth login`, or set HF_TOKEN; "
            f"without {flag} none is needed"
        )
    return HfApi(token=token)


def upload(folder: Path, hub_id: str, api: HfApi, kind: Kind, *, private: bool) -> str:
    """Upload the files of a folder in one commit.

    Args:
        folder: The folder.
        hub_id: `OWNER/NAME`; made if it is not there.
        api: The hub.
        kind: What it is there.
        private: Make it private, if it is made.

    Returns:
        Its address.

    Raises:
        HubError: If the hub refuses or cannot be reached.
    """
    try:
        made = api.create_repo(hub_id, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=hub_id,
            folder_path=folder,
            repo_type=kind,
            commit_message=f"Upload {kind} and card",
        )
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise HubError(f"the hub did not take {hub_id}: {reason}") from error
    return str(made)
