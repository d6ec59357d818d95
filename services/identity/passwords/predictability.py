"""How much of a password is more than sequences, repetitions and rows of a keyboard."""

from __future__ import annotations

_ROWS = (
    "1234567890",
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "1qaz2wsx3edc",
)
_NEXT_ON_KEYBOARD = frozenset(row[at : at + 2] for row in _ROWS for at in range(len(row) - 1))
_SHORTEST_RUN = 3

LEAST_SURPRISES = 5
"""A password with fewer characters that do not follow from those before is too easy to guess."""


def surprises(text: str) -> int:
    """Return how many characters of a case-folded text do not follow from those before.

    A repeated block counts once, and a run of three or more (`abc`, `321`, `aaa`, `qwe`) as one character.
    """
    block = _block(text)
    count, at = 0, 0
    while at < len(block):
        end = _end_of_run(block, at)
        count += 1
        at = end if end - at >= _SHORTEST_RUN else at + 1
    return count


def _block(text: str) -> str:
    """Return the shortest block whose repetition is the text: it shows up first within the doubled text."""
    return text[: (text + text).find(text, 1)] if text else text


def _end_of_run(text: str, start: int) -> int:
    """Return where the run ends that goes on in a step of its first two characters."""
    end = start + 1
    kinds = _steps(text[start : start + 2])
    while kinds and end < len(text):
        kinds &= _steps(text[end - 1 : end + 1])
        end += bool(kinds)
    return end


def _steps(pair: str) -> set[str]:
    """Return in which ways the second of two characters follows from the first."""
    if len(pair) < 2:
        return set()
    found = {0: {"same"}, 1: {"up"}, -1: {"down"}}.get(ord(pair[1]) - ord(pair[0]), set())
    if pair in _NEXT_ON_KEYBOARD:
        found = found | {"right"}
    if pair[::-1] in _NEXT_ON_KEYBOARD:
        found = found | {"left"}
    return found
