"""Which pictures are kept: a judgement for each member, then copies and conflicting labels."""

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from stages.core.errors import HospitalError, TableError, name_some
from stages.core.formats import PICTURE_ENDINGS, READ, Format
from stages.core.tables import REASONS
from stages.datasets.contents import Contents, LeftOut
from stages.datasets.hospitals import CLASS_FOLDERS, HOSPITALS_FILE, Layout
from stages.datasets.leftovers import is_leftover
from stages.datasets.path_facts import Facts, PathReader, is_table_member

NO_LOSS = ("hidden", "no_file", "outside_layout", "duplicate")  # nobody's, or read elsewhere
MAX_EXAMPLES = 3  # of one reason, in a line for a person
Recognise = Callable[[str], Format | None]

DECIDED = {  # of kept pictures, said because another choice was possible
    "n_fewer_bits": "of fewer bits than the file has room for, read in that range",
    "n_other_pages": "chosen among pages that are thumbnails or masks",
}


@dataclass(frozen=True)
class Candidate:
    """A member whose path is one of a picture.

    Attributes
    ----------
    image_id : str
        ``<hospital>/<image_path>``.
    path : str
        Member of the archive.
    facts : Facts
        What the path says.
    mask_path : str, optional
        Member that holds its cell mask.
    """

    image_id: str
    path: str
    facts: Facts
    mask_path: str | None


@dataclass(frozen=True)
class Rejected:
    """A member that is not used as a picture; the columns of the table ``rejected``."""

    image_id: str
    path: str
    published_label: str | None
    reason: str
    detail: str
    patient: str | None = None
    slide: str | None = None
    pixel_sha256: str | None = None


@dataclass(frozen=True)
class Sorted:
    """The members of one hospital, each in one of three heaps."""

    candidates: list[Candidate] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    auxiliary: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """What decoding one candidate showed."""

    sha256: str
    pixel_sha256: str
    width: int
    height: int
    format: str
    mode: str
    phash: bytes
    notes: tuple[str, ...] = ()  # of `decoding.Picture`


@dataclass(frozen=True)
class Unusable:
    """Why decoding one candidate gave no picture."""

    reason: str
    detail: str


Finding = Seen | Unusable


@dataclass(frozen=True)
class Marked:
    """A kept picture with its twins and warnings."""

    candidate: Candidate
    seen: Seen
    twin_group: str
    warnings: list[str]


def sort_members(
    hospital: str,
    paths: Sequence[str],
    layout: Layout,
    reader: PathReader,
    recognise: Recognise,
) -> Sorted:
    """Tell pictures, masks and tables, and everything else apart.

    Parameters
    ----------
    hospital : str
    paths : sequence of str
        Members of the archives, sorted.
    layout : Layout
    reader : PathReader
        Of the same layout.
    recognise : callable
        Path of a member to the format of its content. Asked only where the path does not tell:
        it is none of the layout's, or has another ending than a picture.

    Returns
    -------
    Sorted
        Every path is in exactly one heap.
    """
    masks = {of: path for path in reversed(paths) if (of := reader.mask_of(path)) is not None}
    heaps = Sorted()
    taken: dict[str, str] = {}
    outside: list[str] = []
    for path in paths:
        if is_leftover(path):
            heaps.rejected.append(_no_image(hospital, path, "hidden", "left by a system: not read"))
        elif reader.mask_of(path) is not None or is_table_member(layout, path):
            heaps.auxiliary.append(path)
        elif (facts := reader.read(path)) is None:
            outside.append(path)
        elif (reason := _doubt_ending(path, recognise)) is not None:
            label = None if reason[0] == "not_an_image" else facts.label
            heaps.rejected.append(Rejected(f"{hospital}/{path}", path, label, *reason))
        elif (image_id := f"{hospital}/{facts.image_path}") in taken:
            detail = (
                f"{taken[image_id]} has the same name by layout.image; let the pattern begin a "
                "folder earlier to tell them apart"
            )
            heaps.rejected.append(
                Rejected(f"{hospital}/{path}", path, facts.label, "same_name", detail)
            )
        else:
            taken[image_id] = path
            stem = facts.image_path.rpartition(".")[0]
            heaps.candidates.append(Candidate(image_id, path, facts, masks.get(stem)))
    stems = {path.rpartition(".")[0] for path in taken.values()}
    for path in outside:
        has_companion = path.rpartition(".")[0] in stems  # a mask, say, of a picture that is read
        by_ending = not has_companion and reader.differs_by_ending(path)
        reason = _say_outside(recognise(path), by_ending, layout.image == CLASS_FOLDERS)
        heaps.rejected.append(_no_image(hospital, path, *reason))
    return heaps


def explain(reason: str, detail: str, found: Format | None) -> tuple[str, str]:
    """Return why a file that the decoder calls no picture is none, by its content.

    Parameters
    ----------
    reason, detail : str
        The decoder's; kept where it knows the format.
    found : Format or None
    """
    return (reason, detail) if reason != "not_an_image" else _say_content(found)


def leave_out(hospital: str, entries: Iterable[LeftOut]) -> list[Rejected]:
    """Return what download left out of a folder, as rejected files."""
    return [_no_image(hospital, one.path, one.reason, one.detail) for one in entries]


def judge(
    heaps: Sorted, findings: Iterable[Finding]
) -> tuple[list[tuple[Candidate, Seen]], list[Rejected]]:
    """Decide for every candidate whether it is kept.

    Parameters
    ----------
    heaps : Sorted
    findings : iterable of Seen or Unusable
        One for each of ``heaps.candidates``, in their order.

    Returns
    -------
    kept : list of (Candidate, Seen)
        Sorted by image_id.
    rejected : list of Rejected
        Everything else but the auxiliary members, sorted by image_id, each under one of its own.
    """
    usable, rejected = [], list(heaps.rejected)
    for candidate, finding in zip(heaps.candidates, findings, strict=True):
        if isinstance(finding, Seen):
            usable.append((candidate, finding))
        else:
            rejected.append(_reject(candidate, finding.reason, finding.detail))
    copies = find_copies(usable)
    rejected += copies
    out = {one.image_id for one in copies}
    kept = [pair for pair in usable if pair[0].image_id not in out]
    kept.sort(key=lambda pair: pair[0].image_id)
    return kept, _name_once(rejected, [candidate.image_id for candidate, _ in kept])


def find_copies(pictures: Iterable[tuple[Candidate, Seen]]) -> list[Rejected]:
    """Reject pictures that have the pixels of another one.

    Parameters
    ----------
    pictures : iterable of (Candidate, Seen)

    Returns
    -------
    list of Rejected
        Of pictures with the same pixels and label, all but the first image_id are a
        ``duplicate``; a copy with a label goes before one without. Where two published labels
        name the same pixels, none can be trusted: all are ``conflicting_labels``, also the
        unlabelled copies.
    """
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate, seen in pictures:
        groups[seen.pixel_sha256].append(candidate)
    rejected = []
    for pixels, group in groups.items():
        ordered = sorted(group, key=lambda one: (one.facts.label is None, one.image_id))
        labels = sorted({one.facts.label for one in group if one.facts.label is not None})
        if len(labels) > 1:
            detail = f"the same pixels are published as {', '.join(labels)}"
            rejected += [_reject(one, "conflicting_labels", detail, pixels) for one in ordered]
        else:
            detail = f"the same pixels as {ordered[0].image_id}"
            rejected += [_reject(one, "duplicate", detail, pixels) for one in ordered[1:]]
    return rejected


def mark(
    kept: Sequence[tuple[Candidate, Seen]],
    reader: PathReader,
    group_twins: Callable[[list[str], list[bytes]], list[str]],
) -> list[Marked]:
    """Give each kept picture its twin group and its warnings; nothing is dropped.

    Parameters
    ----------
    kept : sequence of (Candidate, Seen)
    reader : PathReader
        Knows the sizes that the hospital's camera gives.
    group_twins : callable
        Image ids and hashes to cluster names, as ``near_duplicates.group_twins``.

    Returns
    -------
    list of Marked
        In the order of `kept`.
    """
    image_ids = [candidate.image_id for candidate, _ in kept]
    clusters = group_twins(image_ids, [seen.phash for _, seen in kept])
    sizes = Counter(clusters)
    marked = []
    for (candidate, seen), cluster in zip(kept, clusters, strict=True):
        is_odd = reader.is_odd_size(seen.width, seen.height)
        warnings = ["near_twin"] * (sizes[cluster] > 1) + ["odd_size"] * is_odd
        marked.append(Marked(candidate, seen, cluster, warnings + list(seen.notes)))
    return marked


def to_row(hospital: str, one: Marked, published: Contents) -> dict[str, object]:
    """Return a row of the table ``images``, without the publisher's bytes."""
    facts = one.candidate.facts
    return {
        "image_id": one.candidate.image_id,
        "hospital": hospital,
        "path": one.candidate.path,
        "published_label": facts.label,
        "patient": facts.patient,
        "slide": facts.slide,
        "field": facts.field,
        "diagnosis": facts.diagnosis,
        "official_part": facts.official_part,
        "official_side": published.layout.official_parts.get(facts.official_part or ""),
        "simulated": published.simulated,
        "place": published.same_as or hospital,
        "expert_1": facts.expert_1,
        "expert_2": facts.expert_2,
        **{name: value for name, value in vars(one.seen).items() if name != "notes"},
        "twin_group": one.twin_group,
        "warnings": one.warnings,
    }


def hash_pixels(rgb: np.ndarray) -> str:
    """Return a checksum of pixels that differs also where only the shape does.

    Parameters
    ----------
    rgb : numpy.ndarray, shape (height, width, 3), uint8
    """
    height, width = rgb.shape[:2]
    checksum = hashlib.sha256(f"{height}x{width}:".encode())
    checksum.update(np.ascontiguousarray(rgb).data)
    return checksum.hexdigest()


def count(
    n_members: int, kept: Sequence[Marked], rejected: Sequence[Rejected], n_auxiliary: int
) -> dict[str, object]:
    """Count what became of the members, and make sure that none was lost.

    Raises
    ------
    TableError
        Members in are not kept + rejected + auxiliary: a defect of ours.
    """
    if n_members != len(kept) + len(rejected) + n_auxiliary:
        raise TableError(
            f"filter lost a picture: {n_members} members are not {len(kept)} kept + "
            f"{len(rejected)} rejected + {n_auxiliary} auxiliary. Report this."
        )
    reasons = Counter(one.reason for one in rejected)
    warnings = Counter(warning for one in kept for warning in one.warnings)
    return {
        "n_members": n_members,
        "n_kept": len(kept),
        "n_rejected": len(rejected),
        "n_lost": sum(map(is_lost, rejected)),
        "n_auxiliary": n_auxiliary,
        "n_masks": sum(one.candidate.mask_path is not None for one in kept),
        "n_near_twins": warnings["near_twin"],
        "n_odd_size": warnings["odd_size"],
        "n_fewer_bits": warnings["fewer_bits"],
        "n_other_pages": warnings["other_pages"],
        "n_by_reason": {reason: reasons[reason] for reason in REASONS},
        "n_by_format": dict(Counter(one.seen.format for one in kept)),
    }


def summarise(metrics: Mapping[str, Any]) -> str:
    """Say the counts in one line, for the log."""
    reasons = ", ".join(f"{name} {n}" for name, n in metrics["n_by_reason"].items() if n)
    text = f"{metrics['n_members']} files -> {metrics['n_kept']} images"
    auxiliary = f", {metrics['n_auxiliary']} masks and tables" if metrics["n_auxiliary"] else ""
    decided = "".join(
        f"; {metrics[name]} {what}" for name, what in DECIDED.items() if metrics[name]
    )
    return (
        f"{text} ({metrics['n_rejected']} rejected{': ' + reasons if reasons else ''}{auxiliary})"
        f"{decided}"
    )


def require_kept(hospital: str, n_kept: int, rejected: Sequence[Rejected]) -> None:
    """Stop where no picture is left.

    Raises
    ------
    HospitalError
        With the reasons, examples, and the way out.
    """
    if n_kept:
        return
    reasons = Counter(one.reason for one in rejected)
    counts = ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items()))
    examples = name_some([f"{one.path} ({one.detail})" for one in rejected])
    raise HospitalError(
        f"{hospital}: none of its {len(rejected)} files is a usable picture. {counts}: "
        f"{examples}. Correct layout.image of {hospital} in {HOSPITALS_FILE}, or min_side and "
        "max_side of filter in params.yaml, or give the pictures themselves."
    )


def share_lost(n_kept: int, rejected: Sequence[Rejected]) -> float:
    """Return the share of a hospital's pictures that is lost: in 0..1, 0 where there is none.

    Copies of a kept picture are no loss, nor are files that nobody calls a picture. A file under a
    picture's name that holds something else is one: a text in place of each picture is what an
    unfinished transfer leaves.
    """
    n_lost = sum(map(is_lost, rejected))
    return n_lost / (n_kept + n_lost) if n_lost else 0.0


def is_lost(one: Rejected) -> bool:
    """Tell whether a rejected file was to be a picture; see `share_lost`."""
    if one.reason == "not_an_image":
        return one.path.lower().endswith(PICTURE_ENDINGS)
    return one.reason not in NO_LOSS


def require_few_lost(
    hospital: str, n_kept: int, rejected: Sequence[Rejected], max_lost: float
) -> None:
    """Stop where more of the hospital's pictures are lost than the params allow.

    Raises
    ------
    HospitalError
        With the counts by reason, an example of each, and the way out.
    """
    if share_lost(n_kept, rejected) <= max_lost:
        return
    lost = sorted(filter(is_lost, rejected), key=lambda one: REASONS.index(one.reason))
    shown = []
    for reason, group in groupby(lost, key=lambda one: one.reason):
        alike = list(group)
        first = {one.detail: one.path for one in reversed(alike)}  # one of each kind
        examples = [f"{path}: {detail}" for detail, path in reversed(first.items())]
        shown.append(f"{reason} {len(alike)} ({'; '.join(examples[:MAX_EXAMPLES])})")
    raise HospitalError(
        f"{hospital}: {len(lost)} of {n_kept + len(lost)} pictures are lost, more than "
        f"filter.max_lost = {max_lost:g} allows: {', '.join(shown)}. Nothing was written. {READ}. "
        f"Mend, convert or remove these, say by layout.image in {HOSPITALS_FILE} which files are "
        "pictures, or allow the loss by a larger filter.max_lost in params.yaml."
    )


def require_parts(hospital: str, layout: Layout, kept: Sequence[Candidate]) -> None:
    """Stop where the layout names the publisher's parts, and no picture is of one of them.

    Raises
    ------
    HospitalError
        With the parts that the pictures name.
    """
    found = {one.facts.official_part for one in kept}
    if layout.official_parts and not found & set(layout.official_parts):
        told = ", ".join(sorted(filter(None, found))) or "no part"
        raise HospitalError(
            f"{hospital}: layout.official_parts in {HOSPITALS_FILE} names "
            f"{', '.join(layout.official_parts)}; its pictures name {told}. Correct "
            "official_parts, or the group official_part of layout.image."
        )


def _doubt_ending(path: str, recognise: Recognise) -> tuple[str, str] | None:
    """Return why a file without the ending of a picture is not read; None where it is one."""
    if path.lower().endswith(PICTURE_ENDINGS):
        return None  # what it holds is seen when it is decoded
    found = recognise(path)
    return None if found is not None and found.kind == "picture" else _say_content(found)


def _say_content(found: Format | None) -> tuple[str, str]:
    if found is None:
        return "unknown_format", "of no format that is known"
    if found.kind == "foreign":
        return "foreign_format", f"{found.name}, which is not read"
    return "not_an_image", found.name


def _say_outside(found: Format | None, by_ending: bool, in_folders: bool) -> tuple[str, str]:
    """Return reason and detail of a member whose path is none of a picture."""
    if found is None:
        return "not_an_image", "of no known format, and not where pictures lie"
    if found.kind not in ("picture", "foreign"):
        return _say_content(found)
    if in_folders:
        return "no_class_folder", f"{found.name}, which lies in no folder that could be its label"
    if by_ending:
        return "other_ending", f"{found.name}; by layout.image it is none for its ending alone"
    return "outside_layout", f"{found.name}, whose path is none of a picture by layout.image"


def _no_image(hospital: str, path: str, reason: str, detail: str) -> Rejected:
    return Rejected(f"{hospital}/{path}", path, None, reason, detail)


def _reject(candidate: Candidate, reason: str, detail: str, pixels: str | None = None) -> Rejected:
    facts = candidate.facts
    return Rejected(
        candidate.image_id,
        candidate.path,
        facts.label,
        reason,
        detail,
        facts.patient,
        facts.slide,
        pixels,
    )


def _name_once(rejected: Sequence[Rejected], kept_ids: Iterable[str]) -> list[Rejected]:
    """Sort the rejected; ids that are taken, as where a path stands twice, get ``#2``, ``#3``."""
    taken = set(kept_ids)
    named = []
    for one in sorted(rejected, key=lambda one: (one.image_id, one.path, one.reason)):
        image_id, number = one.image_id, 1
        while image_id in taken:
            number += 1
            image_id = f"{one.image_id}#{number}"
        taken.add(image_id)
        named.append(dataclasses.replace(one, image_id=image_id))
    return sorted(named, key=lambda one: one.image_id)
