"""The page for a pathologist, which Streamlit draws anew after each action; `serve` starts it."""

import sys
import time
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from stages.answering import batches, own_pictures, similar, uploads, wording
from stages.answering.batches import Batch, Detail, Drawn
from stages.answering.model import ACCEPTED, LOOK_AGAIN, NOT_READ, UNKNOWN, AnsweringModel
from stages.answering.wording import say_name, say_percent
from stages.core import backend
from stages.core.errors import PipelineError
from stages.labels.reviews import Review
from stages.pages import drawing
from stages.tools import corrections
from stages.tools.corrections import Correction

N_CARDS = 12  # on a screen
ALL, DIFFERENT = "all", "called differently by the two models"
WALL, ONE, COUNTS, FILES = "All pictures", "One picture", "Counts", "Download"
NOBODY, NO_CELL = "choose ...", "no usable cell"
STYLE = Path(drawing.__file__).with_name("page.css")
NAMES = ("Model", "Other model")
KINDS = {ACCEPTED: "accepted", LOOK_AGAIN: "again"}
FILE_KINDS = {
    "csv": ("text/csv", "Table (CSV)"),
    "json": ("application/json", "With counts by folder (JSON)"),
    "html": ("text/html", "A page to pass on (HTML)"),
}

PLACE = "one-picture"
# Whoever comes from far below would see the end of the view, and the keyboard would start anew.
# Twice, because what lies below may still be on its way the first time.
SCROLL = (
    "for (const wait of [0, 500]) setTimeout(() => {"
    f"const place = document.getElementById('{PLACE}');"
    "if (place) { place.scrollIntoView(); place.focus({preventScroll: true}); } }, wait);"
)

state = st.session_state


class Window:
    """Goes with the window of a browser, or when it asks anew; its files go with it."""


def main(folders: Sequence[str]) -> None:
    """Draw the page for one exported model, or two."""
    st.set_page_config(page_title="What the model says of cells", layout="wide")
    st.html(f"<style>{STYLE.read_text(encoding='utf-8')}</style>")
    st.title("What the model says of cells", anchor=False)
    st.warning("Research use only; no medical device. Do not use it to diagnose anyone.")
    try:
        models = [_load(one, (Path(one) / "about.json").stat().st_mtime_ns) for one in folders]
    except (PipelineError, OSError) as error:
        st.error(f"{error} Then load this page again.")
        return
    try:
        _ask(models)
        if "batch" in state:
            _show(state.batch)
    except OSError as error:  # a disk that is full, or a folder that was cleared
        where = f" ({error.filename})" if error.filename else ""
        st.error(f"{error.strerror or error}{where}. Mend it, and ask about the pictures again.")


@st.cache_resource(max_entries=2, show_spinner="Loading the model ...")
def _load(folder: str, _changed: int) -> AnsweringModel:
    backend.load_keras()  # before pictures are read: no process is forked beside our threads
    return AnsweringModel(Path(folder))


@st.cache_resource(max_entries=1, ttl=600, show_spinner="Reading the tables ...")
def _list_pixels() -> dict[str, list[str]]:
    return own_pictures.list_pixels()


def _ask(models: list[AnsweringModel]) -> None:
    """Let a person send pictures, or take some of the project."""
    with st.expander("Ask about pictures", expanded="batch" not in state):
        with st.form("files"):
            sent = st.file_uploader(
                "Pictures of single white cells (JPEG, PNG, BMP, TIFF), or archives of them (zip, "
                f"tar). At most {uploads.MAX_PICTURES} at a time; nothing leaves this machine.",
                accept_multiple_files=True,
            )
            if st.form_submit_button("Ask about these", type="primary"):
                if sent:
                    _answer([(one.name, one.getvalue()) for one in sent], models)
                else:
                    st.info("Choose files first: drop them above, or press 'Upload'.")
        tested = own_pictures.list_tested()
        if tested:
            with st.form("examples"):
                hospital = st.selectbox(
                    "Or take examples of this project, which taught the model nothing", tested
                )
                if st.form_submit_button(f"Ask about {own_pictures.N_EXAMPLES} examples"):
                    _answer(own_pictures.read_examples(hospital), models)


def _answer(files: list[tuple[str, bytes]], models: list[AnsweringModel]) -> None:
    bar = st.progress(0.0, "Reading the files ...")

    def tell(done: int, n_all: int) -> None:
        bar.progress(done / n_all, f"Picture {done:,} of {n_all:,}")

    new = ExitStack()
    try:
        batch = new.enter_context(batches.answer(files, models, tell))
    except PipelineError as error:
        st.error(str(error))
        return
    # Not a cache of the session: Streamlit empties that whenever a connection breaks for a moment.
    state.window = Window()
    weakref.finalize(state.window, new.close)
    state.update(batch=batch, number=0, view=WALL, shown=ALL, screen=1)
    state.setdefault("corrections", {})
    st.rerun()


def _show(batch: Batch) -> None:
    for key in ("number", "shown", "screen"):
        state[key] = state[key]  # else Streamlit forgets it while another view is shown
    verdicts = batch.count(0)["verdicts"]
    told = ", ".join(f"{n:,} {verdict}" for verdict, n in verdicts.items())
    st.subheader(f"{_say_pictures(len(batch.asked))}: {told}", anchor=False)
    st.text(wording.say_promise(batch.models[0].about.confidence))
    views = {WALL: _show_wall, ONE: _show_one, COUNTS: _show_counts, FILES: _show_files}
    view = st.radio("What to see", list(views), key="view", horizontal=True)
    views[view](batch)


def _show_wall(batch: Batch) -> None:
    """Show all pictures small, some at a time."""
    kinds = [ALL, LOOK_AGAIN, UNKNOWN, ACCEPTED, NOT_READ, *[DIFFERENT] * (len(batch.models) > 1)]
    kind = st.radio("Which pictures", kinds, key="shown", horizontal=True, on_change=_start_anew)
    numbers = [number for number in range(len(batch.asked)) if _is_of(batch, number, kind)]
    n_screens = max(1, -(-len(numbers) // N_CARDS))
    if n_screens > 1:
        screens = list(range(1, n_screens + 1))
        st.selectbox("Screen", screens, key="screen", format_func=lambda n: f"{n} of {n_screens}")
    if not numbers:
        st.info("None.")
    start = N_CARDS * (state.get("screen", 1) - 1)
    with st.container(horizontal=True):
        for number in numbers[start : start + N_CARDS]:
            with st.container(width=200):
                _show_card(batch, number)


def _start_anew() -> None:
    state.screen = 1


def _is_of(batch: Batch, number: int, kind: str) -> bool:
    if kind == DIFFERENT:
        return batch.differs(number)
    return kind in (ALL, batch.answers[0][number].verdict)


def _show_card(batch: Batch, number: int) -> None:
    answer, name = batch.answers[0][number], batch.asked[number].name
    lines = [f"{number + 1}. {answer.verdict}"]
    lines += [f"{say_name(one)} {say_percent(p)}" for one, p in answer.likeliest[:1]]
    if len(batch.models) > 1 and batch.differs(number):
        other = batch.answers[1][number].call
        lines.append(f"other model: {say_name(other)}" if other else "other model: not read")
    if _find_correction(batch, number):
        lines.append("corrected by you")
    if answer.problem is not None:
        lines.append(wording.say_problem(answer.problem))
    lines.append(name)
    kind = KINDS.get(answer.verdict, "not")
    _draw([{"src": batch.tiles[number], "alt": f"picture {number + 1}, outlined", "lines": lines,
            "kind": kind, "width": 11.5}])  # fmt: skip
    if answer.problem is None:
        st.button(f"Look at {number + 1}", key=f"open {number}", on_click=_jump, args=(number,))


def _jump(number: int) -> None:
    _open(number)
    state.jumps = time.time_ns()


def _open(number: int) -> None:
    state.update(number=number, view=ONE)


def _show_one(batch: Batch) -> None:
    """Show a picture with all that is known of it, and let it be corrected."""
    numbers = [place for place, one in enumerate(batch.answers[0]) if one.problem is None]
    if not numbers:
        st.info("None of the files could be read as a picture; see 'All pictures' for why.")
        return
    if state.number not in numbers:
        state.number = numbers[0]
    place = numbers.index(state.number)
    st.html(f'<div id="{PLACE}" tabindex="-1"></div>')
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Previous", disabled=place == 0, on_click=_open, args=(numbers[place - 1],))
        following = numbers[min(place + 1, len(numbers) - 1)]
        st.button("Next", disabled=following == state.number, on_click=_open, args=(following,))
        with st.container(width=400):
            st.selectbox("Picture", numbers, key="number",
                         format_func=lambda n: f"{n + 1}. {batch.asked[n].name}")  # fmt: skip
    number = state.number
    with st.spinner("Looking for where the evidence lies ..."):
        detail = batch.look(number)
    tiles = [
        {"src": detail.picture, "alt": "the picture as sent", "lines": ["as sent"], "width": 20},
        {"src": batch.tiles[number], "alt": "the same, with outlines", "width": 20,
         "lines": ["what is taken for the cell (yellow) and its nucleus (green)"]},
    ]  # fmt: skip
    pictures, *columns = st.columns(1 + len(batch.models), gap="medium")
    with pictures:
        _draw(tiles)
    for place, column in enumerate(columns):
        with column:
            _show_answer(batch, number, place, detail)
    _show_similar(batch, detail)
    _correct(batch, number, detail)
    if "jumps" in state:  # another text each time, else the browser would not run it again
        st.html(f"<script>/* {state.pop('jumps')} */ {SCROLL}</script>",
                unsafe_allow_javascript=True)  # fmt: skip


def _show_answer(batch: Batch, number: int, place: int, detail: Detail) -> None:
    """Show what one model says of a picture."""
    answer = batch.answers[place][number]
    title = f"{NAMES[place]}: " if len(batch.models) > 1 else ""
    st.subheader(f"{title}{answer.verdict}", anchor=False)
    st.text(wording.VERDICTS[answer.verdict])
    for name, p in answer.likeliest:
        st.progress(p, f"{say_name(name)}: {say_percent(p)}")
    st.text(f"Flagged: {wording.say_flags(answer.flags)}.")
    st.text("Where the evidence for each lies, from black (none) to yellow (most):")
    _draw([
        {"src": one.map, "alt": f"evidence for {say_name(one.label)}", "width": 9,
         "lines": [_say_map(one)]}
        for one in detail.maps[place]
    ])  # fmt: skip


def _say_map(one: Drawn) -> str:
    name = say_name(one.label)
    if one.map is None:
        return f"no network of this model knows {name}"
    return f"nothing speaks for {name}" if one.is_empty else f"for {name}"


def _show_similar(batch: Batch, detail: Detail) -> None:
    """Show the training pictures most like it, if they are here."""
    st.subheader("The most similar training pictures", anchor=False)
    model = batch.models[0]
    lacking = similar.say_lacking(model)
    if lacking:
        st.text(f"Not shown: {lacking}.")
        return
    known = _recall(model)
    if known is None:
        st.text("The model has to look at its training pictures first; that may take minutes, "
                "once.")  # fmt: skip
        if st.button("Look for similar training pictures"):
            bar = st.progress(0.0, "Looking at the training pictures ...")
            with batches.ONE_AT_A_TIME:
                similar.learn(
                    model, lambda done: bar.progress(done, f"{100 * done:.0f} % looked at")
                )
            st.rerun()
        return
    with batches.ONE_AT_A_TIME:
        found = similar.find(known, model, detail.ready[0])
    pictures = similar.show(found, model, 144)
    _draw([
        {"src": drawing.embed(pictures[one.image_id]), "alt": f"training picture {one.image_id}",
         "lines": [say_name(one.label), f"likeness {one.cosine:.3f}", one.image_id], "width": 9}
        for one in found
    ])  # fmt: skip
    st.text("By published label. Likeness: 1, the model sees the same in both; 0, nothing in "
               "common.")  # fmt: skip


def _recall(model: AnsweringModel) -> similar.Known | None:
    sha256 = model.about.model_sha256
    if state.get("known", (None, None))[0] != sha256 or state.known[1] is None:
        state.known = (sha256, similar.recall(model))
    found: similar.Known | None = state.known[1]
    return found


def _correct(batch: Batch, number: int, detail: Detail) -> None:
    """Let a person say what the picture shows."""
    st.subheader("Correct it", anchor=False)
    image_ids = tuple(_list_pixels().get(detail.pixel_sha256, []))
    try:
        types = corrections.list_cell_types(batch.models)
        for one in corrections.find_earlier(image_ids):
            st.text(f"{one.reviewer or 'somebody'} said before: {one.cell_type or NO_CELL} "
                    f"{one.note}")  # fmt: skip
    except PipelineError as error:
        st.error(str(error))
        return
    with st.form(f"correction {number}"):
        chosen = st.selectbox("Correct type", [NOBODY, *types, NO_CELL], format_func=say_name)
        reviewer = st.text_input("Your name or initials", state.get("reviewer", ""))
        note = st.text_input("Note (nothing that could identify a patient)")
        if not st.form_submit_button("Keep this correction"):
            return
    state.reviewer = reviewer
    if chosen == NOBODY:
        st.error("Choose the correct type first.")
        return
    cell_type = "" if chosen == NO_CELL else chosen
    review = Review(image_ids[0] if image_ids else "", cell_type, detail.pixel_sha256,
                    reviewer.strip(), note.strip())  # fmt: skip
    kept = Correction(batch.asked[number].name, image_ids, review)
    try:
        told = corrections.keep(kept)
    except PipelineError as error:
        st.error(str(error))
        return
    state.corrections[detail.pixel_sha256, review.reviewer] = kept
    st.success(told)


def _find_correction(batch: Batch, number: int) -> bool:
    name = batch.asked[number].name
    return any(one.picture == name for one in state.corrections.values())


def _show_counts(batch: Batch) -> None:
    """Show the differential count of each folder, by each model."""
    st.text("Percentages are of the white cells that were accepted or are to be looked at again. "
            "The interval (95 %) is that of counting so many cells, and knows nothing of the "
            "model's own errors. Usual: of adults.")  # fmt: skip
    for place in range(len(batch.models)):
        if len(batch.models) > 1:
            st.subheader(NAMES[place], anchor=False)
        _show_table("All pictures together", batch.count(place, together=True)["by_folder"]["."])
        folders = batch.count(place)["by_folder"]
        if len(folders) > 1:
            for folder, block in folders.items():
                title = "Outside of any folder" if folder == "." else folder
                with st.expander(f"{title}: {_say_pictures(block['n'])}"):
                    _show_table(title, block)


def _show_table(title: str, block: dict[str, Any]) -> None:
    counted = sum(one["n"] for one in block["classes"])
    st.text(f"{title}: {_say_pictures(block['n'])}, of which {block['n'] - counted:,} not known "
            "or not read")  # fmt: skip
    st.table(pd.DataFrame([_tell_share(one) for one in block["classes"]]).set_index("type"))


def _tell_share(one: dict[str, Any]) -> dict[str, str]:
    percent, usual = one["percent"], one["usual"]
    return {
        "type": say_name(one["label"]),
        "cells": str(one["n"]),
        "percent": "" if percent is None else f"{percent:.1f}",
        "interval": "" if percent is None else f"{one['low']:.1f} to {one['high']:.1f}",
        "usual": "" if usual is None else f"{usual[0]:g} to {usual[1]:g}",
        "compared": one["place"] or "",
    }


def _show_files(batch: Batch) -> None:
    """Offer all answers and corrections, and tell which model answered."""
    for place, model in enumerate(batch.models):
        if len(batch.models) > 1:
            st.subheader(NAMES[place], anchor=False)
        with st.container(horizontal=True):
            for kind, (mime, label) in FILE_KINDS.items():
                name = f"answers{'_other' * place}.{kind}"
                st.download_button(label, batch.write(place, kind), name, mime, on_click="ignore",
                                   key=name)  # fmt: skip
        st.text(wording.say_promise(model.about.confidence))
        trace = model.trace
        st.text(f"Answered by the model with sha256 {trace['model_sha256']}; classes of "
                f"{trace['taxonomy']}; commit {trace['commit'] or 'not known'}.")  # fmt: skip
    kept = list(state.corrections.values())
    st.subheader("Your corrections", anchor=False)
    if not kept:
        st.text("None yet. Correct a picture under 'One picture'.")
        return
    st.text(f"{len(kept)} in this window. Those of pictures of the project stand in "
            "data/reviews.csv already.")  # fmt: skip
    st.download_button("Corrections (CSV)", corrections.to_csv(kept), "corrections.csv",
                       "text/csv", on_click="ignore")  # fmt: skip


def _say_pictures(n: int) -> str:
    return "1 picture" if n == 1 else f"{n:,} pictures"


def _draw(figures: list[dict[str, Any]]) -> None:
    filled = [{"kind": "", "src": None, **one} for one in figures]
    st.html(drawing.render("figures.html.jinja", figures=filled))


if __name__ == "__main__":
    main(sys.argv[1:])
