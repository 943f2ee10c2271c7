"""Text of disks and text of people: compared clean; CSV read strictly, each fault with its line."""

import csv
import io
import unicodedata
from collections.abc import Iterator

from stages.core.errors import HospitalError

# Soft hyphen, zero-width space, marks of direction, word joiner, byte order mark.
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff"))
QUOTES = "Close it; a quote inside of a quoted cell is written twice."


def clean(text: str) -> str:
    """Return a text as it is compared: composed (Unicode NFC), without blanks around.

    Blanks of any kind inside become a single space, and what cannot be seen goes.

    Notes
    -----
    macOS writes an accent as a character of its own, spreadsheets leave blanks behind, web pages
    no-break spaces. What looks the same to a person, and the same in a message that says which
    line to add, must be the same.
    """
    return " ".join(unicodedata.normalize("NFC", text.translate(INVISIBLE)).split())


def read_csv(where: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line and the cells, cleaned, of each row that holds something.

    Parameters
    ----------
    where : str
        What messages call the table.
    text : str
        With commas between cells.

    Raises
    ------
    HospitalError
        A quote is not closed, or swallows lines: all rows behind it would be lost in silence.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    width = 0
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise HospitalError(f"{where}, line {number}: {_say_fault(error)} {QUOTES}") from None
        width = width or len(cells)
        if any(_has_swallowed(cell, width) for cell in cells):
            raise HospitalError(
                f"{where}, line {number}: a quoted cell goes on to line {reader.line_num} and "
                f"looks like lines of the table. {QUOTES} If it is right so, write it on one line."
            )
        cells = [clean(cell) for cell in cells]
        if any(cells):
            yield number, cells


def _has_swallowed(cell: str, width: int) -> bool:
    """Tell whether a cell of several lines has the commas that lines of the table would have."""
    n_ends = max(cell.count("\n"), cell.count("\r"))
    return n_ends > 0 and width > 1 and cell.count(",") >= n_ends * (width - 1)


def _say_fault(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text:
        return "a quote opens a cell and nothing closes it."
    if "field limit" in text:
        return f"a cell is longer than {csv.field_size_limit():,} characters: an open quote?"
    return "a quote closes before its cell ends."
