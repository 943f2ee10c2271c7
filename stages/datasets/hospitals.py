"""data/hospitals.yaml: where a hospital's archives come from, and the rules of its paths."""

import re
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from stages.core.errors import HospitalError, did_you_mean
from stages.core.settings import NAME, Group, explain, read_yaml, refuse_name
from stages.core.texts import clean

HOSPITALS_FILE = Path("data/hospitals.yaml")
CLASS_FOLDERS = r"(?:[^/]+/)*(?P<label>[^/]+)/[^/]+"  # of any ending: the content decides
FACTS_IN_PATHS = (
    "label", "patient", "slide", "field", "diagnosis", "official_part", "expert_1", "expert_2",
)  # fmt: skip
Text = Annotated[str, AfterValidator(clean)]  # compared with what paths and tables say
SIZE = r"^\d+(-\d+)?x\d+(-\d+)?$"  # width x height in px, each a number or a range


class Archive(Group):
    """One file that a hospital publishes.

    ``by_hand`` tells a person how to get it where no address gives it, beside the block's page.
    """

    name: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    urls: list[str] = []
    by_hand: str | None = None
    bytes: int | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class FactTable(Group):
    """A CSV table among the published files that tells more of each picture.

    ``key`` is the table's column that equals the group ``match`` of the picture's pattern;
    ``columns`` gives, for each of our facts, the table's column.
    """

    member: str
    key: Text
    match: str
    columns: dict[str, Text]


class Layout(Group):
    """How paths are read. Patterns match the end of a path, from the start of a folder on.

    ``image`` may name groups of `FACTS_IN_PATHS`, and others that tables are joined by; ``mask``
    names one group, ``of``. ``constants`` hold for every picture that says nothing else.
    ``sizes`` are those that the hospital's camera gives, ``width x height`` in px.
    ``official_parts`` tells which of our parts each of the publisher's parts or cohorts is;
    images of a part that it does not name are left out where the split follows the publisher.
    """

    image: str = CLASS_FOLDERS
    mask: str | None = None
    tables: list[FactTable] = []
    constants: dict[str, Text] = {}
    sizes: list[Annotated[str, Field(pattern=SIZE)]] = []
    official_parts: dict[Text, Literal["train", "valid", "test"]] = {}

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        groups = _groups("image", self.image)
        if self.mask is not None and "of" not in _groups("mask", self.mask):
            raise ValueError("mask needs a group (?P<of>...): the picture's path without ending")
        for rule in self.tables:
            _require_used("tables, member", rule.member, [])
            if rule.match not in groups:
                hint = did_you_mean(rule.match, groups)
                raise ValueError(f"tables, match: {rule.match!r} is no group of image.{hint}")
        joining = [rule.match for rule in self.tables]
        _require_used("image", self.image, [*FACTS_IN_PATHS, *joining])
        _require_used("mask", self.mask or "", ["of"])
        for name in [*self.constants, *(fact for rule in self.tables for fact in rule.columns)]:
            if name not in FACTS_IN_PATHS:
                hint = did_you_mean(name, FACTS_IN_PATHS)
                raise ValueError(
                    f"{name!r} is no fact of a picture.{hint} Known: {', '.join(FACTS_IN_PATHS)}"
                )
        return self


class Hospital(Group):
    """One block of data/hospitals.yaml.

    ``same_as`` names another block of the same place: a copy, a part or more pictures of it.
    """

    title: str
    licence: str
    citation: str
    page: str | None = None
    stain: str | None = None
    camera: str | None = None
    um_per_px: Annotated[float, Field(gt=0)] | None = None
    same_as: str | None = None
    archives: list[Archive] = []
    folder: str | None = None
    simulated: dict[str, Any] | None = None
    layout: Layout = Field(default_factory=Layout)

    @model_validator(mode="after")
    def _has_one_kind_of_source(self) -> Self:
        kinds = [bool(self.archives), self.folder is not None, self.simulated is not None]
        if sum(kinds) != 1:
            raise ValueError("needs exactly one of archives:, folder: or simulated:")
        return self


def load(name: str) -> Hospital:
    """Read the block of one hospital.

    Raises
    ------
    HospitalError
        The name is none, or there is no such block (the message names the nearest), or it is
        wrong, or what it is the same as is no block, or is itself the same as another.
    """
    if not re.fullmatch(NAME, name):
        raise HospitalError(f"{HOSPITALS_FILE}: {refuse_name(name)}")
    blocks = read_yaml(HOSPITALS_FILE)
    if name not in blocks:
        hint = did_you_mean(name, blocks)
        raise HospitalError(
            f"{HOSPITALS_FILE} has no block {name!r}.{hint} Correct hospitals: in params.yaml, "
            f"or add the block (README, 'Add your hospital'). Known: {', '.join(blocks)}."
        )
    try:
        block = Hospital.model_validate(blocks[name])
    except ValidationError as error:
        raise HospitalError(f"{HOSPITALS_FILE}, {name}: {explain(error, Hospital)}") from None
    if block.same_as is not None:
        _require_original(name, block.same_as, blocks)
    return block


def _require_original(name: str, original: str, blocks: Mapping[str, Any]) -> None:
    """Raise a HospitalError where a copy names no block, itself, or another copy."""
    where = f"{HOSPITALS_FILE}, {name}, same_as:"
    if original not in blocks:
        hint = did_you_mean(original, blocks)
        raise HospitalError(
            f"{where} there is no block {original!r}.{hint} Name the block of the same hospital."
        )
    if original == name:
        raise HospitalError(f"{where} it names itself. Name another block, or leave the key out.")
    further = blocks[original].get("same_as") if isinstance(blocks[original], dict) else None
    if further is not None:
        raise HospitalError(
            f"{where} {original!r} is itself the same as {further!r}. Name {further!r} here too."
        )


def compile_ending(pattern: str) -> re.Pattern[str]:
    """Compile a pattern so that it matches the end of a path, from the start of a folder.

    It matches composed Unicode (NFC), which editors write; a path must be composed first.
    """
    return re.compile(rf"(?:^|/)(?P<whole>{unicodedata.normalize('NFC', pattern)})\Z")


def _groups(key: str, pattern: str) -> set[str]:
    try:
        return set(compile_ending(pattern).groupindex) - {"whole"}
    except re.error as error:
        raise ValueError(f"{key}: {pattern!r} is no regular expression: {error}") from None


def _require_used(key: str, pattern: str, used: Collection[str]) -> None:
    """Refuse a group that nothing uses: it is misspelt, and a fact would be lost in silence."""
    for name in sorted(_groups(key, pattern) - set(used)):
        if f"(?P={name})" not in pattern and f"(?({name})" not in pattern:
            raise ValueError(
                f"{key}: nothing uses the group {name!r}.{did_you_mean(name, used)} "
                f"Known: {', '.join(used) or 'none'}"
            )
