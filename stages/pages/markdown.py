"""Pages of Markdown: every text that is filled in stays text, whoever wrote it."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages.core.texts import clean
from stages.pages import wording

ANYWHERE = re.compile(r"([\\`*\[\]|$~])")
UNDERSCORE = re.compile(r"(?<!\w)_|_(?!\w)")  # inside of a word it marks nothing
AT_START = re.compile(r"^(?:([#+=>-])|(\d+)(?=[.)](?:\s|$)))")
FILTERS = {
    "number": wording.say_number, "percent": wording.say_percent, "score": wording.say_score,
    "size": wording.say_tested, "worst": wording.say_worst, "flagged": wording.say_flagged,
}  # fmt: skip
ENTITY = re.compile(r"&(?=#?\w+;)")


def escape(text: str) -> str:
    r"""Return a text on one line that Markdown shows as it is.

    Parameters
    ----------
    text : str
        Of a person's file, maybe with pipes, line ends or tags.

    Examples
    --------
    >>> escape("a|b <i>\n* 5 %")
    'a\\|b &lt;i> \\* 5 %'
    """
    shown = "".join(letter for letter in clean(text) if letter.isprintable())
    shown = ENTITY.sub("&amp;", ANYWHERE.sub(r"\\\1", shown)).replace("<", "&lt;")
    shown = UNDERSCORE.sub(r"\\_", shown)
    return AT_START.sub(lambda mark: f"\\{mark[1]}" if mark[1] else f"{mark[2]}\\", shown)


def render(template: str, **content: object) -> str:
    """Fill in a Markdown template of this package; a name that it lacks is an error, not a gap.

    A text is escaped; a list becomes the row of a table. Scores and sizes are told by filters, the
    functions of `wording`.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # of HTML; `finalize` escapes what is filled in
        finalize=_show,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(template).render(**content)


def _show(value: object) -> str:
    if isinstance(value, list):
        return f"| {' | '.join(escape(str(cell)) for cell in value)} |"
    return escape(str(value))
