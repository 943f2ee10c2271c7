"""The report's sections on the pictures: what was asked, kept, measured, named and divided."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.core.tables import PARTS
from stages.pages import words
from stages.pages.blocks import Block, Charts, Folded, Picture, Pictures, Sentence, Table, Told
from stages.pages.charts import Axis, Curve, draw_curves, round_up
from stages.pages.words import count, part_of, plain, say, say_interval, say_percent

Content = Mapping[str, Any]

REASONS = {  # of stage filter, in words
    "hidden": "hidden, or left by a system or a program",
    "no_file": "no file: a pipe, a device, or a second link",
    "not_an_image": "no picture",
    "foreign_format": "a picture of a format that is not read",
    "unknown_format": "at a picture's place, but of no known format",
    "no_class_folder": "a picture without a folder that could be its label",
    "outside_layout": "a picture whose path is not one of the hospital's layout",
    "other_ending": "the same, for the ending of its name alone",
    "empty": "an empty file",
    "unreadable": "called a picture, but nothing can open it",
    "truncated": "ends before its last row",
    "damaged": "a part was overwritten or lost",
    "undersized": "too small",
    "oversized": "too large",
    "blank": "one colour: nothing was photographed",
    "duplicate": "the same pixels as a picture that was kept",
    "conflicting_labels": "the same pixels under two published labels",
    "same_name": "a second file under the same name",
}
PART_WORDS = {
    "train": "learnt from",
    "valid": "to validate",
    "test": "tested at home",
    "unseen": "tested, hospital unseen",
    "left_out": "left out",
}
FLAGS = {
    "no_cell": "no cell found",
    "at_border": "cell at the border",
    "unsure_outline": "outline unsure",
    "broken": "a part of the picture is lost",
}
UNITS_ALONE = ("image", "twins")  # where no patient, slide or field is published
ROLES = {True: "trains", False: "unseen"}
LEAKS = {
    "patient_in_train": "patient",
    "slide_in_train": "slide",
    "twin_in_train": "near twin",
    "group_in_train": "any of these",
}


def ask(rule: Content, about: Mapping[str, Content], labels: Content, told: Content) -> Told:
    """Tell what the experiment asks, and of which hospitals.

    Parameters
    ----------
    rule : mapping
        Content of params.yaml.
    about : mapping of str to mapping
        ``title``, ``licence``, ``citation`` by hospital.
    labels, told : mapping
        Content of metrics/harmonise.json and summary.json.
    """
    train = rule["split"]["train_hospitals"]
    hospitals = rule["hospitals"]
    unseen = sorted(set(hospitals) - set(train))
    lead = (
        f"The model {rule['model']} learnt {count(len(labels['classes']), 'classes')} at "
        f"{part_of(train, hospitals, 'hospitals')}; "
    )
    lead += (
        f"{count(len(unseen), 'hospitals')} taught it nothing and "
        f"{'judges' if len(unseen) == 1 else 'judge'} it ({', '.join(unseen)})."
        if unseen
        else "no hospital is unseen by choice, so that it is judged as the split says below."
    )
    rows = []
    for name in hospitals:
        facts, own = about.get(name, {}), labels["by_hospital"][name]
        rows.append(
            [
                name,
                ROLES[name in train],
                f"{own['n_kept']:,}",
                str(facts.get("title") or "not told"),
                str(facts.get("licence") or "not told"),
                str(facts.get("citation") or "not told"),
            ]
        )
    blocks: list[Block] = [Sentence(text, is_warning=True) for text in told["warnings"]]
    blocks.append(
        Table(
            "Hospitals, and whose pictures they are",
            ["hospital", "role", "pictures with a class", "title", "licence", "citation"],
            rows,
            "llrlll",
        )
    )
    classes = ", ".join(map(plain, labels["classes"]))
    blocks.append(Sentence(f"Classes of {labels['taxonomy']}: {classes}."))
    return Told(lead, blocks)


def keep(
    found: Mapping[str, Content],
    validated: Content | None,
    rejected: Mapping[str, Sequence[Picture]],
) -> Told:
    """Tell which files are used as pictures, and why the others are not.

    Parameters
    ----------
    found : mapping of str to mapping
        Content of metrics/filter by hospital.
    validated : mapping, optional
        Content of metrics/validate.json.
    rejected : mapping of str to sequence of Picture
        By reason, those that can be shown.
    """
    kept = sum(one["n_kept"] for one in found.values())
    refused = sum(one["n_rejected"] for one in found.values())
    by_reason = {name: sum(one["n_by_reason"][name] for one in found.values()) for name in REASONS}
    lead = f"{kept:,} files are used as pictures and {count(refused, 'files')} not"
    if refused:
        worst = max(found, key=lambda name: (_lost_share(found[name]), name))
        commonest = max(by_reason, key=lambda name: by_reason[name])
        lead += (
            f", most often as {REASONS[commonest]} ({by_reason[commonest]:,}); the largest share "
            f"is lost at {worst}: {say_percent(_lost_share(found[worst]))}"
        )
    return Told(lead + ".",
        [
            Table(
                "Files by hospital",
                ["hospital", "kept", "rejected", "share rejected", "masks and other files",
                 "near twins", "of an odd size"],
                [
                    [
                        name, f"{one['n_kept']:,}", f"{one['n_rejected']:,}",
                        say_percent(_lost_share(one)), f"{one['n_auxiliary']:,}",
                        f"{one['n_near_twins']:,}", f"{one['n_odd_size']:,}",
                    ]
                    for name, one in found.items()
                ],
                "lrrrrrr",
            ),
            *_list_reasons(found, by_reason),
            *(
                Pictures(f"Rejected: {REASONS[reason]}", pictures)
                for reason, pictures in rejected.items()
                if pictures
            ),
            *_say_validated(validated),
        ],
    )  # fmt: skip


def measure(
    found: Mapping[str, Content],
    colours: Mapping[str, pd.DataFrame],
    sharpness: Mapping[str, pd.DataFrame],
    sheets: Mapping[str, str],
) -> Told:
    """Tell how pictures of the hospitals differ in colour, sharpness and size of the cells.

    Parameters
    ----------
    found : mapping of str to mapping
        Content of metrics/quality by hospital.
    colours, sharpness : mapping of str to pandas.DataFrame
        ``channel``, ``level``, ``share``; and ``sharpness``, ``share``; by hospital.
    sheets : mapping of str to str
        Address of the hospital's outlines.
    """
    lead = (
        f"{_say_range(found, 'sharpness')}. {_say_range(found, 'cell_radius', ' px')}. Where "
        "hospitals lie far apart, what a model learns at one may not hold at another."
    )
    flags = sorted({name for one in found.values() for name in one["n_by_flag"]})
    rows = [
        [
            name, f"{one['n_images']:,}", f"{one['n_with_cell']:,}",
            _median(one, "cell_radius", 0), _median(one, "sharpness", 2),
            _median(one, "saturation", 3), _swatch(one),
            f"{one['n_flagged']:,}", _say_masks(one["mask_iou"]),
        ]
        for name, one in found.items()
    ]  # fmt: skip
    blocks: list[Block | Folded] = [
        Table(
            "Medians by hospital",
            ["hospital", "pictures", "with a cell", "cell radius, px", "sharpness", "saturation",
             "background: red, green, blue", "flagged", "our outline on the published one"],
            rows,
            "lrrrrrlrr",
        ),
        Folded(
            "Flags by hospital",
            [
                Table(
                    "Pictures that stand out in their hospital",
                    ["hospital", *(FLAGS.get(name, plain(name)) for name in flags)],
                    [
                        [name, *(f"{one['n_by_flag'].get(flag, 0):,}" for flag in flags)]
                        for name, one in found.items()
                    ],
                    "l" + "r" * len(flags),
                )
            ],
        ),
    ]  # fmt: skip
    if colours:
        blocks.append(Charts("Share of pixels by level", draw_colours(colours)))
    if sharpness:
        blocks.append(Charts("Share of pictures by sharpness", draw_sharpness(sharpness)))
    if sheets:
        pictures = [
            Picture(src, f"cells of {name} with the outlines that were found", [name])
            for name, src in sheets.items()
        ]
        blocks.append(Folded("Outlines found: cell yellow, nucleus green", [
            Pictures("", pictures, is_sheet=True)
        ]))  # fmt: skip
    return Told(lead, blocks)


def name_classes(
    labels: Content, mapped: pd.DataFrame, suspects: Content | None, sheet: str | None
) -> Told:
    """Tell which published label became which class, how often, and which labels look wrong.

    Parameters
    ----------
    labels : mapping
        Content of metrics/harmonise.json.
    mapped : pandas.DataFrame, shape (n_images, 5)
        ``hospital``, ``published_label``, ``cell_type``, ``label`` and ``drop_reason``.
    suspects : mapping, optional
        Content of metrics/suspects.json.
    sheet : str, optional
        Address of the most suspicious pictures.
    """
    by_hospital = labels["by_hospital"]
    absent = {
        name: [one for one in labels["classes"] if not own["n_by_class"].get(one)]
        for name, own in by_hospital.items()
    }
    lacking = [name for name, ones in absent.items() if ones]
    lead = (
        f"{labels['n_kept']:,} of {labels['n_images']:,} pictures bear a class of "
        f"{labels['taxonomy']}; {part_of(lacking, by_hospital, 'hospitals')} "
        f"{'lacks' if len(lacking) == 1 else 'lack'} a class, so that the scores there are of the "
        "others alone."
    )
    if not lacking:
        lead = lead.partition(";")[0] + ", and every hospital holds every class."
    blocks: list[Block | Folded] = [
        Table(
            "Pictures by class",
            ["class", *by_hospital],
            [
                [
                    plain(one),
                    *(f"{own['n_by_class'].get(one, 0):,}" for own in by_hospital.values()),
                ]
                for one in labels["classes"]
            ],
            "l" + "r" * len(by_hospital),
        )
    ]
    for name, own in mapped.groupby("hospital", sort=False):
        blocks.append(Folded(f"Label map of {name}", [_list_map(str(name), own)]))
    blocks += _say_reviews(labels["reviews"])
    blocks += _say_experts(by_hospital)
    blocks += _say_suspects(suspects, sheet)
    return Told(lead, blocks)


def divide(split: Content, labels: Content) -> Told:
    """Tell which pictures train and test, and what leaks from one side to the other.

    Parameters
    ----------
    split, labels : mapping
        Content of metrics/split.json and harmonise.json.
    """
    leaks, by_part = split["leaks"], split["n_by_part"]
    everything = leaks["all"]
    tested = everything["n_tested"]
    share = (everything["group_in_train"] or {}).get("value")
    lead = f"{by_part.get('train', 0):,} pictures teach and {tested:,} test"
    if share is None:
        lead += "; no picture is tested, so that no leak can be counted."
    elif share > 0:
        lead += (
            f"; {say_percent(share)} of these have their patient, slide or near twin among those "
            "that teach: scores are too good."
        )
    else:
        lead += "; none of these has its patient, slide or near twin among those that teach."
    alone = [
        name
        for name, own in labels["by_hospital"].items()
        if not set(own["n_images_by_unit"]) - set(UNITS_ALONE)
    ]
    if alone:
        lead += (
            f" {part_of(alone, labels['by_hospital'], 'hospitals')} "
            f"{'publishes' if len(alone) == 1 else 'publish'} neither patients nor slides: leaks "
            "cannot be seen there."
        )
    parts = [part for part in PARTS if by_part.get(part)]
    rows = [
        [name, *(f"{sum(own.get(part, {}).values()):,}" for part in parts)]
        for name, own in split["by_hospital"].items()
    ]
    blocks: list[Block | Folded] = [
        Table(
            f"Pictures by part, method {split['method']}",
            ["hospital", *(PART_WORDS[part] for part in parts)],
            [*rows, ["all", *(f"{by_part[part]:,}" for part in parts)]],
            "l" + "r" * len(parts),
        ),
        Table(
            "Tested pictures whose own are among those that teach",
            ["hospital", "tested", *LEAKS.values()],
            [
                [name, f"{own['n_tested']:,}", *(_say_leak(own, leak) for leak in LEAKS)]
                for name, own in [*leaks["by_hospital"].items(), ("all", everything)]
            ],
            "lr" + "r" * len(LEAKS),
        ),
    ]
    if split["n_left_out_by_reason"]:
        reasons = "; ".join(f"{why}: {n:,}" for why, n in split["n_left_out_by_reason"].items())
        blocks.append(Sentence(f"Left out: {reasons}."))
    if split["absent"]:
        blocks.append(Sentence(f"Absent from a part: {', '.join(map(str, split['absent']))}."))
    return Told(lead, blocks)


def _lost_share(one: Content) -> float:
    n_files = one["n_kept"] + one["n_rejected"]
    return one["n_rejected"] / n_files if n_files else 0.0


def _list_reasons(found: Mapping[str, Content], by_reason: Mapping[str, int]) -> list[Block]:
    rows = [
        [REASONS[name], *(f"{one['n_by_reason'][name]:,}" for one in found.values()), f"{n:,}"]
        for name, n in by_reason.items()
        if n
    ]
    if not rows:
        return []
    columns = "l" + "r" * (len(found) + 1)
    return [Table("Files that are not used, by reason", ["reason", *found, "all"], rows, columns)]


def _say_validated(validated: Content | None) -> list[Block]:
    if validated is None:
        return [Sentence("Stage validate has not run: nothing is known of what tables promise.")]
    n, failed = validated["n_expectations"], validated["n_failed"]
    tables = count(len(validated["by_table"]), "tables")
    where = ", ".join(name for name, one in validated["by_table"].items() if one["n_failed"])
    text = f"{failed} of {n} expectations of {tables} do not hold ({where})."
    if not failed:
        text = f"All {n} expectations of {tables} hold."
    blocks: list[Block] = [Sentence(text, is_warning=failed > 0)]
    blocks += [
        Sentence(f"Not checked: {name}, as {reason}.")
        for name, reason in validated["not_checked"].items()
    ]
    if validated["n_broken"]:
        shown = count(validated["n_broken"], "pictures")
        text = f"{shown} with a break across the whole width: a border, or a part that was lost."
        blocks.append(Sentence(text, is_warning=True))
    return blocks


def _median(one: Content, name: str, digits: int) -> str:
    value = one["quantiles"].get(name, {}).get("p50")
    return words.NONE if value is None else f"{value:.{digits}f}"


def _say_range(found: Mapping[str, Content], name: str, unit: str = "") -> str:
    medians = {
        hospital: one["quantiles"][name]["p50"]
        for hospital, one in found.items()
        if one["quantiles"].get(name, {}).get("p50") is not None
    }
    if not medians:
        return f"No {plain(name)} is known"
    low, high = (pick(medians, key=lambda one: (medians[one], one)) for pick in (min, max))
    return (
        f"The median {plain(name)} of a hospital runs from {medians[low]:.3g}{unit} ({low}) to "
        f"{medians[high]:.3g}{unit} ({high})"
    )


def _swatch(one: Content) -> Markup:
    """Return the median background as numbers beside a square of that colour."""
    medians = [one["quantiles"].get(f"white_{channel}", {}).get("p50") for channel in "rgb"]
    if None in medians:
        return Markup(words.NONE)
    levels = [round(value) for value in medians]
    shown = ", ".join(map(str, levels))
    return Markup(
        '<svg class="swatch" viewBox="0 0 1 1" aria-hidden="true"><rect width="1" height="1" '
        'fill="rgb({0})"/></svg> {0}'
    ).format(shown)


def _say_masks(block: Content) -> str:
    return f"{say(block['mean'])} of {block['n']:,}" if block["n"] else "none published"


def draw_colours(colours: Mapping[str, pd.DataFrame]) -> list[tuple[str, Markup]]:
    """Draw the share of pixels by level of each channel; a chart for each hospital."""
    top = round_up(max(float(frame["share"].max()) for frame in colours.values()))
    charts = []
    for name, frame in colours.items():
        curves = [
            Curve(str(channel), list(zip(own["level"], own["share"], strict=True)), colour)
            for (channel, own), colour in zip(
                frame.groupby("channel", sort=False), "dbac", strict=False
            )
        ]
        says = f"Share of pixels of {name} by level, for each colour channel"
        x, y = Axis("level, 0 to 255", 0, 255), Axis("share of pixels", 0, top)
        charts.append((name, draw_curves(curves, x, y, says)))
    return charts


def draw_sharpness(sharpness: Mapping[str, pd.DataFrame]) -> list[tuple[str, Markup]]:
    """Draw the share of pictures by sharpness; a chart for each hospital, on one axis."""
    top = round_up(max(float(frame["share"].max()) for frame in sharpness.values()))
    held = [frame.loc[frame["share"] > 0, "sharpness"].max() for frame in sharpness.values()]
    x = Axis("sharpness, grey levels / px", 0, round_up(float(max(held))))
    charts = []
    for name, frame in sharpness.items():
        points = list(zip(frame["sharpness"], frame["share"], strict=True))
        says = f"Share of pictures of {name} by sharpness"
        charts.append(
            (name, draw_curves([Curve("", points)], x, Axis("share of pictures", 0, top), says))
        )
    return charts


def _list_map(hospital: str, own: pd.DataFrame) -> Table:
    columns = ["published_label", "cell_type", "label", "drop_reason"]
    counted = own[columns].fillna("").value_counts(sort=False).sort_index()
    rows = []
    for values, n in counted.items():
        published, cell_type, label, reason = map(str, values)
        rows.append(
            [
                published or "none published",
                plain(cell_type) or "none",
                plain(label) or f"none: {plain(reason)}",
                f"{n:,}",
            ]
        )
    headings = ["published label", "cell type", "class", "pictures"]
    return Table(f"What became of the labels of {hospital}", headings, rows, "lllr")


def _say_experts(by_hospital: Mapping[str, Content]) -> list[Block]:
    return [
        Sentence(
            f"Two experts at {name} agree on {say(own['experts']['agreement']['value'])} of "
            f"{own['experts']['n_images']:,} pictures: no score can be trusted beyond that."
        )
        for name, own in by_hospital.items()
        if own["experts"]
    ]


def _say_reviews(reviews: Content) -> list[Block]:
    if not reviews["n"]:
        return []
    blocks: list[Block] = [
        Sentence(
            f"People reviewed pictures (data/reviews.csv): another type for "
            f"{reviews['n_type_changed']:,}, the same for {reviews['n_confirmed']:,}, no usable "
            f"cell in {reviews['n_dropped']:,}; {count(reviews['n_not_applied'], 'reviews')} not "
            "applied."
        )
    ]
    changes = [
        [plain(before), plain(after), f"{n:,}"]
        for before, others in reviews["changes"].items()
        for after, n in others.items()
    ]
    if changes:
        blocks.append(Table("By reviews", ["published", "now", "pictures"], changes, "llr"))
    if reviews["not_applied"]:
        rows = [[one["image_id"], one["reason"]] for one in reviews["not_applied"]]
        blocks.append(Table("Reviews that are not applied", ["picture", "why"], rows, "ll"))
    return blocks


def _say_suspects(suspects: Content | None, sheet: str | None) -> list[Block | Folded]:
    if suspects is None:
        return [Sentence("Stage suspects has not run: no label was checked for being wrong.")]
    blocks: list[Block | Folded] = [
        Sentence(
            f"{suspects['n_suspects']:,} of {suspects['n_images']:,} labels that teach are "
            "probably wrong, if the model that says so can be trusted: it is right on "
            f"{say(suspects['accuracy']['value'])} ({say_interval(suspects['accuracy'])}) of them."
        )
    ]
    if suspects["n_suspects"]:
        rows = [
            [plain(label), plain(other), f"{n:,}"]
            for label, others in suspects["by_class"].items()
            for other, n in others.items()
        ]
        blocks.append(
            Table("Labels that are probably wrong", ["label", "rather", "pictures"], rows, "llr")
        )
        if sheet:
            alt = "the pictures whose labels are most probably wrong"
            blocks.append(Pictures("The most suspicious", [Picture(sheet, alt)], is_sheet=True))
    return blocks


def _say_leak(own: Content, leak: str) -> str:
    share = own[leak]
    if share is None or share["value"] is None:
        return f"none: {own.get(f'{leak}_reason', 'nothing is tested')}"
    return f"{say_percent(share['value'])} (at most {say_percent(share['high'])})"
