"""What the page of maps tells: how far classes and hospitals are mixed, and the maps themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.evaluation import mixing
from stages.pages.blocks import Block, Cell, Folded, Section, Sentence, Table, Told
from stages.pages.words import count, draw_bar, say, say_value

Content = Mapping[str, Any]

ALL = "all"
NO_MAP = "without a map"
HEADINGS = (
    "same class (95 %)", "0 to 1", "by chance", "same hospital (95 %)", "0 to 1", "by chance",
)  # fmt: skip
UNSEEN = (
    "Classes of hospitals that the model never saw colour the marks and are counted here; no map, "
    "no sample and no model is chosen by them."
)
PLACED = (
    "On the maps of t-SNE and UMAP a picture that did not teach the map lies at the mean of its "
    "nearest neighbours that did. So a hospital that lies apart in truth lies among the others "
    "there: how far apart hospitals are is told by the rows without a map."
)
INTERVALS = (
    "An interval redraws the patients, or the pictures where none are published, and is then too "
    "narrow; it says nothing of hospitals to come. A picture's own patient, slide and near twins "
    "are not counted as its neighbours."
)
READING = (
    "The maps of a pair are the same but for what the marks tell. Hollow marks taught the map; "
    "filled ones did not. Click a map, or step through it with the arrow keys, to see the nearest "
    "picture, and a ring around its mark on all maps; Escape closes it."
)
NO_SCRIPT = "Where scripts are blocked, the maps are the same and no picture is shown."
ABOUT = {
    "pca": "PCA: the two directions in which the training pictures differ most; no label is used.",
    "lda": "LDA: the two directions that part the classes of the training pictures best; filled "
    "marks tell whether that holds for others.",
    "tsne": "t-SNE: neighbours among the training pictures stay neighbours; distances between "
    "islands mean nothing.",
    "umap": "UMAP: as t-SNE, by another rule; distances between islands mean little.",
}


def name_space(space: str, names: Mapping[str, str]) -> str:
    """Return the name of a map's method, or what stands for none."""
    return NO_MAP if space == ALL else names[space]


def tell_mixing(report: Content, kinds: Mapping[str, str], names: Mapping[str, str]) -> Told:
    """Tell how many neighbours of a picture are of its class, and of its hospital.

    Parameters
    ----------
    report : mapping
        Content of metrics/maps.json.
    kinds : mapping of str to str
        By name in the report what is mapped, in words.
    names : mapping of str to str
        By name in the report the methods, in words.
    """
    blocks: list[Block | Folded] = []
    said = []
    for kind, title in kinds.items():
        spaces = report["mixing"][kind]
        whole = spaces[ALL]["all"]
        said.append(f"in {title}, {_say_ratio(whole)}")
        rows = [
            [name_space(space, names), *_say_cells(found["all"])] for space, found in spaces.items()
        ]
        heading = f"{title.capitalize()}, all hospitals together"
        blocks.append(Table(heading, ["where", *HEADINGS], rows, "lrbrrbr"))
    lead = (
        f"Of the {mixing.K} nearest neighbours of a picture, without a map: "
        + "; ".join(said)
        + "."
    )
    blocks += [Sentence(UNSEEN), Sentence(PLACED), Sentence(INTERVALS)]
    left_out = {name: why for found in report["left_out"].values() for name, why in found.items()}
    blocks += [
        Sentence(f"{names[name]} is left out: {why}.", is_warning=True)
        for name, why in left_out.items()
    ]
    return Told(lead, blocks)


def tell_hospitals(report: Content, kinds: Mapping[str, str], names: Mapping[str, str]) -> Told:
    """Tell the same of each hospital's pictures; of the maps, on demand."""
    blocks: list[Block | Folded] = []
    for kind, title in kinds.items():
        for space, found in report["mixing"][kind].items():
            rows = [[name, *_say_cells(own)] for name, own in found["by_hospital"].items()]
            heading = f"{title.capitalize()}, {name_space(space, names)}"
            table = Table(heading, ["hospital", *HEADINGS], rows, "lrbrrbr")
            blocks.append(table if space == ALL else Folded(heading, [table]))
    spaces = {kind: report["mixing"][kind][ALL]["by_hospital"] for kind in kinds}
    lead = " ".join(
        f"In {title} the pictures that keep to themselves the most are those of "
        f"{_find_most_apart(spaces[kind])}."
        for kind, title in kinds.items()
    )
    return Told(lead, blocks)


def list_sections(
    report: Content,
    kinds: Mapping[str, str],
    names: Mapping[str, str],
    charts: Mapping[str, Sequence[Block]],
) -> list[Section]:
    """Return the sections of the page.

    Parameters
    ----------
    report, kinds, names
        As `tell_mixing` takes them.
    charts : mapping of str to sequence of Block
        By kind, the maps.
    """
    shown = (
        f"{count(report['n_fitted'], 'pictures')} of the training part taught the maps; "
        f"{count(report['n_placed'], 'pictures')} are placed on them and counted. "
    )
    return [
        Section("mixing", "How far classes and hospitals are mixed",
                tell_mixing(report, kinds, names)),
        *(
            Section(kind, f"Maps of {title}",
                    Told(shown + READING, [Sentence(NO_SCRIPT), *charts[kind]]))
            for kind, title in kinds.items()
        ),
        Section("hospitals", "Each hospital", tell_hospitals(report, kinds, names)),
    ]  # fmt: skip


def _say_ratio(block: Content) -> str:
    own, place = block["class"], block["hospital"]
    if own["value"] is None:
        return "nothing can be told"
    return (
        f"{say(own['value'])} are of its class ({say(own['chance'])} by chance) and "
        f"{say(place['value'])} of its hospital ({say(place['chance'])})"
    )


def _say_cells(block: Content) -> list[Cell]:
    cells: list[Cell] = []
    for asked in mixing.ASKED:
        own = block[asked]
        cells += [
            say_value(own, own.get("reason")), draw_bar(own, own["chance"]), say(own["chance"]),
        ]  # fmt: skip
    return cells


def _find_most_apart(found: Content) -> str:
    """Return the hospital whose pictures have the most neighbours of their own beyond chance."""
    beyond = {
        name: own["hospital"]["value"] - own["hospital"]["chance"]
        for name, own in found.items()
        if own["hospital"]["value"] is not None
    }
    if not beyond:
        return "no hospital that could be asked"
    name = max(beyond, key=lambda one: (beyond[one], one))
    own = found[name]["hospital"]
    return f"{name} ({say(own['value'])}, by chance {say(own['chance'])})"
