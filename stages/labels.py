"""labels: what another label scheme changes. images -> stdout, metrics/labels/diff.csv.

python -m stages.labels diff A B
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import pandas as pd

from stages.core import hospitals, intervals, params, relabelling, revisions, taxonomy
from stages.core.errors import run_stage
from stages.core.relabelling import SCHEMES
from stages.core.store import write_csv
from stages.core.tables import IMAGES, PREDICTIONS

COLUMNS = ["image_id", "hospital", "published_label", "diagnosis"]
CHANGES = Path("metrics/labels/diff.csv")


def diff(before: str, after: str) -> None:
    """Print which images change class, and what that alone does to the stored predictions."""
    rule = params.load("hospitals", "taxonomy")
    present = taxonomy.read_taxonomy(rule.taxonomy)
    if relabelling.are_maps(before, after):
        hospital = relabelling.name_hospital(before, after, rule.hospitals)
        images = _label_by_maps(hospital, [before, after], present)
        same = {label: label for label in present.classes}  # another map says nothing of answers
        translations = dict.fromkeys(SCHEMES, same)
    else:
        chosen = [taxonomy.read_taxonomy(name, "diff") for name in (before, after)]
        images = _label_by_taxonomies(rule.hospitals, chosen)
        translations = {
            scheme: relabelling.translate(present, one, images)
            for scheme, one in zip(SCHEMES, chosen, strict=True)
        }
    changes = relabelling.list_changes(images)
    lines = relabelling.lay_out_changes(before, after, changes, len(images))
    if PREDICTIONS.at().is_file():
        lines += ["", *_rescore(images, present, translations)]
    write_csv(CHANGES, changes)
    sys.stdout.write("\n".join([*lines, "", f"Every changed image: {CHANGES}", ""]))


def _label_by_maps(hospital: str, names: list[str], present: taxonomy.Taxonomy) -> pd.DataFrame:
    """Label a hospital's images by two versions of its map; a label without a line has no class."""
    images = IMAGES.read(hospital, COLUMNS)
    for scheme, name in zip(SCHEMES, names, strict=True):
        text = revisions.read_at(name) if ":" in name else taxonomy.read_text(Path(name))
        label_map = taxonomy.parse_label_map(name, text)
        images["cell_type"] = taxonomy.look_up(images["published_label"], label_map)
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
    images = pd.concat(pieces, ignore_index=True)
    for scheme, one in zip(SCHEMES, chosen, strict=True):
        images[scheme] = taxonomy.to_label(images, one)
    return images


def _rescore(
    images: pd.DataFrame, present: taxonomy.Taxonomy, translations: dict[str, dict[str, str]]
) -> list[str]:
    stored = PREDICTIONS.read(columns=["image_id", "predicted"])
    scored = images.merge(stored, on="image_id", validate="one_to_one")
    reason = relabelling.explain_unscored(scored["predicted"], present)
    if reason:
        return [f"No scores: {reason}"]
    share = intervals.describe_share
    scores = relabelling.rescore(scored, scored["predicted"], translations, share)
    drawn = [name for name in sorted(set(scored["hospital"])) if hospitals.load(name).simulated]
    return relabelling.lay_out_scores(scores, drawn)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m stages.labels", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("diff", help="compare two schemes")
    what = "a taxonomy, or a label map: [REVISION:]data/labels/<hospital>.csv"
    command.add_argument("before", metavar="A", help=what)
    command.add_argument("after", metavar="B", help="another of the same kind")
    return parser.parse_args()


if __name__ == "__main__":
    asked = _parse_arguments()
    del sys.argv[1:]  # run_stage names the timing by the arguments; a path has slashes
    run_stage(partial(diff, asked.before, asked.after))
