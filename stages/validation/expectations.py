"""Data expectations: suites in data/expectations/*.json, held against the tables.

The only module that knows Great Expectations; it is imported inside functions, because the import
takes seconds.
"""

import functools
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages.core.errors import MAX_NAMED, TableError, name_some
from stages.core.tables import Table

SUITES = Path("data/expectations")


@dataclass(frozen=True)
class Finding:
    """What one expectation found in one table.

    Attributes
    ----------
    table : str
        Name of the suite, and of the frame that it was held against.
    expectation : str
        Its type, as in the suite.
    column : str
        The column or columns that it looks at; empty where it looks at the table as a whole.
    success : bool
        Whether the rows are as expected.
    n_unexpected : int
        Number of rows (of columns, where it looks at the table as a whole) that are not.
    offenders : tuple of str
        Keys of the first of them, at most `errors.MAX_NAMED`.
    fault : str or None
        Why the expectation itself could not be held against the table; then nothing is known of
        the rows, and `success` is False.
    """

    table: str
    expectation: str
    column: str
    success: bool
    n_unexpected: int = 0
    offenders: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def place(self) -> str:
        """Table, column and expectation, for a message."""
        return f"{self.table}, {self.column or 'all columns'}, {self.expectation}"


def columns_to_check(table: Table) -> list[str]:
    """Return the columns of `table` without the binary ones, which would fill the memory."""
    return [
        field.name
        for field in table.schema
        if not (pa.types.is_binary(field.type) or pa.types.is_fixed_size_binary(field.type))
    ]


def read_suite(table: str) -> list[dict[str, Any]]:
    """Read ``type`` and ``kwargs`` of each expectation in ``data/expectations/<table>.json``.

    Raises
    ------
    TableError
        The file is not there, is not JSON, or is no suite.
    """
    path = SUITES / f"{table}.json"
    way_out = "Take the file from git again, or write it like its neighbours."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TableError(f"{path} is missing, so nothing checks {table!r}. {way_out}") from None
    except ValueError as error:
        raise TableError(f"{path} is not JSON: {error}. {way_out}") from None
    entries = content.get("expectations") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or not all(map(_is_entry, entries)):
        raise TableError(
            f'{path}: \'expectations\' must be a list of {{"type": ..., "kwargs": {{...}}}} with '
            f"one entry or more. {way_out}"
        )
    return entries


def check_all(frames: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Hold each frame against the suite of its name; the first column is the key."""
    return [
        finding
        for name, frame in frames.items()
        for finding in check(name, frame, read_suite(name))
    ]


def check(table: str, frame: pd.DataFrame, suite: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Hold one frame against a suite.

    Parameters
    ----------
    table : str
        Its name, for the findings.
    frame : pandas.DataFrame, shape (n_rows, n_columns)
        The first column names the rows that break an expectation.
    suite : sequence of mapping
        As `read_suite` gives it.

    Returns
    -------
    list of Finding
        One for each expectation, in the order of `suite`.

    Notes
    -----
    Great Expectations only logs an expectation that it does not know, and leaves it out of the
    suite. So each is built alone here: one that cannot be built is a finding with a fault, and a
    misspelt expectation never passes for a fulfilled one.
    """
    with _quiet():
        built: list[Any] = []
        findings: dict[int, Finding] = {}
        for index, item in enumerate(suite):
            try:
                built.append(_build(item, index))
            except Exception as error:  # what a wrong entry sets off in the library is many things
                findings[index] = _faulty(table, item, str(error))
        for index, result in _validate(frame, table, built):
            findings[index] = _read_result(table, suite[index], result, str(frame.columns[0]))
    return [findings[index] for index in range(len(suite))]


def require_success(findings: Sequence[Finding]) -> None:
    """Stop at bad data, or at an expectation that cannot be held against the table.

    Raises
    ------
    TableError
        Names table, column, expectation and the first rows; faults of the expectations
        themselves stand apart.
    """
    failed = [finding for finding in findings if not finding.success]
    broken = [_describe(finding) for finding in failed if not finding.fault]
    faulty = [f"{finding.place}: {finding.fault}" for finding in failed if finding.fault]
    named = name_some(sorted({f"{SUITES}/{finding.table}.json" for finding in failed}))
    sentences = []
    if broken:
        sentences.append(
            f"{len(broken)} of {len(findings)} expectations do not hold: {_list_some(broken)}. "
            "Mend the stage or the source that these rows come from (where the rows are right: "
            f"{named}), then run 'uv run dvc repro'."
        )
    if faulty:
        sentences.append(
            f"{len(faulty)} of {len(findings)} expectations are faulty themselves and say nothing "
            f"of the data: {_list_some(faulty)}. Mend the type, column or argument in {named}."
        )
    if sentences:
        raise TableError(" ".join(sentences))


def summarise(findings: Sequence[Finding], frames: Mapping[str, pd.DataFrame]) -> dict[str, object]:
    """Count expectations, failures and (by table) rows."""
    return {
        **_count(findings),
        "by_table": {
            name: {
                **_count([finding for finding in findings if finding.table == name]),
                "n_rows": len(frame),
            }
            for name, frame in frames.items()
        },
    }


def _count(findings: Sequence[Finding]) -> dict[str, int]:
    failed = sum(not finding.success for finding in findings)
    return {"n_expectations": len(findings), "n_failed": failed}


def _list_some(said: Sequence[str]) -> str:
    more = len(said) - MAX_NAMED
    return "; ".join(said[:MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _describe(finding: Finding) -> str:
    number = finding.n_unexpected
    unit = "row" if finding.column else "column"
    shown = ", ".join(finding.offenders)
    return f"{finding.place}: {number} {unit}{'s' if number != 1 else ''}, first {shown}"


def _is_entry(item: object) -> bool:
    return (
        isinstance(item, dict)
        and set(item) == {"type", "kwargs"}
        and isinstance(item["type"], str)
        and isinstance(item["kwargs"], dict)
    )


def _columns_of(item: Mapping[str, Any]) -> str:
    kwargs = item["kwargs"]
    names = [kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs]
    if "compound_columns" in item["type"]:
        names = kwargs.get("column_list", [])
    return ", ".join(map(str, names))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's log and warnings; what matters of them is in the findings."""
    library, nowhere = logging.getLogger("great_expectations"), logging.NullHandler()
    library.propagate = False
    library.addHandler(nowhere)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.removeHandler(nowhere)
        library.propagate = True


@functools.cache
def _batch_definition() -> Any:
    """Import Great Expectations and make the one context, in memory, that all frames pass."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read at import; some 1.x releases call home
    import great_expectations as gx

    # The import sends all warnings of the process to the log. They stay where they were.
    logging.captureWarnings(False)
    context = gx.get_context(mode="ephemeral")
    quiet: Any = {"globally": False, "metric_calculations": False}
    context.variables.progress_bars = quiet
    asset = context.data_sources.add_pandas("tables").add_dataframe_asset("frame")
    return asset.add_batch_definition_whole_dataframe("whole")


def _build(item: Mapping[str, Any], index: int) -> Any:
    _batch_definition()  # no import of the library before its telemetry is off
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    entry = ExpectationConfiguration(item["type"], dict(item["kwargs"]), {"index": index})
    return entry.to_domain_obj()


def _validate(
    frame: pd.DataFrame, table: str, expectations: list[Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the library's result of each expectation, with its place in the suite."""
    batch = _batch_definition().get_batch(batch_parameters={"dataframe": frame})
    import great_expectations as gx

    report = batch.validate(
        gx.ExpectationSuite(name=table, expectations=expectations),
        result_format={
            "result_format": "SUMMARY",
            "unexpected_index_column_names": [str(frame.columns[0])],
            "partial_unexpected_count": 4 * MAX_NAMED,  # a key that stands twice is listed twice
        },
    )
    for result in report.results:
        content: dict[str, Any] = result.to_json_dict()
        yield content["expectation_config"]["meta"]["index"], content


def _read_result(
    table: str, item: Mapping[str, Any], result: Mapping[str, Any], key: str
) -> Finding:
    raised = _exceptions_of(result["exception_info"])
    if raised:
        return _faulty(table, item, " ".join(raised))
    detail = result["result"]
    mismatched = detail.get("details", {}).get("mismatched", [])
    rows = detail.get("partial_unexpected_index_list") or []
    named = [str(row[key]) for row in rows] or [
        f"expected {place['Expected']}, found {place['Found']}" for place in mismatched
    ]
    return Finding(
        table,
        item["type"],
        _columns_of(item),
        success=bool(result["success"]),
        n_unexpected=int(detail.get("unexpected_count") or len(mismatched)),
        offenders=tuple(dict.fromkeys(named))[:MAX_NAMED],
    )


def _exceptions_of(info: Mapping[str, Any]) -> list[str]:
    """Return the messages of what was raised; the library gives one record, or one by metric."""
    records = [info] if "raised_exception" in info else info.values()
    raised = [str(record["exception_message"]) for record in records if record["raised_exception"]]
    return list(dict.fromkeys(raised))


def _faulty(table: str, item: Mapping[str, Any], fault: str) -> Finding:
    text = " ".join(fault.split()) or "no reason given"
    return Finding(table, item["type"], _columns_of(item), success=False, fault=text)
