"""Dialogues of the pretraining corpus: requests, calls of random tools, results and answers."""

from sft.dialogues.parts import Dialogue, Maker, Message, answer, assistant, drawn, user
from sft.dialogues.without_call import (
    ACTIONS,
    choose_exercise,
    key_missing_dialogue,
    nothing_fits_dialogue,
)

DIALOGUES: tuple[tuple[Maker, int], ...] = (
    *ACTIONS,
    (choose_exercise, 6),
    (nothing_fits_dialogue, 11),
    (key_missing_dialogue, 3),
)

__all__ = ["ACTIONS", "DIALOGUES", "Dialogue", "Message", "answer", "assistant", "drawn", "user"]
