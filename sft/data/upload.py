"""A folder onto the hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from sft.data.errors import DataError

_ID = re.compile(r"[\w.-]+/[\w.-]+")


def upload(folder: Path, hub_id: str, *, private: bool = False, api: HfApi | None = None) -> str:
    """Upload the files of a folder into a data set, in one commit; make the data set if needed.

    Args:
        folder: The folder.
        hub_id: `NAME/SET`.
        private: Make a new data set private.
        api: The hub; huggingface.co (or `HF_ENDPOINT`) with the token of the user by default.

    Returns:
        The address of the data set.

    Raises:
        DataError: If there is no token, or the hub refuses or cannot be reached.
    """
    if not _ID.fullmatch(hub_id):
        raise DataError(f'--hub_id is NAME/SET, not "{hub_id}"')
    token = api.token if api else get_token()
    if not token:
        raise DataError(
            "no token of the hub: run `hf auth login`, or set HF_TOKEN; --folder needs none"
        )
    api = api or HfApi(token=token)
    try:
        made = api.create_repo(hub_id, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=hub_id,
            folder_path=folder,
            repo_type="dataset",
            commit_message="Upload rows and card",
        )
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"the hub did not take {hub_id}: {reason}") from error
    return str(made)
