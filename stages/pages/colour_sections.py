"""The sections of the page on colours: hospitals and classes side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from stages.pages.blocks import Block, Cell, Charts, Folded, Sentence, Table, Told
from stages.pages.charts import Axis, Curve, draw_curves
from stages.pages.data_sections import draw_colours, draw_sharpness
from stages.pages.words import NONE, count, plain, say_percent, stack

Content = Mapping[str, Any]

CELL_SIDE = 4.5  # rem, of a mean cell
FAR = 3.0  # distance at which the shade of a cell is darkest
N_LISTED = 40  # pictures of a list
STAIN_WORDS = {"blue": "blue", "eosin": "eosin", "rest": "neither"}
DENSITY = 1.2  # at which a stain's own colour is shown


@dataclass(frozen=True)
class Seen:
    """A mean cell as the page shows it.

    Attributes
    ----------
    n : int
        Pictures that it is the mean of.
    src : str
        Of `drawing.embed`.
    profile : numpy.ndarray of float64, shape (n_stains, n_rings), or None
        Mean density of each stain from the centre to the rim.
    """

    n: int
    src: str
    profile: np.ndarray | None


Cells = Mapping[str, Mapping[str, Seen]]


def compare_colours(
    colours: Mapping[str, pd.DataFrame], sharpness: Mapping[str, pd.DataFrame]
) -> Told:
    """Show the distributions of colour and sharpness, a column for each hospital.

    Parameters
    ----------
    colours, sharpness : mapping of str to pandas.DataFrame
        ``channel``, ``level``, ``share``; and ``sharpness``, ``share``; by hospital.
    """
    columns = [
        (name, above + below)
        for (name, above), (_, below) in zip(
            draw_colours(colours), draw_sharpness(sharpness), strict=True
        )
    ]
    return Told(
        "All pixels of a hospital by level, and below them its pictures by sharpness (mean of the "
        "absolute Laplacian). Where curves have another place or shape, camera or stain differ.",
        [Charts("Colours above, sharpness below", columns)],
    )


def judge_luminance(found: Content, outliers: pd.DataFrame) -> Told:
    """Tell how bright hospitals and classes are, and which pictures stand out, by reason.

    Parameters
    ----------
    found : mapping
        Content of metrics/colorimetry.json.
    outliers : pandas.DataFrame
        ``image_id``, ``hospital``, ``label``, ``luminance``, ``z`` and ``reason``, the furthest
        first.
    """
    by_hospital, classes = found["by_hospital"], found["classes"]
    medians = {name: own["luminance"]["p50"] for name, own in by_hospital.items()}
    darkest, brightest = (pick(medians, key=lambda name: medians[name]) for pick in (min, max))
    reasons = list(next(iter(by_hospital.values()))["n_dark_by_reason"])
    rows = [
        [
            name, f"{own['n_images']:,}", f"{own['luminance']['p50']:.0f}",
            f"{own['n_dark']:,}", *(f"{own['n_dark_by_reason'][one]:,}" for one in reasons),
            f"{own['n_bright']:,}",
        ]
        for name, own in by_hospital.items()
    ]  # fmt: skip
    listed = [
        [row.image_id, plain(row.label), f"{row.luminance:.0f}", f"{row.z:.1f}", row.reason]
        for row in outliers.head(N_LISTED).itertuples()
    ]
    blocks: list[Block | Folded] = [
        Table(
            "Median luminance, and pictures that stand out in their hospital and class",
            ["hospital", "pictures", "luminance, 0 to 255", "dark", *reasons, "bright"],
            rows,
            "l" + "r" * (len(reasons) + 4),
        ),
        Table(
            "Median luminance by class",
            ["class", *by_hospital],
            [[plain(one), *(_say_class(own, one) for own in by_hospital.values())]
             for one in classes],
            "l" + "r" * len(by_hospital),
        ),
    ]  # fmt: skip
    if listed:
        most = f"{len(listed)} of " if len(listed) < len(outliers) else ""
        title = f"{most}{count(len(outliers), 'pictures')} that stand out, the furthest first"
        headings = ["picture", "class", "luminance", "robust z", "reason"]
        blocks.append(Folded(title, [Table("Unlike their class", headings, listed, "llrrl")]))
    return Told(
        f"{count(len(outliers), 'pictures')} of {found['n_images']:,} are much darker or brighter "
        f"than others of their hospital and class; the darkest hospital is {darkest} "
        f"({medians[darkest]:.0f}), the brightest {brightest} ({medians[brightest]:.0f}).",
        blocks,
    )


def show_mean_cells(cells: Cells, classes: Sequence[str]) -> Told:
    """Show the mean cell of each class, the hospitals side by side."""
    rows: list[list[Cell]] = [
        [plain(one), *(_show_cell(own.get(one), one, name) for name, own in cells.items())]
        for one in classes
    ]
    return Told(
        "The mean of all cells of a class, each centred and brought to one size (a square of "
        "three cell radii). Compare a row for stain and camera, a column for what the classes "
        "differ in; where all of a column look alike, colour alone tells little there.",
        [Table("Mean cells", ["class", *cells], rows, "l" + "r" * len(cells))],
    )


def show_profiles(cells: Cells, classes: Sequence[str], found: Content) -> Told:
    """Draw the stains of the mean cell from its centre to its rim, and each hospital's own stains.

    Parameters
    ----------
    cells : mapping of str to mapping of str to Seen
        By hospital and class.
    classes : sequence of str
    found : mapping
        Content of metrics/colorimetry.json.
    """
    profiles = {
        (name, label): seen.profile
        for name, own in cells.items()
        for label, seen in own.items()
        if seen.profile is not None
    }
    if not profiles:
        return Told("No cell was found, so that no profile can be drawn.")
    values = np.stack(list(profiles.values()))
    y = Axis("optical density", _outwards(values.min(), -1), _outwards(values.max(), 1))
    means = {
        name: np.mean([profiles[place] for place in profiles if place[0] == name], axis=0)
        for name in cells
        if any(place[0] == name for place in profiles)
    }
    by_class = [
        Folded(
            plain(label).capitalize(),
            [
                Charts(
                    f"From centre to rim: {plain(label)}",
                    [
                        (name, _draw_profile(profiles[name, label], y, f"{plain(label)}, {name}"))
                        for name in cells
                        if (name, label) in profiles
                    ],
                )
            ],
        )
        for label in classes
        if any(place[1] == label for place in profiles)
    ]
    stains = [
        [name, _say_stain(own["stains"]["blue"]), _say_stain(own["stains"]["eosin"]),
         f"{own['stains']['n']:,}"]
        for name, own in found["by_hospital"].items()
    ]  # fmt: skip
    return Told(
        "Colours taken apart into methylene blue, which nuclei bind, eosin, which granules and red "
        "cells bind, and what neither explains: the further that one lies from 0, the less a "
        "hospital's stain is the Giemsa stain that is published.",
        [
            Charts(
                "From centre to rim, mean over the classes",
                [(name, _draw_profile(own, y, f"all classes, {name}"))
                 for name, own in means.items()],
            ),
            *by_class,
            Table(
                "Each hospital's own stains, as its pictures show them",
                ["hospital", "blue stain: red, green, blue", "red stain: red, green, blue",
                 "pictures"],
                stains,
                "lllr",
            ),
        ],
    )  # fmt: skip


def compare_hospitals(found: Content, drift: pd.DataFrame) -> Told:
    """Tell how far hospitals lie apart, by pair, and from those that train by measure.

    Parameters
    ----------
    found : mapping
        Content of metrics/colorimetry.json.
    drift : pandas.DataFrame
        ``hospital``, ``other``, ``measure`` and ``distance`` of each pair.
    """
    by_hospital = found["by_hospital"]
    names = list(by_hospital)
    pairs = drift.groupby(["hospital", "other"])["distance"].mean().to_dict()
    rows: list[list[Cell]] = [
        [one, *("." if one == other else _shade(pairs.get(min((one, other), (other, one))))
                for other in names)]
        for one in names
    ]  # fmt: skip
    measures = list(dict.fromkeys(drift["measure"]))
    by_measure: list[list[Cell]] = [
        [name, _shade(own["drift"]["mean"]),
         *(_shade(own["drift"]["by_measure"].get(one)) for one in measures)]
        for name, own in by_hospital.items()
    ]  # fmt: skip
    far = {
        name: own["drift"]["mean"]
        for name, own in by_hospital.items()
        if not math.isnan(own["drift"]["mean"])
    }
    lead = "No two hospitals share a class with enough pictures, so that no distance is known."
    if far:
        furthest = max(far, key=lambda name: far[name])
        lead = (
            f"Furthest from the hospitals that train lies {furthest} ({far[furthest]:.2f} standard "
            "deviations on average). Told apart by one measure alone, pictures of two hospitals "
            "are called rightly about 7 of 10 times at a distance of 1, and 9 of 10 times at 3."
        )
    return Told(
        lead,
        [
            Table("Mean distance of two hospitals, same classes", ["hospital", *names], rows,
                  "l" + "r" * len(names)),
            Table("Distance from the hospitals that train, by measure",
                  ["hospital", "mean", *map(plain, measures)], by_measure,
                  "l" + "r" * (len(measures) + 1)),
        ],
    )  # fmt: skip


def compare_with_reference(found: Content, unlike: pd.DataFrame) -> Told:
    """Tell which pictures are like those of the reference hospital in colour.

    Parameters
    ----------
    found : mapping
        Content of metrics/colorimetry.json.
    unlike : pandas.DataFrame
        ``image_id``, ``label``, ``distance`` and ``measure`` of those that are not, the furthest
        first.
    """
    by_hospital, classes, rule = found["by_hospital"], found["classes"], found["similar"]
    done = {
        "keep": "All are kept (quality.similar in params.yaml).",
        "flag": "They are listed in metrics/colorimetry/unlike.csv, and kept.",
        "drop": "The split leaves them out; metrics/colorimetry/unlike.csv lists them.",
    }
    rows: list[list[Cell]] = [
        [name, f"{own['n_images']:,}", f"{own['similar']['median_distance']:.1f}",
         _say_share(own["similar"]),
         *(_say_share(own["by_class"][one]["similar"]) if one in own["by_class"] else NONE
           for one in classes)]
        for name, own in by_hospital.items()
    ]  # fmt: skip
    blocks: list[Block | Folded] = [
        Table(
            f"Pictures like those of {rule['reference']}",
            ["hospital", "pictures", "median distance", "alike", *map(plain, classes)],
            rows,
            "l" + "r" * (len(classes) + 3),
        ),
        Sentence(
            "Alike: mean and spread of red, green and blue, and saturation, each lie within "
            f"{rule['within']:g} robust standard deviations of the reference's median. Where "
            "classes lose different shares, a selection by colour is also one by class."
        ),
    ]
    if len(unlike):
        listed = [
            [row.image_id, plain(row.label), f"{row.distance:.1f}", plain(row.measure)]
            for row in unlike.head(N_LISTED).itertuples()
        ]
        headings = ["picture", "class", "distance", "furthest measure"]
        title = f"The {len(listed)} that are least alike"
        blocks.append(Folded(title, [Table("Unlike the reference", headings, listed, "llrl")]))
    return Told(
        f"{len(unlike):,} of {found['n_images']:,} pictures have colours unlike those of "
        f"{rule['reference']}. {done[rule['choice']]}",
        blocks,
    )


def _say_class(own: Content, label: str) -> str:
    block = own["by_class"].get(label)
    return f"{block['luminance']['p50']:.0f}" if block else NONE


def _show_cell(seen: Seen | None, label: str, hospital: str) -> Cell:
    if seen is None:
        return NONE
    return Markup('<img style="display:block;width:{}rem" src="{}" alt="mean {} of {}">{}').format(
        CELL_SIDE, seen.src, plain(label), hospital, count(seen.n, "cells")
    )


def _draw_profile(profile: np.ndarray, y: Axis, what: str) -> Markup:
    n_rings = profile.shape[1]
    places = (np.arange(n_rings) + 0.5) / n_rings
    curves = [
        Curve(word, [(float(x), float(v)) for x, v in zip(places, own, strict=True)], colour)
        for (word, own), colour in zip(
            zip(STAIN_WORDS.values(), profile, strict=True), "adb", strict=True
        )
    ]
    x = Axis("centre 0, rim 1", 0, 1)
    return draw_curves(curves, x, y, f"Stains from centre to rim: {what}")


def _outwards(value: float, sign: int) -> float:
    """Return the next half below or above; 0 at least, or at most."""
    return sign * max(math.ceil(sign * value * 2) / 2, 0.0)


def _say_stain(stain: Sequence[float] | None) -> Cell:
    """Return the parts of a stain beside a square of its colour."""
    if stain is None:
        return NONE
    levels = [round(255 * math.exp(-DENSITY * max(part, 0.0))) for part in stain]
    return Markup(
        '<svg class="swatch" viewBox="0 0 1 1" aria-hidden="true"><rect width="1" height="1" '
        'fill="rgb({},{},{})"/></svg> {}'
    ).format(*levels, ", ".join(f"{part:.2f}" for part in stain))


def _shade(value: float | None) -> Cell:
    """Return a distance, the darker the further."""
    if value is None or math.isnan(value):
        return NONE
    share = f"{100 * min(value / FAR, 1.0):.0f}%"
    return Markup('<span class="shade" style="--share:{}">{}</span>').format(share, f"{value:.2f}")


def _say_share(block: Content) -> Cell:
    return stack([say_percent(block["n_similar"] / block["n"]), f"of {block['n']:,}"])
