"""The simulated hospitals: a cohort drawn from a seed, its planted faults, packed as one zip."""

import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import cv2
import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from stages.core import store
from stages.core.errors import HospitalError
from stages.core.parallel import map_ordered
from stages.core.settings import Group, seed_for
from stages.simulation.cells import CELL_TYPES, Bank, Plane, bank
from stages.simulation.pictures import Look, Style, draw, encode, encode_anew, resize

Count = Annotated[int, Field(ge=0, le=100_000)]
ODD_BY = 6  # px, as the re-exported pictures of one published collection
STRONGEST_TINT = 28  # grey levels that a full colour shortcut moves the background
THUMBNAILS = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504)  # what a file browser leaves behind
WRITTEN = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: the bytes never change
MASK_ENDING = "_mask.png"


class Defects(Group):
    """How many pictures carry which fault. The first group spoils pictures, the second adds some.

    `odd_size` pictures are larger than the camera's by 6 x 6 px, `oversized` ones are blown up to
    `SmearSpec.oversized_side`; `mislabelled` ones bear the label of another cell type.
    """

    truncated: Count = 0
    empty: Count = 0
    wrong_type: Count = 0  # text under a picture's name; the first brings a Thumbs.db along
    odd_size: Count = 0
    oversized: Count = 0
    blank: Count = 0
    mislabelled: Count = 0
    duplicate: Count = 0  # the same bytes under another name, same label
    conflicting: Count = 0  # the same bytes under another label
    twin: Count = 0  # one grey level brighter and encoded anew, same patient


SPOILING = ("truncated", "empty", "wrong_type", "odd_size", "oversized", "blank", "mislabelled")
ADDING = ("duplicate", "conflicting", "twin")
UNMASKED = ("empty", "wrong_type", "blank")
TOLD: tuple[str, ...] = ("path", "kind", "cell_type", "published_label", "patient", "slide")
TOLD += ("official_part", "defect", "copy_of")


class TwinsOf(Group):
    """Pictures of another simulated hospital that stand here too, encoded anew."""

    n: Count
    spec: "SmearSpec"  # the other hospital's own `simulated:` block; a YAML anchor repeats it


class SmearSpec(Group):
    """The `simulated:` block of data/hospitals.yaml: all that a simulated hospital is made of."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    n_images: Annotated[int, Field(ge=1, le=10_000_000)] = 300  # before copies are added
    style: Style = Style()
    n_patients: Annotated[int, Field(ge=1)] = 12
    slides_per_patient: Annotated[int, Field(ge=1)] = 2
    patient_effect: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3  # stain differs by this share / 2
    classes: dict[str, Annotated[float, Field(gt=0)]] = {}  # proportions; empty: all alike
    labels: dict[str, str] = {}  # what this hospital calls a type; default: our name
    folder: Annotated[str, Field(pattern=r"^[^/]+$")] = "smears"
    layout: Literal["class_folders", "patients"] = "class_folders"
    official_parts: bool = False  # a train and a test folder, patients apart
    masks: bool = False  # a mask beside each picture: 0 outside, 128 cytoplasm, 255 nucleus
    defects: Defects = Defects()
    oversized_side: Annotated[int, Field(ge=64, le=8000)] = 2920  # px, a whole field
    shared_patients: Count = 0  # patients that stand in both official parts
    colour_shortcut: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0  # background tells the class
    twins_of: dict[str, TwinsOf] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name in [*self.classes, *self.labels]:
            if name not in CELL_TYPES:
                raise ValueError(f"{name!r} is no cell type; known: {', '.join(CELL_TYPES)}")
        if sum(getattr(self.defects, name) for name in SPOILING) > self.n_images:
            raise ValueError("defects: more spoilt pictures than n_images; plant fewer")
        if self.shared_patients and not self.official_parts:
            raise ValueError("shared_patients needs official_parts: true")
        if self.shared_patients > self.n_patients:
            raise ValueError("shared_patients must not exceed n_patients")
        if self.n_kinds < 2 and (self.defects.mislabelled or self.defects.conflicting):
            raise ValueError("mislabelled and conflicting pictures need two published labels")
        return self

    @property
    def n_kinds(self) -> int:
        """The number of different published labels."""
        return len({self.label_of(cell_type) for cell_type in self.cell_types})

    @property
    def cell_types(self) -> list[str]:
        """The cell types that this hospital has, in the order of `CELL_TYPES`."""
        return [name for name in CELL_TYPES if not self.classes or name in self.classes]

    def label_of(self, cell_type: str) -> str:
        """Return the published label of a cell type."""
        return self.labels.get(cell_type, cell_type)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive, and how its bytes come about."""

    path: str
    kind: str  # picture, mask, other
    cell_type: str = ""
    published_label: str = ""
    patient: str = ""
    slide: str = ""
    official_part: str = ""
    defect: str = ""
    copy_of: str = ""
    index: int = -1  # names the drawing; copies share it
    origin: "Member | None" = None  # the picture of another hospital that this one repeats
    source: str = ""  # that hospital's spec, as JSON


def truth(spec: SmearSpec, hospital: str) -> pd.DataFrame:
    """List every member of the archive and what it is.

    Parameters
    ----------
    spec : SmearSpec
        The hospital.
    hospital : str
        Its name, which takes part in no random draw.

    Returns
    -------
    pandas.DataFrame, shape (n_members, 10)
        Sorted by `path`: path, kind (picture, mask, other), cell_type (what is drawn),
        published_label, patient, slide, official_part, defect (a name of `Defects`,
        ``twin_of_<hospital>`` or ''), copy_of (path of the picture it repeats; for twins across
        hospitals ``<hospital>/<path>``) and image_id. A picture whose conflicting copy stands
        elsewhere has no defect of its own; the copy names it.
    """
    rows = [
        {
            **{name: getattr(member, name) for name in TOLD},
            "image_id": f"{hospital}/{member.path}",
        }
        for member in _members(spec)
    ]
    return pd.DataFrame(rows)


def publish(spec: SmearSpec, hospital: str, target: Path) -> None:
    """Write the hospital's archive: a stored zip, members by path, the same bytes for one seed.

    Parameters
    ----------
    spec : SmearSpec
        The hospital.
    hospital : str
        Its name; it is written into the archive's comment only.
    target : pathlib.Path
        The zip, replaced atomically.

    Raises
    ------
    HospitalError
        A hospital named under ``twins_of`` has fewer sound pictures of our classes than asked.
    """
    text = spec.model_dump_json()
    for one in [spec, *(rule.spec for rule in spec.twins_of.values())]:
        _textures(one)  # made before the processes fork, so that they share them
    with store.replace(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.comment = f"simulated hospital {hospital}: not real cells".encode()
        jobs = ((text, member) for member in _members(spec) if member.kind != "mask")
        for made in map_ordered(_make, jobs):
            for path, content in made:
                archive.writestr(zipfile.ZipInfo(path, WRITTEN), content)


def _members(spec: SmearSpec) -> list[Member]:
    pictures = _cohort(spec)
    pictures += _copies(spec, pictures)
    pictures += _foreign(spec, len(pictures))
    thumbs = Member(f"{spec.folder}/Thumbs.db", "other", defect="wrong_type")
    others = [thumbs] if spec.defects.wrong_type else []
    masks = [
        replace(member, path=member.path.removesuffix(".jpg") + MASK_ENDING, kind="mask", defect="")
        for member in pictures
        if spec.masks and member.defect not in UNMASKED
    ]
    return sorted([*pictures, *masks, *others], key=lambda member: member.path)


def _rng(spec: SmearSpec, *names: str) -> np.random.Generator:
    return np.random.default_rng(seed_for(spec.seed, "smears", *names))


def _shares(spec: SmearSpec) -> list[str]:
    """Return the cell type of each picture: exact proportions, in random order."""
    weights = [spec.classes.get(name, 1.0) for name in spec.cell_types]
    edges = np.rint(np.cumsum([0.0, *weights]) / sum(weights) * spec.n_images).astype(int)
    drawn = [
        name
        for name, (low, high) in zip(spec.cell_types, pairwise(edges.tolist()), strict=True)
        for _ in range(high - low)
    ]
    order = _rng(spec, "order").permutation(len(drawn))
    return [drawn[position] for position in order]


def _cohort(spec: SmearSpec) -> list[Member]:
    """Return the pictures that the hospital took itself, the spoilt ones among them."""
    kinds = [name for name in SPOILING for _ in range(getattr(spec.defects, name))]
    spoilt = dict(
        zip(_rng(spec, "spoilt").permutation(spec.n_images).tolist(), kinds, strict=False)
    )
    rng = _rng(spec, "cohort")
    patients = rng.permutation(np.arange(spec.n_images) % spec.n_patients).tolist()
    slides = rng.integers(0, spec.slides_per_patient, spec.n_images).tolist()
    seen: Counter[int] = Counter()
    members = []
    for index, cell_type in enumerate(_shares(spec)):
        defect, label = spoilt.get(index, ""), spec.label_of(cell_type)
        if defect == "mislabelled":
            label = _other_label(spec, label, index)
        member = Member(
            "",
            "picture",
            cell_type,
            label,
            f"P{patients[index] + 1:03d}",
            f"S{slides[index] + 1}",
            _part(spec, patients[index], seen[patients[index]]),
            defect,
            index=index,
        )
        seen[patients[index]] += 1
        members.append(replace(member, path=_path(spec, member, index)))
    return members


def _part(spec: SmearSpec, patient: int, n_before: int) -> str:
    if not spec.official_parts:
        return ""
    if patient < spec.shared_patients:
        return ("train", "test")[n_before % 2]
    return "test" if patient % 4 == 1 else "train"


def _other_label(spec: SmearSpec, label: str, index: int) -> str:
    others = sorted({spec.label_of(name) for name in spec.cell_types} - {label})
    return others[index % len(others)]


def _path(spec: SmearSpec, member: Member, number: int) -> str:
    top = f"{spec.folder}/{member.official_part}" if member.official_part else spec.folder
    if spec.layout == "class_folders":
        return f"{top}/{member.published_label}/{member.patient}_{member.slide}_{number:06d}.jpg"
    return f"{top}/{member.patient}/{member.slide}/{member.published_label}_{number:06d}.jpg"


def _copies(spec: SmearSpec, pictures: list[Member]) -> list[Member]:
    """Return copies of sound pictures; their numbers, and so their names, come after the first."""
    sound = [member for member in pictures if not member.defect]
    kinds = [name for name in ADDING for _ in range(getattr(spec.defects, name))]
    if len(kinds) > len(sound):
        raise HospitalError(
            f"the simulated hospital has {len(sound)} sound pictures and cannot copy {len(kinds)} "
            "of them. Raise n_images, or plant fewer defects."
        )
    order = _rng(spec, "copies").permutation(len(sound))
    copies = []
    for number, (kind, position) in enumerate(zip(kinds, order, strict=False), len(pictures)):
        first = sound[position]
        label = (
            _other_label(spec, first.published_label, number)
            if kind == "conflicting"
            else first.published_label
        )
        copy = replace(first, published_label=label, defect=kind, copy_of=first.path)
        copies.append(replace(copy, path=_path(spec, copy, number)))
    return copies


def _foreign(spec: SmearSpec, number: int) -> list[Member]:
    """Return the pictures that came from other hospitals, each given to a patient of ours."""
    members = []
    for hospital, rule in sorted(spec.twins_of.items()):
        known = [
            member
            for member in _cohort(rule.spec)
            if not member.defect and member.cell_type in spec.cell_types
        ]
        if len(known) < rule.n:
            raise HospitalError(
                f"twins_of.{hospital}: asks for {rule.n} pictures, but only {len(known)} there are "
                "sound and of a class that stands here too. Lower n."
            )
        rng = _rng(spec, "twins_of", hospital)
        for position in rng.permutation(len(known))[: rule.n]:
            patient = int(rng.integers(0, spec.n_patients))
            member = replace(
                known[position],
                published_label=spec.label_of(known[position].cell_type),
                patient=f"P{patient + 1:03d}",
                slide="S1",
                official_part=_part(spec, patient, 0),
                defect=f"twin_of_{hospital}",
                copy_of=f"{hospital}/{known[position].path}",
                origin=known[position],
                source=rule.spec.model_dump_json(),
            )
            members.append(replace(member, path=_path(spec, member, number)))
            number += 1
    return members


def _textures(spec: SmearSpec) -> Bank:
    return bank(spec.seed, spec.style.px_per_um, spec.style.camera.noise)


@lru_cache(maxsize=8)
def _read_spec(text: str) -> SmearSpec:
    return SmearSpec.model_validate_json(text)


def _look(spec: SmearSpec, member: Member) -> Look:
    """Return what a patient's stain and a slide's thickness do to a picture."""
    entropy = [spec.seed, 1, int(member.patient[1:]), int(member.slide[1:])]
    patient, slide = np.random.default_rng(entropy[:3]), np.random.default_rng(entropy)
    half = spec.patient_effect / 2
    dose = 1 + patient.uniform(-half, half, 7) + slide.uniform(-half, half, 7) / 4
    tint = patient.uniform(-16, 16, 3) * half
    turn = CELL_TYPES.index(member.cell_type)
    hue = np.array([turn % 3 - 1, turn // 3 % 3 - 1, turn // 9 - 1])
    tint = tint + hue * STRONGEST_TINT * spec.colour_shortcut
    return Look(
        tuple(dose.tolist()),
        tuple(tint.tolist()),
        float(slide.uniform(0.1, 0.95)),
        float(slide.uniform(0.35, 0.9)),
    )


def _make(job: tuple[str, Member]) -> list[tuple[str, bytes]]:
    """Return the files of one picture: the picture, and its mask where the hospital has masks."""
    spec, member = _read_spec(job[0]), job[1]
    quality = spec.style.camera.jpeg_quality
    if member.kind == "other":
        return [(member.path, THUMBNAILS)]
    if member.defect == "empty":
        return [(member.path, b"")]
    if member.defect == "wrong_type":
        return [(member.path, f"picture {member.index} was moved\n".encode())]
    style = spec.style
    if member.defect == "blank":
        colour = np.array(style.stain.background, np.uint8)
        flat = np.broadcast_to(colour, (style.height, style.width, 3))
        return [(member.path, encode(np.ascontiguousarray(flat), quality))]
    if member.defect == "odd_size":
        sides = {"width": style.width + ODD_BY, "height": style.height + ODD_BY}
        style = style.model_copy(update=sides)
    rgb, mask = _picture(spec, member, style)
    content = encode(rgb, quality)
    if member.defect == "truncated":
        content = content[: len(content) * 3 // 5]
    files = [(member.path, content)]
    if spec.masks:
        png = bytes(cv2.imencode(".png", mask)[1])
        files.append((member.path.removesuffix(".jpg") + MASK_ENDING, png))
    return files


def _picture(spec: SmearSpec, member: Member, style: Style) -> tuple[Plane, Plane]:
    """Draw a member's picture and mask, and do to them what its defect asks."""
    if member.origin is not None:
        theirs = _read_spec(member.source)
        rgb, mask = _picture(theirs, member.origin, theirs.style)
        rgb = encode_anew(rgb, theirs.style.camera.jpeg_quality)
        return resize(rgb, style.width, style.height), resize(mask, style.width, style.height)
    entropy = [spec.seed, 2, member.index]
    drawing = draw(style, member.cell_type, entropy, _look(spec, member), _textures(spec))
    rgb, mask = drawing.rgb, drawing.mask
    if member.defect == "oversized":
        side = spec.oversized_side
        return resize(rgb, side, side), resize(mask, side, side)
    if member.defect == "twin":
        anew = encode_anew(rgb, style.camera.jpeg_quality)
        rgb = cv2.add(anew, np.ones_like(anew))
    return rgb, mask
