"""report: one page on the whole experiment. metrics, labels, rejected, raw -> metrics/report.

python -m stages.report [--against REVISION]

With --against it writes metrics/report/against.html: this experiment beside another one.
"""

import argparse
import hashlib
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from stages.core import params, revisions, settings
from stages.core.errors import ImageError, PipelineError, TableError, run_stage
from stages.core.params import Params
from stages.core.store import metrics_path, read_metrics, write_bytes
from stages.core.tables import LABELS, PREDICTIONS, REJECTED, SPLIT
from stages.datasets import archives, contents
from stages.evaluation import experiments, paired
from stages.images import contact_sheets, decoding
from stages.pages import data_sections, drawing, model_sections, side_by_side
from stages.pages.blocks import Folded, Listing, Picture, Pictures, Section, Table, Told

PAGE = Path("metrics/report/index.html")
AGAINST = Path("metrics/report/against.html")
METRICS = Path("metrics")
RAW, ABOUT = Path("data/raw"), Path("data/about")
MODEL, RECIPE = Path("data/model"), Path("data/recipe.json")
THUMB = 112  # px, side of a rejected picture
N_REJECTED = 8  # pictures of each reason that are shown
SHEET, OUTLINES = 1280, 480  # px, widths
HERE = "this experiment"
PURPOSE = (
    "What was asked, of which pictures, and what the model is worth. Every number is one that the "
    "stages wrote; where there is none, the reason stands in its place."
)
UNCOMPARED = ("models", "weights_dir")  # other recipes, and a path
MAPPED = ["hospital", "published_label", "cell_type", "label", "drop_reason"]

log = logging.getLogger(__name__)


def main(revision: str | None) -> None:
    """Write metrics/report/index.html, or against.html where another revision is named."""
    if revision is None:
        path, title, purpose, sections = PAGE, "Report of an experiment", PURPOSE, _tell_all()
    else:
        path, title, sections = AGAINST, "Two experiments side by side", _tell_both(revision)
        purpose = f"{HERE.capitalize()}, as it lies in the working tree, beside {revision}."
    page = drawing.render("report.html.jinja", title=title, purpose=purpose, sections=sections)
    write_bytes(path, page.encode())
    log.info("report: %s, %.1f MB", path, len(page.encode()) / 1e6)


def _tell_all() -> list[Section]:
    """Return the sections of the page on one experiment."""
    rule = params.load(
        "seed", "hospitals", "partial", "taxonomy", "filter", "quality", "inputs", "features",
        "split", "probe", "model", "on_site", "evaluate", "bias", "explain", "novelty",
        "attributes",
    )  # fmt: skip
    told: dict[str, tuple[str, Callable[[Params], Told]]] = {
        "asked": ("What was asked", _ask),
        "pictures": ("Pictures kept and rejected", _keep),
        "colours": ("Colours, sharpness and cells", _measure),
        "labels": ("Labels and classes", _name_classes),
        "split": ("Split and leaks", _divide),
        "shortcut": ("Shortcuts", _probe),
        "training": ("Training", _train),
        "scores": ("Scores", _score),
        "confusion": ("Which class is taken for which", _confuse),
        "doubt": ("Confidence and abstention", _doubt),
        "evidence": ("Where the evidence lies", _explain),
        "bias": ("What must not matter", _change),
        "novelty": ("Types that the model does not know", _meet_strangers),
        "attributes": ("What experts see in cells", _see_attributes),
        "gallery": ("Errors", _show_errors),
        "inputs": ("Parameters and checksums", _list_inputs),
    }
    return [Section(name, title, _tell(title, rule, tell)) for name, (title, tell) in told.items()]


def _tell(title: str, rule: Params, tell: Callable[[Params], Told]) -> Told:
    """Return a section; of stages that have not run, a line that says so."""
    try:
        return tell(rule)
    except FileNotFoundError as error:
        return Told(f"Not told: {error.filename} is missing; 'uv run dvc repro' makes it.")
    except TableError as error:
        return Told(f"Not told: {error}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"the section {title!r} reads metrics that are not as the stages write them "
            f"({type(error).__name__}: {error}). Run 'uv run dvc repro', which writes them anew."
        ) from error


def _ask(rule: Params) -> Told:
    labels, told = read_metrics("harmonise"), read_metrics("summary")
    about = {
        name: _read_json(ABOUT / f"{name}.json")
        for name in rule.hospitals
        if (ABOUT / f"{name}.json").is_file()
    }
    return data_sections.ask(_dump(rule), about, labels, told)


def _keep(rule: Params) -> Told:
    validated = _read_if_there("validate")
    return data_sections.keep(_read_each("filter", rule), validated, _show_rejected(rule.hospitals))


def _measure(rule: Params) -> Told:
    colours, sharpness = ({
        name: pd.read_csv(path)
        for name in rule.hospitals
        if (path := METRICS / "quality" / name / f"{plot}.csv").is_file()
    } for plot in ("colour", "sharpness"))  # fmt: skip
    sheets = {
        name: sheet
        for name in rule.hospitals
        if (sheet := _embed_sheet(f"quality/{name}/examples.png", OUTLINES))
    }
    return data_sections.measure(_read_each("quality", rule), colours, sharpness, sheets)


def _name_classes(rule: Params) -> Told:
    labels = read_metrics("harmonise")
    mapped = LABELS.read(columns=MAPPED)
    mapped = mapped[mapped["hospital"].isin(rule.hospitals)]
    sheet = _embed_sheet("suspects/examples.png")
    return data_sections.name_classes(labels, mapped, _read_if_there("suspects"), sheet)


def _divide(_: Params) -> Told:
    return data_sections.divide(read_metrics("split"), read_metrics("harmonise"))


def _probe(_: Params) -> Told:
    return model_sections.probe(read_metrics("probe"))


def _train(_: Params) -> Told:
    return model_sections.train(read_metrics("train"), pd.read_csv(METRICS / "train/history.csv"))


def _score(_: Params) -> Told:
    return model_sections.score(read_metrics("evaluate"))


def _confuse(_: Params) -> Told:
    return model_sections.confuse(pd.read_csv(METRICS / "evaluate/confusion.csv"))


def _doubt(_: Params) -> Told:
    plots = (pd.read_csv(METRICS / f"evaluate/{name}.csv") for name in ("reliability", "risk"))
    return model_sections.doubt(read_metrics("evaluate"), *plots)


def _explain(_: Params) -> Told:
    return model_sections.explain(read_metrics("explain"), _embed_sheet("explain/examples.png"))


def _change(_: Params) -> Told:
    return model_sections.change(read_metrics("bias"), _embed_sheet("bias/examples.png"))


def _meet_strangers(_: Params) -> Told:
    sheet = _embed_sheet("novelty/examples.png")
    return model_sections.meet_strangers(read_metrics("novelty"), sheet)


def _see_attributes(_: Params) -> Told:
    return model_sections.see_attributes(read_metrics("attributes"))


def _show_errors(_: Params) -> Told:
    sheet = _embed_sheet("gallery/errors.png")
    if sheet is None:
        return Told("Not told: metrics/gallery/errors.png is missing; 'uv run dvc repro' makes it.")
    alt = "pictures that the model calls wrongly, with the class called and the published one"
    return Told(
        "The errors of which the model is surest, a row for each hospital. Look whether the "
        "published class or the call is wrong; metrics/gallery/index.html shows more, beside the "
        "training pictures most like them.",
        [Pictures("The surest errors", [Picture(sheet, alt)], is_sheet=True)],
    )


def _list_inputs(rule: Params) -> Told:
    """Return the parameters, the recipe, and the checksums of what the page was made from."""
    rows = [[name, f"{size:,}", digest] for name, size, digest in _hash_inputs(rule.hospitals)]
    return Told(
        f"{len(rows)} files lie behind this page; who has the same parameters and files, and the "
        "same machine, gets the same numbers.",
        [
            Listing("params.yaml, without the recipes", _to_yaml(_dump(rule))),
            Folded(
                "The chosen recipe, with its defaults",
                [Listing(RECIPE.as_posix(), _to_yaml(_read_json(RECIPE)))],
            ),
            Folded("Checksums (SHA-256)", [
                Table("Archives as published, tables, and the model",
                      ["file", "bytes", "SHA-256"], rows, "lrl"),
            ]),
        ],
    )  # fmt: skip


def _hash_inputs(hospitals: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """Yield name, size and SHA-256; those of archives as they were verified."""
    for name in hospitals:
        if (RAW / name).is_dir():
            for one in contents.read(RAW / name).archives:
                yield f"{RAW}/{name}/{one.name}", one.bytes, one.sha256
    tables = [table.at(name) for table in (SPLIT, PREDICTIONS) for name in hospitals]
    files = [RECIPE, LABELS.at(), *tables, *sorted(MODEL.rglob("*"))]
    for path in files:
        if path.is_file():
            content = path.read_bytes()
            yield path.as_posix(), len(content), hashlib.sha256(content).hexdigest()


def _show_rejected(hospitals: Sequence[str]) -> dict[str, list[Picture]]:
    """Return by reason a few of the rejected pictures, of each hospital in turn."""
    rejected = REJECTED.read_all(hospitals)
    turn = rejected.groupby(["reason", "hospital"]).cumcount()
    ranked = rejected.assign(turn=turn).sort_values(["turn", "image_id"], kind="stable")
    chosen = ranked.groupby("reason").head(N_REJECTED)
    found: dict[str, list[Picture]] = {name: [] for name in data_sections.REASONS}
    for hospital, own in chosen.groupby("hospital", sort=True):
        with archives.open_members(RAW / str(hospital)) as listed:
            members = {member.path: member for member in reversed(listed)}
            for row in own.itertuples():
                src = _embed_member(members.get(row.path))
                if src:
                    alt = f"rejected picture of {hospital}"
                    found[row.reason].append(Picture(src, alt, [row.image_id, row.detail]))
    return found


def _embed_member(member: archives.Member | None) -> str | None:
    """Return a member as a small picture; None where it cannot be decoded."""
    if member is None:
        return None
    try:
        rgb = decoding.decode(archives.read_member(member)).rgb
    except ImageError:
        return None
    return drawing.embed(contact_sheets.shrink(rgb, THUMB))


def _embed_sheet(name: str, width: int = SHEET) -> str | None:
    """Return a sheet below metrics/, not wider than asked; None where it is missing."""
    path = METRICS / name
    if not path.is_file():
        return None
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise PipelineError(f"{path} is no picture. Run 'uv run dvc repro', which makes it anew.")
    scale = min(1.0, width / pixels.shape[1])
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return drawing.embed(small[..., ::-1].astype(np.uint8))


def _tell_both(revision: str) -> list[Section]:
    """Return the sections of the page on two experiments."""
    names = (HERE, revision)
    asked = [_read_asked(one) for one in (experiments.HERE, revision)]
    summaries, evaluations = (
        [_read_at(one, metrics_path(stage)) for one in (experiments.HERE, revision)]
        for stage in ("summary", "evaluate")
    )
    return [
        Section("parameters", "Parameters that differ",
                side_by_side.list_parameters(names, asked)),
        Section("numbers", "Numbers side by side",
                side_by_side.compare_summaries(names, summaries)),
        Section("chance", "More than chance?", _tell_chance(names)),
        Section("classes", "Class by class", side_by_side.compare_classes(names, evaluations)),
    ]  # fmt: skip


def _read_asked(revision: str) -> dict[str, Any]:
    """Return the parameters of an experiment, and of its recipes the chosen one."""
    text = _read_text_at(revision, params.PARAMS_FILE)
    asked = {k: v for k, v in settings.parse_yaml(text).items() if k not in UNCOMPARED}
    return asked | {"recipe": _read_at(revision, RECIPE)}


def _read_at(revision: str, path: Path) -> dict[str, Any]:
    """Return the content of a JSON file of an experiment."""
    try:
        content: dict[str, Any] = json.loads(_read_text_at(revision, path))
    except ValueError as error:
        raise PipelineError(
            f"{revision}: {path} is no JSON ({error}). Run dvc repro there."
        ) from None
    return content


def _read_text_at(revision: str, path: Path) -> str:
    if revision != experiments.HERE:
        return revisions.read_at(f"{revision}:{path.as_posix()}")
    if not path.is_file():
        raise PipelineError(f"{path} is missing. Run 'uv run dvc repro', which makes it.")
    return path.read_text(encoding="utf-8")


def _tell_chance(names: tuple[str, str]) -> Told:
    try:
        here = replace(experiments.read(experiments.HERE), name=names[0])
        lines = experiments.compare(here, [experiments.read(names[1])])
    except PipelineError as error:
        return Told(f"Not told: {error}")
    corrected = paired.correct([line.found.p_value for line in lines])
    return side_by_side.tell_chance(
        names,
        [
            {
                "hospital": line.hospital, "n": line.found.n, "n_groups": line.found.n_groups,
                "accuracies": line.accuracies, "difference": line.found.difference,
                "p": p_value, "verdict": paired.judge(line.found, p_value),
            }
            for line, p_value in zip(lines, corrected, strict=True)
        ],
        paired.METHOD,
    )  # fmt: skip


def _dump(rule: Params) -> dict[str, Any]:
    """Return the loaded parameters as they are written; of experts' tables the names alone."""
    asked = rule.model_dump()
    asked["attributes"]["tables"] = [Path(name).name for name in rule.attributes.tables]
    return asked


def _to_yaml(content: Mapping[str, Any]) -> str:
    text = io.StringIO()
    YAML().dump(content, text)
    return text.getvalue()


def _read_each(stage: str, rule: Params) -> dict[str, Any]:
    return {name: read_metrics(stage, name) for name in rule.hospitals}


def _read_if_there(stage: str) -> dict[str, Any] | None:
    return read_metrics(stage) if metrics_path(stage).is_file() else None


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _ask_for_revision() -> str | None:
    parser = argparse.ArgumentParser("python -m stages.report", description=__doc__)
    parser.add_argument(
        "--against", metavar="REVISION", help="Git revision, branch or DVC experiment"
    )
    asked: str | None = parser.parse_args().against
    del sys.argv[1:]  # run_stage takes what is left for names of hospitals
    return asked


if __name__ == "__main__":
    run_stage(partial(main, _ask_for_revision()))
