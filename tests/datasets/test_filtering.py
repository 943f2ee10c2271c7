"""The sieve: every member ends in one heap, and copies are judged by their labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import HospitalError, TableError
from stages.core.formats import Format
from stages.core.tables import REASONS
from stages.datasets import filtering
from stages.datasets.contents import Contents
from stages.datasets.hospitals import FactTable, Layout
from stages.datasets.path_facts import Facts, PathReader

LAYOUT = Layout(
    image=r"(?P<label>[AB])/[^/]+\.(?i:jpg|bmp)",
    mask=r"masks/(?P<of>[^/]+/[^/]+)\.png",
    tables=[FactTable(member=r"t\.csv", key="id", match=r"label", columns={"patient": "p"})],
    sizes=["36x30", "40-42x30"],
)
READER = PathReader(LAYOUT, {"x/t.csv": b"id,p\nA,p1\n"})


def candidate(image_id: str, label: str | None = "A") -> filtering.Candidate:
    """Name a candidate of hospital h."""
    path = image_id.removeprefix("h/")
    return filtering.Candidate(image_id, path, Facts(path, label=label), None)


def seen(pixels: str, width: int = 36, height: int = 30) -> filtering.Seen:
    """Describe a decoded picture."""
    return filtering.Seen("s", pixels, width, height, "jpeg", "RGB", bytes(32))


def alone(image_ids: list[str], hashes: list[bytes]) -> list[str]:
    """Find no twins."""
    assert len(hashes) == len(image_ids)
    return image_ids


def verdicts(rejected: list[filtering.Rejected]) -> dict[str, str]:
    """Map image_id to reason."""
    return {one.image_id: one.reason for one in rejected}


JPEG, WEBP, TEXT = (
    Format("JPEG", "picture"),
    Format("WebP", "foreign"),
    Format("text", "other"),
)


def sort(
    paths: list[str], formats: dict[str, Format | None], layout: Layout = LAYOUT
) -> filtering.Sorted:
    """Sort members whose content is asked for only where it is given."""
    reader = READER if layout is LAYOUT else PathReader(layout, {})
    return filtering.sort_members("h", sorted(paths), layout, reader, formats.__getitem__)


def test_what_is_no_picture_by_its_path_is_told_apart_by_its_content() -> None:
    """A picture left out for its ending, one that the layout does not mean, and no picture."""
    formats = {
        "A/2.jfif": JPEG,  # but for the ending, a picture of the layout
        "A/3.webp": WEBP,
        "A/1.tif": JPEG,  # beside A/1.jpg, which is read: its mask, say
        "C/1.jpg": JPEG,
        "A/notes.txt": TEXT,
        "A/blob": None,
    }
    heaps = sort(["A/1.jpg", *formats], formats)
    assert [one.path for one in heaps.candidates] == ["A/1.jpg"]
    assert verdicts(heaps.rejected) == {
        "h/A/2.jfif": "other_ending",
        "h/A/3.webp": "other_ending",
        "h/A/1.tif": "outside_layout",
        "h/C/1.jpg": "outside_layout",
        "h/A/notes.txt": "not_an_image",
        "h/A/blob": "not_an_image",
    }
    assert [one.path for one in heaps.rejected if filtering.is_lost(one)] == [
        "A/2.jfif",
        "A/3.webp",
    ]


def test_class_folders_take_pictures_of_any_name_by_their_content() -> None:
    """A phone's or browser's ending is no reason to lose one; a text beside them has no label."""
    formats = {
        "A/1": JPEG,
        "A/2.jpg!d": JPEG,
        "A/3.jpg.bak": JPEG,
        "A/4.NEF": Format("camera raw (NEF)", "foreign"),
        "A/notes.txt": TEXT,
        "A/blob.bin": None,
    }
    heaps = sort([*formats, "A/5.jfif", "A/6.webp"], formats, Layout())
    kept = ["A/1", "A/2.jpg!d", "A/3.jpg.bak", "A/5.jfif", "A/6.webp"]
    assert [one.path for one in heaps.candidates] == kept
    assert {one.path: (one.reason, one.published_label) for one in heaps.rejected} == {
        "A/4.NEF": ("foreign_format", "A"),
        "A/blob.bin": ("unknown_format", "A"),
        "A/notes.txt": ("not_an_image", None),
    }


def test_what_the_decoder_calls_no_picture_is_named() -> None:
    """By its content; another verdict of the decoder stands."""
    assert filtering.explain("not_an_image", "d", WEBP)[0] == "foreign_format"
    assert filtering.explain("not_an_image", "d", WEBP)[1] == "WebP, which is not read"
    assert filtering.explain("not_an_image", "d", TEXT) == ("not_an_image", "text")
    assert filtering.explain("not_an_image", "d", None)[0] == "unknown_format"
    assert filtering.explain("truncated", "d", JPEG) == ("truncated", "d")


def lost(**counts: int) -> list[filtering.Rejected]:
    """Reject so many files for each reason."""
    return [
        filtering.Rejected(f"h/{reason}{n}", f"{reason}{n}.jpg", None, reason, f"why {n}")
        for reason, count in counts.items()
        for n in range(count)
    ]


@given(st.integers(1, 50), st.dictionaries(st.sampled_from(REASONS), st.integers(1, 9)))
def test_the_share_lost_counts_pictures_only(n_kept: int, counts: dict[str, int]) -> None:
    """Copies, nobody's files, and what the layout does not mean are no loss; all else is."""
    no_loss = {"hidden", "no_file", "outside_layout", "duplicate"}
    n_lost = sum(n for reason, n in counts.items() if reason not in no_loss)
    share = filtering.share_lost(n_kept, lost(**counts))
    assert share == n_lost / (n_kept + n_lost)
    filtering.require_few_lost("h", n_kept, lost(**counts), share)


def test_a_text_is_a_loss_only_under_the_name_of_a_picture() -> None:
    """Pointers in place of pictures are what an unfinished transfer leaves."""
    for path, is_lost in {
        "A/1.jpg": True,
        "A/1.WEBP": True,
        "A/1.csv": False,
        "A/1": False,
    }.items():
        one = filtering.Rejected(f"h/{path}", path, None, "not_an_image", "text")
        assert filtering.is_lost(one) == is_lost


def test_too_large_a_loss_stops_with_counts_and_examples() -> None:
    """More than the params allow, to the picture."""
    rejected = lost(truncated=2, foreign_format=1, duplicate=5, hidden=7)
    filtering.require_few_lost("h", 27, rejected, 0.1)
    told = (
        r"^h: 3 of 29 pictures are lost, more than filter.max_lost = 0.1 allows: foreign_format 1 "
        r"\(foreign_format0.jpg: why 0\), truncated 2 \(truncated0.jpg: why 0; truncated1.jpg: why "
        r"1\). Nothing was written. JPEG, .* larger filter.max_lost in params.yaml"
    )
    with pytest.raises(HospitalError, match=told):
        filtering.require_few_lost("h", 26, rejected, 0.1)


def test_paths_are_told_apart() -> None:
    """Pictures, masks, tables, leftovers, strangers and namesakes."""
    paths = sorted(
        [
            "x/A/1.jpg",
            "y/A/1.jpg",
            "x/A/2.bmp",
            "x/t.csv",
            "x/masks/A/2.png",
            "x/A/Thumbs.db",
            "__MACOSX/A/1.jpg",
            "x/.ipynb_checkpoints/A/3.jpg",
            "x/A/._1.jpg",
            ".DS_Store",
            "readme.txt",
        ]
    )
    heaps = sort(paths, {"readme.txt": TEXT})
    assert [(one.image_id, one.path, one.mask_path) for one in heaps.candidates] == [
        ("h/A/1.jpg", "x/A/1.jpg", None),
        ("h/A/2.bmp", "x/A/2.bmp", "x/masks/A/2.png"),
    ]
    assert heaps.candidates[0].facts == Facts("A/1.jpg", label="A", patient="p1")
    assert sorted(heaps.auxiliary) == ["x/masks/A/2.png", "x/t.csv"]
    reasons = verdicts(heaps.rejected)
    assert reasons.pop("h/y/A/1.jpg") == "same_name"
    assert reasons.pop("h/readme.txt") == "not_an_image"
    assert set(reasons.values()) == {"hidden"}
    assert len(paths) == len(heaps.candidates) + len(heaps.auxiliary) + len(heaps.rejected)
    (namesake,) = (one for one in heaps.rejected if one.reason == "same_name")
    assert "x/A/1.jpg has the same name" in namesake.detail
    assert namesake.published_label == "A"


def test_copies_of_one_label_leave_the_first() -> None:
    """The smallest image_id stays."""
    pictures = [(candidate(f"h/{name}"), seen("same")) for name in "bca"]
    rejected = filtering.find_copies(pictures)
    assert verdicts(rejected) == {"h/b": "duplicate", "h/c": "duplicate"}
    assert {one.detail for one in rejected} == {"the same pixels as h/a"}


def test_a_labelled_copy_goes_before_an_unlabelled_one() -> None:
    """Whatever their names."""
    pictures = [(candidate("h/a", None), seen("same")), (candidate("h/b", "X"), seen("same"))]
    assert verdicts(filtering.find_copies(pictures)) == {"h/a": "duplicate"}


def test_two_labels_condemn_all_copies() -> None:
    """Also the unlabelled; a third picture is not touched."""
    labels = {"a": "X", "b": None, "c": "Y", "d": "X"}
    pictures = [(candidate(f"h/{name}", label), seen("same")) for name, label in labels.items()]
    rejected = filtering.find_copies([*pictures, (candidate("h/e"), seen("other"))])
    assert verdicts(rejected) == dict.fromkeys(["h/a", "h/b", "h/c", "h/d"], "conflicting_labels")
    assert {one.detail for one in rejected} == {"the same pixels are published as X, Y"}


@given(
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.sampled_from(["X", "Y", None])), max_size=12
    ).flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(range(len(rows)))))
)
def test_nothing_is_lost_and_order_does_not_matter(case: tuple) -> None:
    """Kept pictures are unique and clean; each set of copies leaves one or none; any order."""
    rows, order = case
    pictures = [
        (candidate(f"h/{i:02d}", label), seen(pixels)) for i, (pixels, label) in enumerate(rows)
    ]

    def decide(ordered: list) -> tuple[list[str], dict[str, str]]:
        heaps = filtering.Sorted(candidates=[one for one, _ in ordered])
        kept, rejected = filtering.judge(heaps, [found for _, found in ordered])
        assert len(kept) + len(rejected) == len(rows)
        return [one.image_id for one, _ in kept], verdicts(rejected)

    kept, rejected = decide(pictures)
    assert (kept, rejected) == decide([pictures[i] for i in order])
    for pixels in "pqr":
        group = [i for i, row in enumerate(rows) if row[0] == pixels]
        labels = {rows[i][1] for i in group} - {None}
        left = [name for name in kept if int(name[2:]) in group]
        assert len(left) == (1 if group and len(labels) < 2 else 0)
        if labels and left:
            assert rows[int(left[0][2:])][1] is not None


def test_unusable_pictures_keep_reason_and_label() -> None:
    """What decoding said stands in the table."""
    heaps = filtering.Sorted(candidates=[candidate("h/b", "X"), candidate("h/a")])
    findings = [filtering.Unusable("truncated", "ends early"), seen("p")]
    kept, rejected = filtering.judge(heaps, findings)
    assert [one.image_id for one, _ in kept] == ["h/a"]
    assert rejected == [filtering.Rejected("h/b", "b", "X", "truncated", "ends early")]


def test_rejected_ids_are_unique() -> None:
    """A path that stands twice, and the name of a kept picture, get a number."""
    twice = [filtering.Rejected("h/a", "a", None, "not_an_image", "x") for _ in range(2)]
    clash = filtering.Rejected("h/k", "k", None, "same_name", "x")
    heaps = filtering.Sorted(candidates=[candidate("h/k")], rejected=[*twice, clash])
    _, rejected = filtering.judge(heaps, [seen("p")])
    assert [one.image_id for one in rejected] == ["h/a", "h/a#2", "h/k#2"]


def test_twins_and_odd_sizes_are_marked_and_kept() -> None:
    """A warning drops nothing."""
    kept = [
        (candidate("h/a"), seen("p")),
        (candidate("h/b"), seen("q", 41, 30)),
        (candidate("h/c"), seen("r", 43, 30)),
    ]
    marked = filtering.mark(kept, READER, lambda ids, _: [ids[0], ids[1], ids[0]])
    assert [one.twin_group for one in marked] == ["h/a", "h/b", "h/a"]
    assert [one.warnings for one in marked] == [["near_twin"], [], ["near_twin", "odd_size"]]
    row = filtering.to_row("h", marked[1], published())
    assert row["image_id"] == "h/b"
    assert (row["width"], row["height"], row["published_label"]) == (41, 30, "A")
    assert (row["official_part"], row["official_side"], row["simulated"]) == (None, None, False)


def published(simulated: bool = False, **parts: str) -> Contents:
    """What download says of a hospital with these official parts."""
    return Contents(archives=[], layout=Layout(official_parts=parts), simulated=simulated)


def of_part(name: str, part: str | None) -> filtering.Candidate:
    """A picture in one of the publisher's parts."""
    facts = Facts(name, label="A", official_part=part)
    return filtering.Candidate(f"h/{name}", name, facts, None)


@pytest.mark.parametrize(
    ("part", "side"), [("Exam", "test"), ("Spare", None), ("exam", None), (None, None)]
)
def test_a_row_names_the_official_side(part: str | None, side: str | None) -> None:
    """Which of our parts the publisher's is; none where the layout does not say."""
    one = filtering.Marked(of_part("a", part), seen("p"), "h/a", [])
    row = filtering.to_row("h", one, published(simulated=True, Exam="test", Learn="train"))
    assert (row["official_part"], row["official_side"], row["simulated"]) == (part, side, True)


@pytest.mark.parametrize("found", [["exam", "Spare"], [None, None], ["Spare", None]])
def test_declared_parts_that_no_picture_bears_stop(found: list[str | None]) -> None:
    """One line with what is declared, what was found, and the way out."""
    layout = Layout(official_parts={"Learn": "train", "Exam": "test"})
    kept = [of_part(str(n), part) for n, part in enumerate(found)]
    named = ", ".join(sorted(filter(None, found))) or "no part"
    told = rf"h: .*hospitals.yaml names Learn, Exam; its pictures name {named}. Correct official_"
    with pytest.raises(HospitalError, match=told):
        filtering.require_parts("h", layout, kept)
    filtering.require_parts("h", layout, [*kept, of_part("x", "Exam")])
    filtering.require_parts("h", Layout(), kept)


def test_counts_name_every_reason() -> None:
    """0 stands where none was found."""
    marked = filtering.mark([(candidate("h/a"), seen("p", 1, 1))], READER, alone)
    rejected = [filtering.Rejected("h/b", "b", None, "empty", "")]
    metrics = filtering.count(5, marked, rejected, 3)
    assert metrics["n_by_reason"] == {reason: int(reason == "empty") for reason in REASONS}
    assert metrics["n_by_format"] == {"jpeg": 1}
    assert (metrics["n_kept"], metrics["n_odd_size"], metrics["n_near_twins"]) == (1, 1, 0)
    text = "5 files -> 1 images (1 rejected: empty 1, 3 masks and tables)"
    assert filtering.summarise(metrics) == text


def test_a_lost_picture_stops_the_run() -> None:
    """in = kept + rejected + auxiliary."""
    with pytest.raises(TableError, match=r"lost a picture: 5 members are not 0 kept"):
        filtering.count(5, [], [], 3)


def test_no_picture_at_all_has_a_way_out() -> None:
    """With the reasons, and the first few files."""
    rejected = [
        filtering.Rejected(f"h/{n}", f"{n}.gif", None, "not_an_image", "d") for n in range(9)
    ]
    pattern = r"none of its 9 files .* not_an_image 9: 0.gif \(d\), .* 4 more. Correct layout.image"
    with pytest.raises(HospitalError, match=pattern):
        filtering.require_kept("h", 0, rejected)
    filtering.require_kept("h", 1, rejected)


def test_pixel_checksum_knows_the_shape() -> None:
    """The same bytes in another shape are another picture."""
    rgb = np.arange(36, dtype=np.uint8)
    one, other = (
        filtering.hash_pixels(rgb.reshape(3, 4, 3)),
        filtering.hash_pixels(rgb.reshape(4, 3, 3)),
    )
    assert one != other
    assert one == filtering.hash_pixels(np.asfortranarray(rgb.reshape(3, 4, 3)))
