"""Which pictures are kept: a judgement for each member, then copies and conflicting labels."""

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.core.errors import HospitalError, TableError, name_some
from stages.core.tables import REASONS
from stages.datasets.contents import Contents
from stages.datasets.hospitals import HOSPITALS_FILE, Layout
from stages.datasets.path_facts import Facts, PathReader, is_hidden, is_table_member


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


def sort_members(hospital: str, paths: Sequence[str], layout: Layout, reader: PathReader) -> Sorted:
    """Tell pictures, masks and tables, and everything else apart by their paths.

    Parameters
    ----------
    hospital : str
    paths : sequence of str
        Members of the archives, sorted.
    layout : Layout
    reader : PathReader
        Of the same layout.

    Returns
    -------
    Sorted
        Every path is in exactly one heap.
    """
    masks = {of: path for path in reversed(paths) if (of := reader.mask_of(path)) is not None}
    heaps = Sorted()
    taken: dict[str, str] = {}
    for path in paths:
        if is_hidden(path):
            heaps.rejected.append(_no_image(hospital, path, "a hidden or system file"))
        elif reader.mask_of(path) is not None or is_table_member(layout, path):
            heaps.auxiliary.append(path)
        elif (facts := reader.read(path)) is None:
            heaps.rejected.append(
                _no_image(hospital, path, "its path is none of a picture, by layout.image")
            )
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
    return heaps


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
        marked.append(Marked(candidate, seen, cluster, warnings))
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
        "expert_1": facts.expert_1,
        "expert_2": facts.expert_2,
        **vars(one.seen),
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
        "n_auxiliary": n_auxiliary,
        "n_masks": sum(one.candidate.mask_path is not None for one in kept),
        "n_near_twins": warnings["near_twin"],
        "n_odd_size": warnings["odd_size"],
        "n_by_reason": {reason: reasons[reason] for reason in REASONS},
        "n_by_format": dict(Counter(one.seen.format for one in kept)),
    }


def summarise(metrics: Mapping[str, Any]) -> str:
    """Say the counts in one line, for the log."""
    reasons = ", ".join(f"{name} {n}" for name, n in metrics["n_by_reason"].items() if n)
    text = f"{metrics['n_members']} files -> {metrics['n_kept']} images"
    auxiliary = f", {metrics['n_auxiliary']} masks and tables" if metrics["n_auxiliary"] else ""
    return (
        f"{text} ({metrics['n_rejected']} rejected{': ' + reasons if reasons else ''}{auxiliary})"
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


def _no_image(hospital: str, path: str, detail: str) -> Rejected:
    return Rejected(f"{hospital}/{path}", path, None, "not_an_image", detail)


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
