"""A terminal as a user sees it: the text that stands on it after everything that was written."""

import re
from collections import defaultdict

_CODE = re.compile(
    r"\x1b\[(?P<hidden>\?25[lh])|\x1b\[(?P<number>\d*)(?P<code>[A-HJKf])|\x1b\[[\d;?]*[a-zA-Z]|(?P<text>.)", re.S
)


class Screen:
    """Takes what is written on a terminal of so many columns; knows of colours only that they have no width."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._cells: dict[tuple[int, int], str] = {}
        self._row = self._column = 0
        self.is_cursor_hidden = False

    def write(self, text: str) -> None:
        """Take what a program wrote, or what the terminal echoed."""
        for found in _CODE.finditer(text):
            if found["hidden"]:
                self.is_cursor_hidden = found["hidden"].endswith("l")
            elif found["code"]:
                self._move(found["code"], int(found["number"] or 1))
            elif found["text"]:
                self._put(found["text"])

    @property
    def lines(self) -> list[str]:
        """The lines that are not empty."""
        rows: dict[int, dict[int, str]] = defaultdict(dict)
        for (row, column), character in self._cells.items():
            rows[row][column] = character
        texts = ("".join(rows[row].get(c, " ") for c in range(max(rows[row]) + 1)).rstrip() for row in sorted(rows))
        return [text for text in texts if text]

    def _move(self, code: str, number: int) -> None:
        if code == "A":
            self._row = max(0, self._row - number)
        elif code == "K" and number == 2:
            self._cells = {place: c for place, c in self._cells.items() if place[0] != self._row}
        else:
            raise AssertionError(f"the screen does not know {number}{code}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row += 1
        else:
            if self._column == self._columns:
                self._row, self._column = self._row + 1, 0
            self._cells[self._row, self._column] = character
            self._column += 1
