"""Model card and data card: what a stranger must know of a model and its pictures, as measured.

No number and no name in them is typed: all come from the metrics and tables of the experiment.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import tables
from stages.core.errors import PipelineError, name_some, say_counts
from stages.core.params import Params
from stages.core.store import metrics_path
from stages.evaluation import unknown_types
from stages.labels.taxonomy import Taxonomy, read_taxonomy
from stages.pages import markdown, wording

Block = Mapping[str, Any]

NEEDED = ("harmonise", "split", "evaluate")
OTHERS = ("probe", "bias", "novelty", "suspects")  # a card without them says so
MODEL = Path("data/model/card.json")
FEW_LEARNT = 50  # pictures; a class of fewer is told of
MEASURES = {
    "cell_radius": "cell radius, px", "white_r": "red", "white_g": "green", "white_b": "blue",
    "saturation": "saturation", "sharpness": "sharpness", "nucleus_od": "nucleus density",
}  # fmt: skip
DEFECTS = {
    "n_odd_size": "Not of the camera's usual size", "n_fewer_bits": "Of fewer bits than usual",
    "n_near_twins": "Near twins of another one here",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What the cards tell, as the stages before wrote it.

    Attributes
    ----------
    rule : Params
        With ``hospitals``, ``model``, ``split`` and ``seed``.
    taxonomy : Taxonomy
        Which cell types, or diagnoses, each class stands for.
    model : mapping
        Content of data/model/card.json.
    images : pandas.DataFrame, shape (n_images, n_columns)
        Columns of `tables.LABELS`, with ``part``, of each usable picture.
    about : dict of str to mapping
        By hospital ``title``, ``licence``, ``citation`` and ``page``.
    copies : dict of str to str
        By hospital the one that it is a copy or a part of; without those that are none.
    counted : dict of str to mapping
        By hospital the content of metrics/filter/<hospital>.json.
    measured : dict of str to mapping
        The same of metrics/quality.
    metrics : dict of str to (mapping or None)
        By stage the content of metrics/<stage>.json; None where it was not run.
    """

    rule: Params
    taxonomy: Taxonomy
    model: Block
    images: pd.DataFrame
    about: dict[str, Block]
    copies: dict[str, str]
    counted: dict[str, Block]
    measured: dict[str, Block]
    metrics: dict[str, Any]

    def own(self, hospital: str, *parts: str) -> pd.DataFrame:
        """Return the pictures of a hospital; with `parts`, those of these parts alone."""
        rows = self.images[self.images["hospital"] == hospital]
        return rows[rows["part"].isin(parts)] if parts else rows

    def role(self, hospital: str) -> str:
        """Return "trains", "is unseen" or "is not used"."""
        held = set(self.own(hospital)["part"])
        return "trains" if "train" in held else "is unseen" if "unseen" in held else "is not used"

    @property
    def simulated(self) -> list[str]:
        """The hospitals whose pictures are drawn."""
        told = self.metrics["harmonise"]["by_hospital"]
        return [name for name in sorted(self.rule.hospitals) if told[name]["simulated"]]


def read_facts(rule: Params) -> Facts:
    """Read what the stages of this experiment wrote, in the project's folder.

    Parameters
    ----------
    rule : Params
        With ``hospitals``, ``taxonomy``, ``model``, ``split`` and ``seed``.

    Raises
    ------
    PipelineError
        A file is missing, is no JSON, or tells of hospitals that are not in the experiment.
    """
    metrics = {stage: _read(metrics_path(stage)) for stage in NEEDED}
    there = {stage: metrics_path(stage) for stage in OTHERS if metrics_path(stage).exists()}
    metrics |= dict.fromkeys(OTHERS) | {stage: _read(path) for stage, path in there.items()}
    for stage, content in metrics.items():
        _require_own(metrics_path(stage), content, rule.hospitals)
    labels = tables.LABELS.read()
    labels = labels[labels["hospital"].isin(rule.hospitals)]
    parts = tables.SPLIT.read_all(rule.hospitals, ["image_id", "part", "left_out_reason"])
    raw, about = Path("data/raw"), Path("data/about")
    found = {name: _read(raw / name / "contents.json").get("same_as") for name in rule.hospitals}
    return Facts(
        rule=rule,
        taxonomy=read_taxonomy(rule.taxonomy),
        model=_read(MODEL),
        images=labels.merge(parts, how="left", on="image_id"),
        about={name: _read(about / f"{name}.json") for name in rule.hospitals},
        copies={name: same for name, same in found.items() if same},
        counted={name: _read(metrics_path("filter", name)) for name in rule.hospitals},
        measured={name: _read(metrics_path("quality", name)) for name in rule.hospitals},
        metrics=metrics,
    )


def write_model_card(facts: Facts) -> str:
    """Return the model card, in Markdown."""
    hospitals, metrics = sorted(facts.rule.hospitals), facts.metrics
    scored = metrics["evaluate"]["by_hospital"]
    names = sorted(scored, key=lambda name: (scored[name]["part"], name))
    unseen = [name for name in names if scored[name]["part"] == "unseen"]
    licences = {name: facts.about[name]["licence"] for name in hospitals}
    return markdown.render(
        "model_card.md.jinja",
        facts=facts,
        recipe=wording.say_recipe(facts.model["recipe"]),
        inputs=wording.say_inputs(facts.model["inputs"]),
        limits=list(_say_limits(facts, unseen)),
        classes=[_tell_class(name, facts) for name in facts.model["classes"]],
        trained=[_tell_training(name, facts) for name in hospitals if facts.role(name) == "trains"],
        closed={name: text for name, text in licences.items() if not wording.is_open(text)},
        scores={name: scored[name] for name in names},
        unseen=unseen,
        notes=sorted({one["interval_note"] for one in scored.values() if "interval_note" in one}),
        cited=_group_citations(facts),
        **metrics,
    )


def write_data_card(facts: Facts) -> str:
    """Return the data card, in Markdown."""
    hospitals = sorted(facts.rule.hospitals)
    return markdown.render(
        "data_card.md.jinja",
        simulated=facts.simulated,
        n_images=f"{len(facts.images):,}",
        taxonomy=facts.rule.taxonomy,
        measures=list(MEASURES.values()),
        medians=[_tell_medians(name, facts.measured[name]) for name in hospitals],
        hospitals=[_tell_hospital(name, facts) for name in hospitals],
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing. Run 'uv run dvc repro', which makes it.") from None
    except ValueError:
        raise PipelineError(f"{path} is no JSON. Delete it and run 'uv run dvc repro'.") from None


def _require_own(path: Path, content: Any, hospitals: Sequence[str]) -> None:
    """Refuse what another experiment left: a card of two experiments would look right."""
    told = set(_name_hospitals(content))
    strange = told - set(hospitals)
    if path == metrics_path("harmonise"):  # it tells of every hospital
        strange = told ^ set(hospitals)
    if strange:
        raise PipelineError(
            f"{path} and params.yaml do not name the same hospitals "
            f"({name_some(sorted(strange))}): it is of another experiment. "
            "Run 'uv run dvc repro', which makes it anew."
        )


def _name_hospitals(content: Any) -> Iterator[str]:
    for key, value in content.items() if isinstance(content, dict) else ():
        if key in ("by_hospital", "n_images_by_hospital"):
            yield from value or ()
        else:
            yield from _name_hospitals(value)


def _tell_class(name: str, facts: Facts) -> list[str]:
    """Return a class, what it stands for, and how many pictures it was learnt from."""
    train = facts.images[facts.images["part"] == "train"]
    counts = train["cell_type"].value_counts()
    stands = [value for value, label in facts.taxonomy.class_of.items() if label == name]
    if facts.taxonomy.by == "cell_type" and len(stands) > 1:
        stands = [f"{value} ({counts.get(value, 0):,})" for value in stands]
    return [name, ", ".join(stands), f"{(train['label'] == name).sum():,}"]


def _tell_training(name: str, facts: Facts) -> list[str]:
    train, valid = facts.own(name, "train"), facts.own(name, "valid")
    copy = f" (a copy or a part of {facts.copies[name]})" if name in facts.copies else ""
    about = facts.about[name]
    return [name, about["title"] + copy, _say_size(train), f"{len(valid):,}", about["licence"]]


def _say_size(rows: pd.DataFrame) -> str:
    return wording.say_size(
        len(rows), rows["group"].nunique(), " + ".join(sorted(set(rows["unit"])))
    )


def _say_limits(facts: Facts, unseen: Sequence[str]) -> Iterator[str]:
    """Say what follows from the numbers, where anything does."""
    scored, classes = facts.metrics["evaluate"]["by_hospital"], facts.model["classes"]
    learnt = facts.images.loc[facts.images["part"] == "train", "label"].value_counts()
    shown = {name for place in unseen for name, n in scored[place]["n_by_class"].items() if n}
    found = {
        "More of the accepted calls are wrong than promised at": [
            place for place in unseen if scored[place]["doubt"]["home"].get("promise") == "broken"
        ],
        "No better than one answer for all, as far as the test tells, at": [
            place for place, block in scored.items() if _is_useless(block)
        ],
        "Too few were tested to say how sure the scores are at": [
            place for place, block in scored.items() if "interval_reason" in block
        ],
        "Patients are not published, or not of all, so that scores in domain are too good, at": [
            place
            for place, block in scored.items()
            if block["part"] == "test" and "interval_note" in block
        ],
        f"Learnt from fewer than {FEW_LEARNT} pictures": [
            f"{name} ({learnt.get(name, 0)})"
            for name in classes
            if learnt.get(name, 0) < FEW_LEARNT
        ],
        "Shown by no unseen hospital, so that nobody knows how well they are found there": [
            name for name in classes if unseen and name not in shown
        ],
        "Of no class, so that such a cell is called one of the others": sorted(
            set(unknown_types.find_unknown(facts.images)["cell_type"])
        ),
        "No hospital of its own but a copy or a part of another": [
            f"{name} of {same}" for name, same in sorted(facts.copies.items())
        ],
        "Not tested": facts.metrics["evaluate"]["not_scored"],
    }
    yield from (f"{what}: {', '.join(names)}." for what, names in found.items() if names)


def _is_useless(block: Block) -> bool:
    accuracy = block["metrics"]["accuracy"]
    surely = accuracy["value"] if accuracy["low"] is None else accuracy["low"]
    return bool(surely <= max(block["n_by_class"].values()) / block["n_images"])


def _group_citations(facts: Facts) -> dict[str, list[str]]:
    """Return the hospitals of each citation."""
    cited: dict[str, list[str]] = {}
    for name in sorted(facts.rule.hospitals):
        cited.setdefault(facts.about[name]["citation"], []).append(name)
    return cited


def _tell_medians(name: str, measured: Block) -> list[str]:
    told = (measured["quantiles"].get(measure, {}).get("p50") for measure in MEASURES)
    return [name, *("none" if value is None else f"{value:.3g}" for value in told)]


def _tell_hospital(name: str, facts: Facts) -> dict[str, Any]:
    """Return what the data card says of a hospital."""
    own, counted = facts.own(name), facts.counted[name]
    counts = own["part"].value_counts()
    # Without the name of the relative: each is another one.
    why = own["left_out_reason"].str.replace(r" of .+ in (\w+)$", r" in \1", regex=True)
    columns = ["published_label", "cell_type", "label", "drop_reason"]
    rows = own[columns].fillna("").groupby(columns, sort=True).size()
    return {
        **facts.about[name],
        "name": name,
        "is_simulated": name in facts.simulated,
        "copy_of": facts.copies.get(name),
        "role": facts.role(name),
        "parts": _say_named({part: counts.get(part, 0) for part in tables.PARTS}),
        "left_out": _say_named(why.value_counts().sort_index().to_dict()),
        "counted": {key: f"{n:,}" for key, n in counted.items() if isinstance(n, int)},
        "rejected": _say_named(counted["n_by_reason"]),
        "n_used": f"{own['keep'].sum():,}",
        "n_patients": own["patient"].nunique() or "not published",
        "n_slides": len(own[["patient", "slide"]].dropna(subset="slide").drop_duplicates())
        or "not published",
        "defects": list(_say_defects(name, facts)),
        "labels": [
            [label or "none published", f"{n:,}", cell_type, kept or f"not used: {reason}"]
            for (label, cell_type, kept, reason), n in rows.items()
        ],
    }


def _say_named(counts: Mapping[str, int]) -> str:
    return say_counts({name.replace("_", " "): n for name, n in counts.items()})


def _say_defects(name: str, facts: Facts) -> Iterator[str]:
    counted, flags = facts.counted[name], facts.measured[name]["n_by_flag"]
    yield from (f"{what}: {counted[key]:,}" for key, what in DEFECTS.items() if counted[key])
    if any(flags.values()):
        yield f"Flagged by what was measured, and kept: {_say_named(flags)}"
    suspects = ((facts.metrics["suspects"] or {}).get("by_hospital") or {}).get(name)
    if suspects:
        n, judged = suspects["n_suspects"], suspects["n_images"]
        yield f"Labels that a program takes for wrong: {n:,} of {judged:,} learnt from"
    for coarse, one in facts.metrics["harmonise"]["by_hospital"][name]["coarse"].items():
        yield f"Labelled only coarsely, as {coarse}: {one['n_images']:,}"
