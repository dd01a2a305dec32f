#!/usr/bin/env python3
"""Runs a command on a pseudo-terminal and keeps what its screen shows, for the tests.

    terminal.py COLUMNS ROWS COMMAND [WORD]...

Orders come in lines on standard input: `type HEX` types these bytes, `hang-up` closes the window, and `look` is
answered with a line of facts, `ROWS ECHO ESCAPES STATUS`, and as many rows as that says: all that have been on the
screen, from the first to the one with the cursor or the last that is not empty, each after a `+` if it goes on with
the row before and else after a blank. STATUS is `-` while the command runs. At the end of the orders the command is
killed.

The screen does what the common terminals do with the little that the program may use: it wraps rows, and a row that is
full leaves the cursor at its end. Anything else ends in an error, so that no colour and no other sequence can slip in.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import unicodedata

SEQUENCE = re.compile(r"\x1b\[(\d*)([A-Za-z])")


def width(character: str) -> int:
    """How many columns a character takes."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


class Row:
    """One row of cells; a wide character takes a cell and an empty one behind it."""

    def __init__(self, is_wrapped: bool = False) -> None:
        self.cells: list[str] = []
        self.is_wrapped = is_wrapped

    def put(self, column: int, character: str) -> None:
        while len(self.cells) < column:
            self.cells.append(" ")
        self.cells[column : column + width(character)] = [character] + [""] * (width(character) - 1)


class Screen:
    """All rows that have ever been there; the last ones are those that the window shows."""

    def __init__(self, columns: int, height: int) -> None:
        self.columns, self.height = columns, height
        self.rows = [Row()]
        self.row = self.column = 0
        self.escapes = 0
        self._rest = ""

    def feed(self, text: str) -> None:
        text = self._rest + text
        self._rest = ""
        while text:
            if text[0] == "\x1b":
                found = SEQUENCE.match(text)
                if not found:
                    if len(text) > 8:
                        raise ValueError(f"a strange sequence: {text[:20]!r}")
                    self._rest = text
                    return
                self._obey(found[2], int(found[1] or 0))
                text = text[found.end() :]
            else:
                self._put(text[0])
                text = text[1:]

    def _obey(self, order: str, number: int) -> None:
        self.escapes += 1
        if order == "A":
            self.row = max(self.row - max(number, 1), len(self.rows) - self.height, 0)
        elif order == "B":
            self.row = min(self.row + max(number, 1), len(self.rows) - 1)
        elif order == "G":
            self.column = max(number, 1) - 1
        elif order == "K" and number in (0, 2):
            del self.rows[self.row].cells[self.column if number == 0 else 0 :]
        elif order == "J" and number == 0:
            del self.rows[self.row].cells[self.column :]
            del self.rows[self.row + 1 :]
        else:
            raise ValueError(f"a strange sequence: {number}{order}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._next_row(is_wrapped=False)
        elif character == "\b":
            self.column = max(self.column - 1, 0)
        elif ord(character) < 32 or character == "\x7f":
            raise ValueError(f"a strange character: {character!r}")
        elif width(character) == 0:
            if self.column > 0:
                self.rows[self.row].cells[self.column - 1] += character
        else:
            if self.column + width(character) > self.columns:
                self.column = 0
                self._next_row(is_wrapped=True)
            self.rows[self.row].put(self.column, character)
            self.column += width(character)

    def _next_row(self, is_wrapped: bool) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append(Row())
        self.rows[self.row].is_wrapped = is_wrapped

    def text(self) -> list[str]:
        end = max([self.row] + [index for index, row in enumerate(self.rows) if row.cells]) + 1
        return [("+" if row.is_wrapped else " ") + "".join(row.cells) for row in self.rows[:end]]


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, columns: int, rows: int, command: list[str]) -> None:
        self.screen = Screen(columns, rows)
        self.status: int | None = None
        self._bytes = b""
        self._echo = True
        self._child, self._master = pty.fork()
        if self._child == 0:
            # The size must be there before the command looks.
            fcntl.ioctl(sys.stdin.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execvp(command[0], command)

    def run(self) -> None:
        orders = b""
        while True:
            listening = [0] + ([self._master] if self._master >= 0 else [])
            ready, _, _ = select.select(listening, [], [], 0.05)
            if self._master in ready:
                self._read()
            self._reap()
            if 0 in ready:
                piece = os.read(0, 65536)
                if not piece:
                    break
                *lines, orders = (orders + piece).split(b"\n")
                for line in lines:
                    self._obey(*line.decode().split())
        if self.status is None:
            os.kill(self._child, signal.SIGKILL)

    def _read(self) -> bool:
        try:
            piece = os.read(self._master, 65536)
        except OSError:
            piece = b""
        if not piece:
            self._close()
            return False
        self._bytes += piece
        try:
            text, self._bytes = self._bytes.decode(), b""
        except UnicodeDecodeError as error:
            if len(self._bytes) - error.start > 3:
                raise
            text, self._bytes = self._bytes[: error.start].decode(), self._bytes[error.start :]
        self.screen.feed(text)
        return True

    def _close(self) -> None:
        self._echo = self._has_echo()
        os.close(self._master)
        self._master = -1

    def _has_echo(self) -> bool:
        return termios.tcgetattr(self._master)[3] & termios.ECHO != 0

    def _reap(self) -> None:
        if self.status is None:
            child, status = os.waitpid(self._child, os.WNOHANG)
            if child:
                self.status = os.waitstatus_to_exitcode(status)

    def _obey(self, order: str, *words: str) -> None:
        if order == "look":
            self._look()
        elif order == "type":
            os.write(self._master, bytes.fromhex(words[0]))
        elif order == "hang-up":
            self._close()
        else:
            raise ValueError(f"unknown order: {order}")

    def _look(self) -> None:
        # What the command has written before it ended belongs to the end.
        while self._master >= 0 and select.select([self._master], [], [], 0)[0] and self._read():
            pass
        rows = self.screen.text()
        echo = self._echo if self._master < 0 else self._has_echo()
        status = "-" if self.status is None or self._master >= 0 else str(self.status)
        print(f"{len(rows)} {int(echo)} {self.screen.escapes} {status}")
        print(*rows, sep="\n", flush=True)


if __name__ == "__main__":
    Terminal(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]).run()
