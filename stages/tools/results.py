"""results: every measured score, as tables. data/*.csv -> metrics/README.md.

python -m stages.tools.results
"""

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from stages.core import store
from stages.core.errors import PipelineError, run_stage
from stages.labels import taxonomy
from stages.tools import list_recipes, replays

RESULTS_FILE = Path("data/results.csv")
SHEETS_FILE = Path("data/results_tables.csv")
PAGE = Path("metrics/README.md")
RESULT_COLUMNS = (
    "table", "experiment", "command", "commit", "hospital", "n", "metric", "value", "low", "high",
    "note",
)  # fmt: skip
SHEET_COLUMNS = ("table", "title", "across", "note")
KEYS = ("experiment", "metric", "hospital")
COMMAND = "python -m stages.tools.results"
BEGIN = f"<!-- Generated from data/results.csv and data/replays.csv by: uv run {COMMAND} -->"
END = "<!-- End of what is generated. -->"
STARTS = ("uv run ", "SMEARFLOW_MIRROR=DIR uv run ")
NUMBER = r"-?(\d+|\d*\.\d+)"
WIDTH = 100


@dataclass(frozen=True)
class Result:
    """One measured number.

    Attributes
    ----------
    table, experiment, hospital, metric : str
        Where it belongs; the four together name it. A ``#2`` at the end of a metric stands for a
        second step, or a second run.
    command, commit : str
        What gave it, and with which code.
    n : int or None
        Images that it is of; None where that is not known or makes no sense.
    value, low, high : str
        As printed. `low` and `high` are an interval of 95 %, or, without a value, a range.
    note : str
        What must be said beside it.
    """

    table: str
    experiment: str
    command: str
    commit: str
    hospital: str
    n: int | None
    metric: str
    value: str
    low: str
    high: str
    note: str


@dataclass(frozen=True)
class Sheet:
    """One table of the page; `across` is the key that makes its columns, or "none"."""

    name: str
    title: str
    across: str
    note: str


def main() -> None:
    """Write the generated part of the page anew; what stands around it is left as it is."""
    text = renew(taxonomy.read_text(PAGE), generate())
    with store.replace(PAGE) as partial:
        partial.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{PAGE} holds what {RESULTS_FILE} and {replays.REPLAYS_FILE} say.\n")


def generate() -> str:
    """Return the generated part of the page, between the markers."""
    sheets = read_sheets()
    results = read_results(sheets)
    pieces = ["## Results", ""]
    for sheet in sheets:
        own = [result for result in results if result.table == sheet.name]
        pieces += [lay_out(sheet, own), ""]
    pieces += ["## Replays of PyCell and Leukopy", "", list_recipes.readme_table(replays.read())]
    return "\n".join(pieces)


def renew(page: str, generated: str) -> str:
    """Return a page with another generated part.

    Raises
    ------
    PipelineError
        The page does not hold the two markers, once each and in order.
    """
    before, begin, rest = page.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise PipelineError(
            f"{PAGE}: the lines {BEGIN!r} and {END!r} must stand there once each, in this order. "
            f"Put them back; 'git restore {PAGE}' does."
        )
    return f"{before}{BEGIN}\n\n{generated}\n{END}\n{after}"


def read_sheets() -> list[Sheet]:
    """Read and check which tables there are.

    Raises
    ------
    PipelineError
        A line is wrong; the message names it and the way out.
    """
    sheets: dict[str, Sheet] = {}
    for where, cells in replays.read_rows(SHEETS_FILE, SHEET_COLUMNS):
        sheet = Sheet(*cells.values())
        if not re.fullmatch(r"[a-z0-9_]+", sheet.name) or sheet.name in sheets:
            _refuse(where, f"table is {sheet.name!r}; it takes a name of its own, small letters")
        if sheet.across not in (*KEYS, "none"):
            _refuse(where, f"across is {sheet.across!r}; it takes {', '.join(KEYS)} or none")
        if not sheet.title:
            _refuse(where, "title is empty. Fill it")
        sheets[sheet.name] = sheet
    return list(sheets.values())


def read_results(sheets: Sequence[Sheet]) -> list[Result]:
    """Read and check every measured number, in the order of the file.

    Parameters
    ----------
    sheets : sequence of Sheet
        As `read_sheets` gives them.

    Raises
    ------
    PipelineError
        A line is wrong; the message names it and the way out.
    """
    known = [sheet.name for sheet in sheets]
    results: dict[tuple[str, ...], Result] = {}
    commands: dict[str, str] = {}
    for where, cells in replays.read_rows(RESULTS_FILE, RESULT_COLUMNS):
        if cells["table"] not in known:
            _refuse(where, f"table {cells['table']!r} is not in {SHEETS_FILE}. Add it there")
        _check_source(where, cells, commands)
        _check_number(where, cells)
        key = tuple(cells[name] for name in ("table", *KEYS))
        if key in results:
            _refuse(where, f"{', '.join(key)} stands there already. Leave one of the two")
        n = int(cells["n"]) if cells["n"] else None
        results[key] = Result(**{**cells, "n": n})  # type: ignore[arg-type]
    empty = set(known) - {result.table for result in results.values()}
    if empty:
        _refuse(str(SHEETS_FILE), f"table {min(empty)!r} has no row in {RESULTS_FILE}. Delete it")
    return list(results.values())


def _check_source(where: str, cells: dict[str, str], commands: dict[str, str]) -> None:
    """Refuse a number of which it is not said how it was made."""
    name, command = cells["experiment"], cells["command"]
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        _refuse(where, f"experiment is {name!r}; it takes small letters, numbers and hyphens")
    if not command.startswith(STARTS):
        _refuse(where, f"command is {command!r}; it begins with {' or '.join(map(repr, STARTS))}")
    if " exp run " in command and f" -n {name} " not in f"{command} ":
        _refuse(where, f"command does not name its experiment. Add -n {name}")
    if commands.setdefault(name, command) != command:
        _refuse(where, f"{name} has another command than in a line before. Rename one of the two")
    if not re.fullmatch(r"[0-9a-f]{7,40}", cells["commit"]):
        _refuse(where, f"commit is {cells['commit']!r}; it takes 7 to 40 digits of a commit's hash")
    for column in ("hospital", "metric"):
        if not cells[column]:
            _refuse(where, f"{column} is empty. Fill it")


def _check_number(where: str, cells: dict[str, str]) -> None:
    value, low, high = (cells[column] for column in ("value", "low", "high"))
    given = [text for text in (low, value, high) if text]
    if not all(re.fullmatch(NUMBER, text) for text in given):
        _refuse(where, f"value, low and high are {value!r}, {low!r}, {high!r}; they take numbers")
    if bool(low) != bool(high) or not given:
        _refuse(where, "a number is missing: give a value, or low and high, or all three")
    if [float(text) for text in given] != sorted(float(text) for text in given):
        _refuse(where, f"low {low}, value {value}, high {high} are not in this order. Correct them")
    if cells["n"] and not (cells["n"].isdigit() and int(cells["n"])):
        _refuse(where, f"n is {cells['n']!r}; it takes a number of images, or nothing")


def lay_out(sheet: Sheet, results: Sequence[Result]) -> str:
    """Return one table as Markdown: title, note, the commands with their commits, the numbers.

    Parameters
    ----------
    sheet : Sheet
        What makes the columns.
    results : sequence of Result
        Those of this sheet, one at least.
    """
    note = [textwrap.fill(sheet.note, WIDTH), ""] if sheet.note else []
    lines = [f"### {sheet.title}", "", *note, "```bash", *_list_commands(results), "```", ""]
    down = [name for name in KEYS if name != sheet.across and _is_told(name, results)]
    down = down or ["experiment" if sheet.across == "metric" else "metric"]
    rows: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        rows.setdefault(tuple(_key(result, name) for name in down), []).append(result)
    columns = list(dict.fromkeys(_key(result, sheet.across) for result in results))
    one_n = all({result.n for result in row} <= {row[0].n, None} for row in rows.values())
    has_n = one_n and any(result.n for result in results)
    has_notes = any(result.note for result in results)
    head = [*down, *(["n"] if has_n else []), *columns, *(["remark"] if has_notes else [])]
    lines += [_join(head), "|" + "---|" * len(head)]
    for key, row in rows.items():
        ns = [f"{result.n:,}" for result in row if result.n][:1] or [""]
        cells = [
            "; ".join(say(r, not one_n) for r in row if _key(r, sheet.across) == column)
            for column in columns
        ]
        remark = "; ".join(dict.fromkeys(result.note for result in row if result.note))
        lines.append(
            _join([*key, *(ns if has_n else []), *cells, *([remark] if has_notes else [])])
        )
    return "\n".join(lines)


def say(result: Result, with_n: bool = False) -> str:
    """Return a number as it stands in a table: ``.982 (.965 to .995)``, if need be ``of 567``."""
    span = f"{_group(result.low)} to {_group(result.high)}" if result.low else ""
    text = f"{_group(result.value)} ({span})" if result.value and span else result.value or span
    text = _group(text)
    return f"{text} of {result.n:,}" if with_n and result.n else text


def _list_commands(results: Sequence[Result]) -> Iterator[str]:
    for command in dict.fromkeys(result.command for result in results):
        own = [result.commit for result in results if result.command == command]
        yield f"# at {', '.join(dict.fromkeys(own))}"
        yield command


def _key(result: Result, name: str) -> str:
    """Return what makes a row or a column; ``epochs`` and ``epochs #2`` share one."""
    return "value" if name == "none" else str(getattr(result, name)).partition(" #")[0]


def _is_told(name: str, results: Sequence[Result]) -> bool:
    return len({_key(result, name) for result in results}) > 1


def _group(text: str) -> str:
    return f"{int(text):,}" if text.isdigit() else text


def _join(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell or '-' for cell in cells)} |"


def _refuse(where: str, text: str) -> NoReturn:
    raise PipelineError(f"{where}: {text}.")


if __name__ == "__main__":
    run_stage(main)
