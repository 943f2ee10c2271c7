"""filter: keep usable pictures, reject every other file with a reason. raw -> images, rejected."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from stages.core import params
from stages.core.errors import ArchiveError, ImageError, name_some, run_stage
from stages.core.parallel import map_ordered, show_progress
from stages.core.params import FilterParams
from stages.core.store import write_metrics
from stages.core.tables import IMAGES, REJECTED, ROW_GROUP
from stages.datasets import archives, contents, filtering, path_facts
from stages.datasets.archives import Member
from stages.datasets.hospitals import Layout
from stages.images import decoding, near_duplicates

log = logging.getLogger(__name__)


def main(hospital: str) -> None:
    """Write data/images/<hospital>, data/rejected/<hospital> and metrics/filter/<hospital>."""
    rule = params.load("filter").filter
    raw = Path("data/raw") / hospital
    published = contents.read(raw)
    layout = published.layout
    with archives.open_members(raw) as listed:
        members = {member.path: member for member in reversed(listed)}
        paths = [member.path for member in listed]
        reader = path_facts.PathReader(layout, _read_tables(layout, members))
        path_facts.require_folders(hospital, layout, reader, paths)
        heaps = filtering.sort_members(
            hospital, paths, layout, reader, lambda path: archives.recognise(members[path])
        )
        heaps.rejected.extend(filtering.leave_out(hospital, published.left_out))
        of_pictures = [one.path for one in heaps.candidates]
        path_facts.warn_of_lost_groups(hospital, layout, reader, of_pictures)
        joined = path_facts.join_tables(hospital, reader, of_pictures)
        candidates = [members[one.path] for one in heaps.candidates]
        findings = show_progress(
            map_ordered(partial(examine, rule=rule), candidates),
            len(candidates),
            f"filter: {hospital}",
        )
        kept, rejected = filtering.judge(heaps, findings)
        filtering.require_kept(hospital, len(kept), rejected)
        filtering.require_few_lost(hospital, len(kept), rejected, rule.max_lost)
        filtering.require_parts(hospital, layout, [one for one, _ in kept])
        pictures = filtering.mark(
            kept, reader, partial(near_duplicates.group_twins, max_bits=rule.twin_bits)
        )
        with IMAGES.writer(hospital) as append:
            for rows in _rows_with_bytes(hospital, pictures, members, published):
                append(rows)
    with REJECTED.writer(hospital) as append:
        append([{"hospital": hospital, **vars(one)} for one in rejected])
    n_files = len(paths) + len(published.left_out)
    metrics = filtering.count(n_files, pictures, rejected, len(heaps.auxiliary))
    write_metrics("filter", {**metrics, "tables": joined}, hospital)
    log.info("filter: %s %s", hospital, filtering.summarise(metrics))


def examine(member: Member, rule: FilterParams) -> filtering.Finding:
    """Decode one picture, check its size, and take its checksums; runs on every core."""
    try:
        content = archives.read_member(member)
        picture = decoding.decode(content)
        decoding.check_size(picture.rgb, rule)
    except ImageError as error:
        found = archives.recognise(member)
        return filtering.Unusable(*filtering.explain(error.reason, error.detail, found))
    height, width = picture.rgb.shape[:2]
    return filtering.Seen(
        sha256=hashlib.sha256(content).hexdigest(),
        pixel_sha256=filtering.hash_pixels(picture.rgb),
        width=width,
        height=height,
        format=picture.format,
        mode=picture.mode,
        phash=near_duplicates.picture_hash(picture.rgb),
        notes=picture.notes,
    )


def _read_tables(layout: Layout, members: Mapping[str, Member]) -> dict[str, bytes]:
    tables = [path for path in members if path_facts.is_table_member(layout, path)]
    try:
        return {path: archives.read_member(members[path]) for path in tables}
    except ImageError as error:
        raise ArchiveError(
            f"one of the published tables {name_some(tables)} cannot be read: {error.detail}. "
            "Get the archive again, or put the table beside the pictures in the mirror."
        ) from None


def _rows_with_bytes(
    hospital: str,
    pictures: Sequence[filtering.Marked],
    members: Mapping[str, Member],
    published: contents.Contents,
) -> Iterator[list[dict[str, Any]]]:
    """Yield rows of the table, with the publisher's bytes, one row group in memory at a time."""
    source = iter(pictures)
    while batch := list(islice(source, ROW_GROUP)):
        yield [
            {
                **filtering.to_row(hospital, one, published),
                "bytes": archives.read_member(members[one.candidate.path]),
                "mask": _read_mask(one.candidate.mask_path, members),
            }
            for one in batch
        ]


def _read_mask(path: str | None, members: Mapping[str, Member]) -> bytes | None:
    if path is None:
        return None
    try:
        content = archives.read_member(members[path])
        decoding.decode(content)
        return content
    except ImageError as error:
        log.warning("filter: the mask %s is left out: %s", path, error)
        return None


if __name__ == "__main__":
    run_stage(main, "hospital")
