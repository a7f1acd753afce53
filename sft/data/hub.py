"""Rows of a data set on the hub, or of a data set folder, streamed through `datasets`."""

from __future__ import annotations

from collections.abc import Generator

from datasets import load_dataset
from datasets.exceptions import DatasetsError

from sft.data.errors import DataFileError
from sft.data.raw_lines import RawLine, row_bytes

TRAINING_SPLIT = "train"


def hub_lines(name: str) -> Generator[RawLine, None, None]:
    """Yield the rows of a data set's training split, or of its only one.

    Args:
        name: An id such as `Salesforce/xlam-function-calling-60k`, or a folder; `:CONFIG` behind
            it names one of several configurations.

    Raises:
        DataFileError: If it cannot be loaded, or it is not clear which split is meant.
    """
    place, _, config = name.partition(":")
    try:
        splits = load_dataset(place, config or None, streaming=True)
        if TRAINING_SPLIT not in splits and len(splits) > 1:
            raise DataFileError(f"{name} has no split train, but: {', '.join(splits)}")
        rows = splits[TRAINING_SPLIT if TRAINING_SPLIT in splits else next(iter(splits))]
        for number, row in enumerate(rows, start=1):
            yield RawLine(number, row_bytes(row))
    except (OSError, ValueError, DatasetsError) as error:
        problem = " ".join(str(error).split())[:300]
        raise DataFileError(f"cannot load the data set {name}: {problem}") from error
