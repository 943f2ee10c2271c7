"""relabel: what another label scheme changes. images -> stdout, metrics/labels/diff.csv.

python -m stages.tools.relabel diff A B
"""

import argparse
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import params, revisions
from stages.core.errors import HospitalError, did_you_mean, name_some, run_stage
from stages.core.shares import describe_share
from stages.core.store import write_csv
from stages.core.tables import IMAGES, PREDICTIONS, SCORED_PARTS
from stages.core.texts import clean
from stages.datasets import hospitals
from stages.labels import reviews, taxonomy
from stages.labels.taxonomy import Taxonomy

SCHEMES = ("before", "after")
CHANGE = ["hospital", "published_label", "before", "after"]
NONE = "none"


def are_maps(before: str, after: str) -> bool:
    """Tell whether two names are of label maps, ``[REVISION:]path.csv``, and not of taxonomies.

    Raises
    ------
    HospitalError
        One is a map and the other a taxonomy.
    """
    kinds = [":" in name or name.endswith(".csv") for name in (before, after)]
    if kinds[0] != kinds[1]:
        map_name, other = (before, after) if kinds[0] else (after, before)
        raise HospitalError(
            f"{map_name!r} is a label map and {other!r} is none. Compare two taxonomies, or two "
            "versions of one label map: [REVISION:]data/labels/<hospital>.csv."
        )
    return kinds[0]


def name_hospital(before: str, after: str, hospitals: Sequence[str]) -> str:
    """Return the hospital whose label map both names are versions of: the name of the file.

    Raises
    ------
    HospitalError
        They are of two hospitals, or of one that is not in the experiment.
    """
    first, second = (Path(name.rpartition(":")[2]).stem for name in (before, after))
    if first != second:
        raise HospitalError(
            f"{before} and {after} are label maps of two hospitals, {first!r} and {second!r}. "
            "Compare two versions of one."
        )
    if first not in hospitals:
        hint = did_you_mean(first, hospitals)
        raise HospitalError(
            f"{before} is the label map of {first!r}, which is not in hospitals of params.yaml."
            f"{hint} Known: {', '.join(hospitals)}."
        )
    return first


def list_changes(images: pd.DataFrame) -> pd.DataFrame:
    """List the images whose class differs between two schemes.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``hospital``, ``published_label``, ``before`` and ``after``; the last
        three may be empty, a class where the image is in none.

    Returns
    -------
    pandas.DataFrame, shape (n_changed, 5)
        These columns, sorted by image_id. To come into a class, or to leave one, is a change.
    """
    before, after = (images[name].fillna("") for name in SCHEMES)
    changed = images.loc[before != after, ["image_id", *CHANGE]]
    return changed.sort_values("image_id", ignore_index=True)


def translate(source: Taxonomy, target: Taxonomy, images: pd.DataFrame) -> dict[str, str]:
    """Say what each class that a model answers is in another taxonomy.

    Parameters
    ----------
    source : Taxonomy
        The model's.
    target : Taxonomy
        The other one.
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs the column ``source.by``: the cell types, or diagnoses, that occur.

    Returns
    -------
    dict of str to str
        Only classes of which all cell types that occur (all at all, where none does) are in one
        class of `target`: of an answer "neutrophil" nobody can tell whether "band" or "segmented"
        was meant. Between a taxonomy by cell type and one by diagnosis there is no translation.
    """
    if source.by != target.by:
        return {}
    occurring = set(images[source.by].dropna())
    found: dict[str, str] = {}
    for label in source.classes:
        values = [value for value, own in source.class_of.items() if own == label]
        possible = [value for value in values if value in occurring] or values
        others = {target.class_of.get(value) for value in possible}
        if len(others) == 1 and (other := others.pop()) is not None:
            found[label] = other
    return found


def rescore(
    images: pd.DataFrame,
    predicted: "pd.Series[str]",
    translations: Mapping[str, Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Score stored predictions by two schemes, with nothing trained anew.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``before`` and ``after``, the true class by each scheme; empty where it is in none.
    predicted : pandas.Series of str, shape (n_images,)
        The model's answer, on the same index.
    translations : mapping of str to mapping
        For ``before`` and ``after``, what each answer is there; one that is not listed is
        undetermined.

    Returns
    -------
    list of dict
        Four: by each scheme on the images that ``both`` keep, then on its ``own``. Each has
        ``images``, ``scheme``, ``accuracy`` (of the images whose answer is determined; on those of
        both, by both) and ``n_undetermined``, the other images.
    """
    truth = {name: images[name] for name in SCHEMES}
    answer = {name: predicted.map(dict(translations[name])) for name in SCHEMES}
    kept = {name: truth[name].notna() for name in SCHEMES}
    told = {name: answer[name].notna() for name in SCHEMES}
    kept_by_both, told_by_both = (one["before"] & one["after"] for one in (kept, told))
    asked = [("both", name, kept_by_both, told_by_both) for name in SCHEMES]
    asked += [("own", name, kept[name], told[name]) for name in SCHEMES]
    rows = []
    for which, name, is_kept, is_told in asked:
        scored = is_kept & is_told
        hits = truth[name][scored] == answer[name][scored]
        rows.append(
            {
                "images": which,
                "scheme": name,
                "accuracy": describe_share(int(hits.sum()), int(scored.sum())),
                "n_undetermined": int((is_kept & ~is_told).sum()),
            }
        )
    return rows


def explain_unscored(predicted: "pd.Series[str]", source: Taxonomy) -> str | None:
    """Say why stored predictions cannot be scored; None where they can."""
    strange = sorted(set(predicted) - set(source.classes))
    if strange:
        return (
            f"data/predictions is of another taxonomy than {source.name} of params.yaml: "
            f"it holds {name_some(strange)}. Run 'uv run dvc repro' for scores."
        )
    return None if len(predicted) else "data/predictions holds none of these images."


def lay_out_changes(before: str, after: str, changes: pd.DataFrame, n_images: int) -> list[str]:
    """Lay out how many images change class, by hospital and published label.

    Parameters
    ----------
    before, after : str
        What the schemes are called.
    changes : pandas.DataFrame
        As `list_changes` gives it.
    n_images : int
        Of which they are.

    Returns
    -------
    list of str
        Lines; the table is at most 100 columns wide, and long names end in two dots.
    """
    lost, won = int(changes["after"].isna().sum()), int(changes["before"].isna().sum())
    lines = [
        f"before: {before}",
        f"after:  {after}",
        f"{len(changes)} of {n_images} images change class; {lost} of them lose theirs, "
        f"{won} had none.",
    ]
    if changes.empty:
        return lines
    counts = changes[CHANGE].fillna(NONE).value_counts(sort=False).sort_index()
    rows = [[*map(str, key), str(n)] for key, n in counts.items()]
    heading = ["hospital", "published label", "before", "after", "images"]
    return [*lines, "", *_lay_out_table(heading, rows, (15, 26, 22, 22, 7), "<<<<>")]


def lay_out_scores(scores: Sequence[Mapping[str, Any]], simulated: Sequence[str]) -> list[str]:
    """Lay out what `rescore` returned, as lines of at most 100 columns.

    Parameters
    ----------
    scores : sequence of mapping
        As `rescore` gives them.
    simulated : sequence of str
        Hospitals whose images were drawn by a program; the last line warns of them.
    """
    rows = []
    for row in scores:
        share = row["accuracy"]
        span = f"{share['low']:.4f} to {share['high']:.4f}" if share["n"] else NONE
        rows.append(
            [
                "kept by both" if row["images"] == "both" else f"kept {row['scheme']}",
                row["scheme"],
                f"{share['value']:.4f}" if share["n"] else NONE,
                span,
                str(share["n"]),
                str(row["n_undetermined"]),
            ]
        )
    heading = ["images", "classes", "accuracy", "interval", "scored", "undetermined"]
    warning = f"Simulated, no evidence of accuracy on real cells: {name_some(simulated)}."
    return [
        "Stored predictions, nothing trained anew: what the change of classes alone does.",
        "",
        *_lay_out_table(heading, rows, (12, 7, 8, 20, 10, 12), "<<><>>"),
        "",
        "Interval: 95 %, Wilson, images as independent. Undetermined: the predicted class is split",
        "or dropped there, so that these images are not scored.",
        *(textwrap.wrap(warning, 100) if simulated else []),
    ]


def _lay_out_table(
    heading: Sequence[str], rows: Sequence[Sequence[str]], limits: Sequence[int], align: str
) -> list[str]:
    clipped = [list(map(_clip, row, limits)) for row in [heading, *rows]]
    widths = [max(map(len, column)) for column in zip(*clipped, strict=True)]
    places = list(zip(align, widths, strict=True))
    lines = [
        "  ".join(
            f"{cell:{side}{width}}" for cell, (side, width) in zip(row, places, strict=True)
        ).rstrip()
        for row in clipped
    ]
    return [lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]]


def _clip(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 2] + ".."


COLUMNS = ["image_id", "hospital", "published_label", "diagnosis", "pixel_sha256"]
CHANGES = Path("metrics/labels/diff.csv")


def diff(before: str, after: str) -> None:
    """Print which images change class, and what that alone does to the stored predictions."""
    rule = params.load("hospitals", "taxonomy")
    present = taxonomy.read_taxonomy(rule.taxonomy)
    if are_maps(before, after):
        hospital = name_hospital(before, after, rule.hospitals)
        images = _label_by_maps(hospital, [before, after], present)
        same = {label: label for label in present.classes}  # another map says nothing of answers
        translations = dict.fromkeys(SCHEMES, same)
    else:
        chosen = [taxonomy.read_taxonomy(name, "diff") for name in (before, after)]
        images = _label_by_taxonomies(rule.hospitals, chosen)
        translations = {
            scheme: translate(present, one, images)
            for scheme, one in zip(SCHEMES, chosen, strict=True)
        }
    changes = list_changes(images)
    lines = lay_out_changes(before, after, changes, len(images))
    if all(PREDICTIONS.at(name).is_file() for name in rule.hospitals):
        lines += ["", *_rescore(rule.hospitals, images, present, translations)]
    write_csv(CHANGES, changes)
    sys.stdout.write("\n".join([*lines, "", f"Every changed image: {CHANGES}", ""]))


def _label_by_maps(hospital: str, names: list[str], present: taxonomy.Taxonomy) -> pd.DataFrame:
    """Label a hospital's images by two versions of its map; a label without a line has no class."""
    images = IMAGES.read(hospital, COLUMNS)
    for scheme, name in zip(SCHEMES, names, strict=True):
        text = revisions.read_at(name) if ":" in name else taxonomy.read_text(Path(name))
        label_map = taxonomy.parse_label_map(name, text)
        images["cell_type"] = taxonomy.look_up(images["published_label"], label_map)
        images = _go_by_reviews(images, [hospital])
        images[scheme] = taxonomy.to_label(images, present)
    return images


def _label_by_taxonomies(names: list[str], chosen: list[taxonomy.Taxonomy]) -> pd.DataFrame:
    """Label the images of all hospitals by two taxonomies, with the label maps of today."""
    pieces = []
    for hospital in names:
        images = IMAGES.read(hospital, COLUMNS)
        published = images["published_label"]
        label_map = taxonomy.read_label_map(hospital, published.dropna())
        images["cell_type"] = taxonomy.to_cell_type(hospital, published, label_map)
        pieces.append(images)
    images = _go_by_reviews(pd.concat(pieces, ignore_index=True), names)
    for scheme, one in zip(SCHEMES, chosen, strict=True):
        images[scheme] = taxonomy.to_label(images, one)
    return images


def _go_by_reviews(images: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Put cell types that people saw in the place of published ones, as harmonise does.

    Images without a usable cell go: no scheme takes them.
    """
    clean_ids = images["image_id"].map(clean)
    pixels = dict(zip(clean_ids, images["pixel_sha256"], strict=True))
    answers = reviews.settle(reviews.read(), pixels, {}, names).answers
    answer = pd.Series([answers.get(one) for one in clean_ids], images.index, dtype="str")
    return images.assign(cell_type=answer.fillna(images["cell_type"]))[answer.ne("")]


def _rescore(
    names: list[str],
    images: pd.DataFrame,
    present: taxonomy.Taxonomy,
    translations: dict[str, dict[str, str]],
) -> list[str]:
    stored = PREDICTIONS.read_all(names, ["image_id", "part", "predicted"])
    stored = stored[stored["part"].isin(SCORED_PARTS)]
    scored = images.merge(stored, on="image_id", validate="one_to_one")
    reason = explain_unscored(scored["predicted"], present)
    if reason:
        return [f"No scores: {reason}"]
    scores = rescore(scored, scored["predicted"], translations)
    drawn = [name for name in sorted(set(scored["hospital"])) if hospitals.load(name).simulated]
    return lay_out_scores(scores, drawn)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m stages.tools.relabel", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("diff", help="compare two schemes")
    what = "a taxonomy, or a label map: [REVISION:]data/labels/<hospital>.csv"
    command.add_argument("before", metavar="A", help=what)
    command.add_argument("after", metavar="B", help="another of the same kind")
    return parser.parse_args()


if __name__ == "__main__":
    asked = _parse_arguments()
    del sys.argv[1:]  # run_stage names the timing by the arguments; a path has slashes
    run_stage(partial(diff, asked.before, asked.after))
