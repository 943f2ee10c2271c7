"""What a report is made of: sections of sentences, tables, charts, pictures and text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

Cell = str | Markup  # what is no Markup is escaped


@dataclass(frozen=True)
class Sentence:
    """A paragraph.

    Attributes
    ----------
    text : str
    is_warning : bool
        Whether it stands in a frame with the word "Caution".
    """

    kind: ClassVar[str] = "sentence"
    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    Attributes
    ----------
    title : str
        Written above it.
    headings : sequence of str
    rows : sequence of sequence of str or markupsafe.Markup
        As many cells as headings; the first one names the row.
    columns : str
        A letter for each column: l for text, r for numbers, b for bars.
    """

    kind: ClassVar[str] = "table"
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    columns: str


@dataclass(frozen=True)
class Charts:
    """Charts side by side, each with its caption."""

    kind: ClassVar[str] = "charts"
    title: str
    charts: Sequence[tuple[str, Markup]]


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes
    ----------
    src : str
        Of `drawing.embed`.
    alt : str
        What it shows, for who cannot see it.
    captions : sequence of str
        Lines below it.
    """

    src: str
    alt: str
    captions: Sequence[str] = ()


@dataclass(frozen=True)
class Pictures:
    """Small pictures side by side, or wide sheets; without a title where one stands above."""

    kind: ClassVar[str] = "pictures"
    title: str
    pictures: Sequence[Picture]
    is_sheet: bool = False


@dataclass(frozen=True)
class Listing:
    """Text as it is written in a file."""

    kind: ClassVar[str] = "listing"
    title: str
    text: str


Block = Sentence | Table | Charts | Pictures | Listing


@dataclass(frozen=True)
class Folded:
    """Blocks that are opened on demand, and always open on paper."""

    kind: ClassVar[str] = "folded"
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Told:
    """What a section tells.

    Attributes
    ----------
    lead : str
        What was found in a sentence or two, and what to worry about.
    blocks : sequence of Block or Folded
    """

    lead: str
    blocks: Sequence[Block | Folded] = ()


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes
    ----------
    name : str
        In addresses: the part after ``#``.
    title : str
    told : Told
    """

    name: str
    title: str
    told: Told
