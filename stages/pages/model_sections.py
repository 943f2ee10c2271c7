"""The report's sections on the model: shortcuts, training, scores, doubt, evidence, strangers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.pages import words
from stages.pages.blocks import (
    Block,
    Cell,
    Charts,
    Folded,
    Picture,
    Pictures,
    Sentence,
    Table,
    Told,
)
from stages.pages.charts import Axis, Curve, draw_curves, round_up
from stages.pages.words import (
    count,
    draw_bar,
    part_of,
    plain,
    say,
    say_interval,
    say_percent,
    say_value,
)  # fmt: skip

Content = Mapping[str, Any]

LEVELS = {"published": "files as published", "seen": "as the model sees them"}
PARTS = {"test": "in domain", "unseen": "unseen"}
MAP_SCORES = {
    "in_cell": "evidence in the cell",
    "cell_area": "share that the cell takes up",
    "in_nucleus": "evidence in the nucleus",
    "points_at_cell": "strongest point in the cell",
    "deletion": "lost when hidden first",
    "insertion": "won when shown first",
}
BAD = {"kept": "be lost", "lost": "stay"}
PROMISES = ("kept", "broken")
NARROW = " *"  # after an interval that is too narrow


def probe(found: Content) -> Told:
    """Tell how far simple models get without the cell; `found` is metrics/probe.json."""
    score = found["shortcut_score"]
    if score is None:
        lead = f"No shortcut score can be given: {found['shortcut_score_reason']}."
    else:
        chance, own = score["baseline"]["balanced_accuracy"], score["balanced_accuracy"]
        low = own["low"]
        verdict = (
            "no interval tells whether that is chance"
            if low is None
            else "more than chance: the class can in part be told without the cell"
            if low > chance
            else "no more than chance"
        )
        lead = (
            "Simple models that see colours, corners and background but no cell tell the class "
            f"with a balanced accuracy of {say_value(own)}; chance is {say(chance)}: {verdict}."
        )
    if found["n_alarms"]:
        lead += f" {count(found['n_alarms'], 'alarms')}: see below."
    blocks: list[Block | Folded] = [
        Sentence(f"At {one['hospital'] or 'all hospitals'} the class {plain(one['class'])} is told "
                 f"by {plain(one['family'])} ({LEVELS[one['level']]}), AUC {say(one['auc'])} "
                 f"({say_interval(one)}).", is_warning=True)
        for one in found["alarms"]
    ]  # fmt: skip
    for target, key in (("class", "scores"), ("hospital", "hospital_told")):
        title = f"How far the {target} is told without the cell"
        rows = [
            [
                f"{plain(family)}, {LEVELS[level]}",
                say_value(one["balanced_accuracy"]),
                draw_bar(one["balanced_accuracy"], one["baseline"]["balanced_accuracy"]),
                say(one["baseline"]["balanced_accuracy"]),
            ]
            for level, families in (found[key] or {}).items()
            for family, one in families.items()
        ]
        if rows:
            headings = ["seen alone", "balanced accuracy (95 %)", "0 to 1, dots: chance", "chance"]
            blocks.append(Table(title, headings, rows, "lrbr"))
        else:
            blocks.append(Sentence(f"{title}: not known, as {found[f'{key}_reason']}."))
    return Told(lead, blocks)


def train(found: Content, history: pd.DataFrame) -> Told:
    """Tell how training went.

    Parameters
    ----------
    found : mapping
        Content of metrics/train.json.
    history : pandas.DataFrame
        ``member``, ``step``, ``epoch``, ``loss``, ``val_loss``, ``accuracy``, ``val_accuracy``.
    """
    right, n = found["accuracy"], found["n_judged"]
    lead = (
        f"The model calls {say_percent(right['train'])} of {n['train']:,} training pictures rightly"
    )
    if right["valid"] is None:
        lead += f"; what it did not learn from was not asked, as {right['valid_reason']}."
    else:
        lead += f" and {say_percent(right['valid'])} of {n['valid']:,} that it did not learn from."
        gap = right["train"] - right["valid"]
        if gap > 0:
            lead += f" It is {100 * gap:.1f} points better on what it has learnt."
    charts = []
    for (member, step), own in history.groupby(["member", "step"], sort=False):
        if len(own) > 1:
            charts += _draw_step(f"{member}, step {step}", own)
    rows = [
        [one["member"] or "the model", plain(str(one["train"])), f"{one['n_learning']:,}",
         f"{one['epochs_run']:,}", f"{one['kept_epoch']:,}"]
        for one in found["steps"]
    ]  # fmt: skip
    headings = ["member", "what learns", "weights that learn", "epochs run", "epoch kept"]
    blocks: list[Block] = [Table("Steps of training", headings, rows, "llrrr")]
    if charts:
        blocks.append(Charts("Course of training", charts))
    blocks += [
        Sentence(f"It began from published weights of {name}: {one['file']}, SHA-256 "
                 f"{one['sha256']}.")
        for name, one in found["published_weights"].items()
    ]  # fmt: skip
    return Told(lead, blocks)


def score(found: Content) -> Told:
    """Tell what the model scores at each hospital, class by class; of metrics/evaluate.json."""
    by_hospital = found["by_hospital"]
    beaten = [
        name
        for name, one in by_hospital.items()
        if _least(one["metrics"]["macro_f1"]) > one["baseline"]["macro_f1"]
    ]
    notes = {one["interval_note"] for one in by_hospital.values() if "interval_note" in one}
    lead = "".join(_say_means(found))
    lead += (
        f"One answer for every picture is beaten at {part_of(beaten, by_hospital, 'hospitals')}."
    )
    rows = [
        _score_row(name, PARTS[one["part"]], one)
        for part in PARTS
        for name, one in by_hospital.items()
        if one["part"] == part
    ]
    for part, key in (("test", "mean_in_domain"), ("unseen", "mean_unseen")):
        if found[key] and len(found[key]["hospitals"]) > 1:
            rows.append(_score_row("mean", PARTS[part], found[key]))
    blocks: list[Block | Folded] = [
        Table(
            "Scores by hospital, with 95 % intervals",
            ["hospital", "part", "pictures", "groups", "accuracy", "macro F1",
             "macro F1, 0 to 1; dots: one answer for all", "one answer for all"],
            rows,
            "llrlrrbr",
        ),
        _list_classes(by_hospital),
        *_list_on_site(by_hospital),
        *(_say_screened(part, one) for part, one in (found["screening"] or {}).items() if one),
        Sentence(f"Interval: {found['interval']}."),
        *(Sentence(f"{NARROW.strip()} {note}.") for note in sorted(notes)),
    ]  # fmt: skip
    if not found["screening"]:
        blocks.append(Sentence(f"Sick against healthy: {found['screening_reason']}."))
    if found["not_scored"]:
        blocks.append(Sentence(f"Not scored: {', '.join(found['not_scored'])}."))
    return Told(lead, blocks)


def confuse(calls: pd.DataFrame) -> Told:
    """Tell which classes are taken for which.

    Parameters
    ----------
    calls : pandas.DataFrame, shape (n_images, 4)
        ``hospital``, ``part``, ``actual`` and ``predicted``.
    """
    wrong = calls[calls["actual"] != calls["predicted"]]
    if wrong.empty:
        lead = f"None of {len(calls):,} pictures is called wrongly."
    else:
        most = wrong.groupby(["actual", "predicted"]).size().sort_index()
        (actual, called), n = most.idxmax(), int(most.max())
        of_them = int((calls["actual"] == actual).sum())
        lead = (
            f"{len(wrong):,} of {len(calls):,} pictures are called wrongly; most often "
            f"{plain(actual)} is called {plain(called)}: {n:,} of {of_them:,}."
        )
    classes = sorted({*calls["actual"], *calls["predicted"]})
    blocks = [
        Folded(
            f"{hospital} ({PARTS[str(part)]}): {int((own['actual'] != own['predicted']).sum()):,} "
            f"of {len(own):,} wrong",
            [_lay_out_confusion(own, classes)],
        )
        for (hospital, part), own in calls.groupby(["hospital", "part"])
    ]
    return Told(lead, blocks)


def doubt(found: Content, reliability: pd.DataFrame, risk: pd.DataFrame) -> Told:
    """Tell how far the model's confidence is to be trusted.

    Parameters
    ----------
    found : mapping
        Content of metrics/evaluate.json.
    reliability, risk : pandas.DataFrame
        ``hospital`` with ``confidence`` and ``accuracy``; with ``coverage`` and ``error``.
    """
    by_hospital = found["by_hospital"]
    home = {name: one["doubt"]["home"] for name, one in by_hospital.items()}
    kept = {verdict: [name for name, one in home.items() if one["promise"] == verdict]
            for verdict in PROMISES}  # fmt: skip
    wished = next((one["wished_error"] for one in home.values()), 0.0)
    lead = (
        f"That at most {say_percent(wished)} of the accepted calls are wrong, as learnt at home, "
        f"is kept at {part_of(kept['kept'], home, 'hospitals')} and broken at "
        f"{part_of(kept['broken'], home, 'hospitals')}"
    )
    untold = len(home) - len(kept["kept"]) - len(kept["broken"])
    lead += (
        f"; at {count(untold, 'hospitals')} these pictures are too few to tell." if untold else "."
    )
    rows = [
        [
            name,
            PARTS[one["part"]],
            say(one["doubt"]["ece"]),
            say_value(one["doubt"]["overconfidence"]),
            say_value(one["doubt"]["error_of_surest_half"]),
            say_value(one["doubt"]["top_3"], one["doubt"].get("top_3_reason")),
        ]
        for name, one in by_hospital.items()
    ]
    promised = [
        [name, where, *_say_promise(one["doubt"], key)]
        for name, one in by_hospital.items()
        for key, where in (("home", "at home"), ("elsewhere", "at other unseen hospitals"))
    ]
    blocks: list[Block | Folded] = [
        Table(
            "Confidence against truth",
            ["hospital", "part", "calibration error", "confidence minus accuracy",
             "error of the surest half", "truth among the first three"],
            rows,
            "llrrrr",
        ),
        Table(
            "Which calls may be accepted alone",
            ["hospital", "learnt", "from confidence", "share accepted", "error of these",
             "promise"],
            promised,
            "llrrrl",
        ),
    ]  # fmt: skip
    blocks += [_draw_reliability(reliability), _draw_risk(risk)]
    return Told(lead, blocks)


def _draw_reliability(reliability: pd.DataFrame) -> Charts:
    x, y = Axis("confidence", 0, 1), Axis("share right", 0, 1)
    charts = []
    for name, own in reliability.groupby("hospital", sort=False):
        bins = list(zip(own["confidence"], own["accuracy"], strict=True))
        curves = [
            Curve("", bins, "a", has_marks=True),
            Curve("", []),  # so that the diagonal is dotted
            Curve("", [(0, 0), (1, 1)], "c"),
        ]
        alt = f"Share of right calls by confidence at {name}"
        charts.append((str(name), draw_curves(curves, x, y, alt)))
    return Charts("Share right by confidence; dots of the diagonal: as it should be", charts)


def _draw_risk(risk: pd.DataFrame) -> Charts:
    top = round_up(max(float(risk["error"].max()), 0.05))
    x, y = Axis("share answered, the surest first", 0, 1), Axis("share wrong", 0, top)
    charts = []
    for name, own in risk.groupby("hospital", sort=False):
        curve = Curve("", list(zip(own["coverage"], own["error"], strict=True)))
        alt = f"Share of wrong calls by share of pictures answered at {name}"
        charts.append((str(name), draw_curves([curve], x, y, alt)))
    return Charts("Share wrong where only the surest calls are taken", charts)


def explain(found: Content, sheet: str | None) -> Told:
    """Tell where the evidence for calls lies; `found` is metrics/explain.json."""
    methods = found["methods"]
    if not methods:
        why = "; ".join(f"{name}: {reason}" for name, reason in found["not_made"].items())
        lead = (
            f"No map was drawn{f' ({why})' if why else ''}: where a call comes from is not known."
        )
        return Told(lead)
    in_cell = {
        name: one["all"]["in_cell"]
        for name, one in methods.items()
        if None not in (one["all"]["in_cell"]["value"], one["all"]["cell_area"]["value"])
    }
    more = [
        name
        for name, share in in_cell.items()
        if _least(share) > methods[name]["all"]["cell_area"]["value"]
    ]
    useless = [name for name, one in methods.items() if one["useless"]]
    lead = (
        f"By {part_of(more, methods, 'methods')} more of the evidence lies in the cell than a map "
        "without an opinion would put there."
    )
    if useless:
        lead += f" {', '.join(useless)}: a network of chance draws nearly the same map."
    rows = [
        [plain(name), *(say_value(one["all"][key]) for key in MAP_SCORES), _say_useless(one)]
        for name, one in methods.items()
    ]
    blocks: list[Block | Folded] = [
        Table(
            f"Scores of the maps of {count(found['n_images'], 'pictures')}",
            ["method", *MAP_SCORES.values(), "is evidence"],
            rows,
            "l" + "r" * len(MAP_SCORES) + "l",
        )
    ]
    if found["left_out"]:
        blocks.append(
            Sentence(f"Maps are of networks alone; without: {', '.join(found['left_out'])}.")
        )
    if found["not_made"]:
        why = "; ".join(f"{name}: {reason}" for name, reason in found["not_made"].items())
        blocks.append(Sentence(f"Not drawn: {why}."))
    blocks += _show_sheet(sheet, "Examples of the maps")
    return Told(lead, blocks)


def change(found: Content, sheet: str | None) -> Told:
    """Tell which calls survive that pictures are changed; `found` is metrics/bias.json."""
    tests = {name: one for name, one in found["tests"].items() if _is_judged(one)}
    flagged = [name for name, one in found["tests"].items() if one["flagged"]]
    lead = ""
    if "hide" in tests:
        share = tests["hide"]["all"]["keeps_call"]
        lead = (
            f"With the cell hidden {say_percent(share['value'])} of the calls stay; none should. "
        )
    harmless = {
        name: one["all"]["keeps_call"]["value"]
        for name, one in tests.items()
        if one["bad"] == "lost"
    }
    if harmless:
        worst = min(harmless, key=lambda name: (harmless[name], name))
        lead += (
            f"Of the changes that should not matter, most calls are lost when "
            f"{tests[worst]['says']}: {say_percent(1 - harmless[worst])}. "
        )
    if flagged:
        lead += f"{part_of(flagged, found['tests'], 'tests')} go wrong at a hospital."
    rows = []
    for name, one in found["tests"].items():
        everything = one["all"]
        judged = _is_judged(one)
        share = everything["keeps_call"] if judged else None
        rows.append(
            [
                f"{plain(name)}: {one['says']}",
                BAD[one["bad"]],
                say_value(share, "; ".join(map(str, one["not_judged"].values()))),
                draw_bar(share),
                say_value(everything["keeps_confident_call"]) if judged else words.NONE,
                _say_where(one),
            ]
        )
    blocks: list[Block | Folded] = [
        Table(
            "Calls that stay where the picture is changed",
            ["change", "calls should", "share that stays", "0 to 1",
             "share of the surest that stays as sure", "goes wrong at"],
            rows,
            "llrbrl",
        ),
        *_show_sheet(sheet, "Pictures as they are, and changed"),
    ]  # fmt: skip
    return Told(lead or "No test was judged.", blocks)


def meet_strangers(found: Content, sheet: str | None) -> Told:
    """Tell whether unknown types are noticed; `found` is metrics/novelty.json."""
    n = found["n_images"]
    scores = {name: one for name, one in found["scores"].items() if "reason" not in one}
    areas = {
        (where, name): area
        for name, one in scores.items()
        for where in ("in_domain", "unseen")
        if (area := one["mean_auc"][where]["value"]) is not None
    }
    where = "unseen" if any(place == "unseen" for place, _ in areas) else "in_domain"
    known = {name: area for (place, name), area in areas.items() if place == where}
    if known:
        best = max(known, key=lambda name: (known[name], name))
        lead = (
            f"Cells of types that the model does not know are told from known ones "
            f"({'at unseen hospitals' if where == 'unseen' else 'at home'}) with an AUC of "
            f"{say(known[best])} at best, by {plain(best)}; 0.5 is chance, 1 is always."
        )
    else:
        lead = (
            f"No hospital has enough pictures of unknown types ({n['unknown']:,} in all): "
            "whether the model notices them is not known."
        )
    rows = [
        [
            name, plain(score_name), PARTS[own["part"]],
            say_value(own["auc"]) if own["auc"]["n_positive"] else "none: no unknown type here",
            *(_say_flagged(own, kind) for kind in ("unknown", "blank", "known")),
        ]
        for score_name, one in scores.items()
        for name, own in one["by_hospital"].items()
    ]  # fmt: skip
    means = [
        [plain(name), one["says"], *(_say_mean(one, key) for key in ("in_domain", "unseen"))]
        for name, one in found["scores"].items()
    ]
    blocks: list[Block | Folded] = [
        Table(
            "How well unknown types are told from known ones (AUC)",
            ["score", "it is high where", "in domain", "unseen"],
            means,
            "llrr",
        ),
        Folded(
            "By hospital",
            [
                Table(
                    f"Share called strange, where {say_percent(found['known'])} of the validation "
                    "pictures count as known",
                    ["hospital", "score", "part", "AUC", "unknown types", "blank fields",
                     "known types (wrongly)"],
                    rows,
                    "lllrrrr",
                )
            ],
        ),
        *_show_sheet(sheet, "The strangest pictures"),
    ]  # fmt: skip
    return Told(lead, blocks)


def see_attributes(found: Content) -> Told:
    """Tell how far what experts see can be read off; `found` is metrics/attributes.json."""
    if "reason" in found:
        return Told(f"Not asked: {found['reason']}.")
    told = found["attributes"]
    judged = {
        name: one
        for name, one in told.items()
        if "reason" not in one
        and None not in (one["kappa"]["value"], one["kappa_of_class"]["value"])
    }
    better = [
        name
        for name, one in judged.items()
        if _least(one["kappa"]) > one["kappa_of_class"]["value"]
    ]
    lead = (
        f"{part_of(better, told, 'attributes')} can be read off {found['network']} better than the "
        "class alone tells."
    )
    rows = [
        [
            plain(name),
            f"{one['n_images']:,}",
            say_value(one["kappa"]) if name in judged else f"none: {_say_untold(one)}",
            draw_bar(one["kappa"], one["kappa_of_class"]["value"]) if name in judged else "",
            say_value(one["kappa_of_class"]) if name in judged else words.NONE,
        ]
        for name, one in told.items()
    ]
    headings = ["attribute", "pictures", "kappa", "0 to 1; dots: the class alone",
                "kappa of the class alone"]  # fmt: skip
    return Told(lead, [Table("Agreement", headings, rows, "lrrbr")])


def _say_untold(one: Content) -> str | None:
    """Say why an attribute cannot be judged; None where it can."""
    if "reason" in one:
        return str(one["reason"])
    kappas = (one["kappa"], one["kappa_of_class"])
    return next((str(one["value_reason"]) for one in kappas if one["value"] is None), None)


def _least(block: Content) -> float:
    """Return what a value is at least: the low end of its interval, else itself."""
    return float(block["value"] if block["low"] is None else block["low"])


def _draw_step(name: str, own: pd.DataFrame) -> list[tuple[str, Markup]]:
    x = Axis("epoch", 1, float(own["epoch"].max()))
    charts = []
    for title, columns, top in (
        ("accuracy", ("accuracy", "val_accuracy"), 1.0),
        ("loss", ("loss", "val_loss"), round_up(float(own[["loss", "val_loss"]].max().max()))),
    ):
        curves = [
            Curve(said, own[["epoch", column]].dropna().to_numpy().tolist(), colour)
            for said, column, colour in zip(("training", "validation"), columns, "ab", strict=True)
        ]
        says = f"{title} of {name} by epoch, training and validation"
        charts.append((f"{name}: {title}", draw_curves(curves, x, Axis(title, 0, top), says)))
    return charts


def _say_means(found: Content) -> Iterator[str]:
    home, away, worst = (found[key] for key in ("mean_in_domain", "mean_unseen", "worst_unseen"))
    if away:
        n = len(away["hospitals"])
        yield (
            f"At {count(n, 'hospitals')} that taught it nothing macro F1 is "
            f"{say_value(away['metrics']['macro_f1'], away.get('interval_reason'))}"
            + (" on average" if n > 1 else "")
        )
        if n > 1:
            yield (
                f", and {say_value(worst['metrics']['macro_f1'], worst.get('interval_reason'))} "
                f"at the worst, {worst['hospital']}"
            )
        yield ". "
    else:
        yield "No hospital is unseen: what a new hospital may expect is not known. "
    if home:
        yield (
            f"At home it is {say_value(home['metrics']['macro_f1'], home.get('interval_reason'))}. "
        )


def _score_row(name: str, part: str, one: Content) -> list[Cell]:
    accuracy, macro_f1 = one["metrics"]["accuracy"], one["metrics"]["macro_f1"]
    reason = one.get("interval_reason")
    shown = words.stack([name, *([one["leaky"]] if "leaky" in one else [])])
    star = NARROW if "interval_note" in one else ""
    return [
        shown,
        part,
        f"{one['n_images']:,}",
        f"{one['n_groups']:,} ({one['unit']})",
        say(accuracy["value"]) if accuracy["low"] is None else say_value(accuracy),
        say_value(macro_f1, reason) + star,
        draw_bar(macro_f1, one["baseline"]["macro_f1"]),
        say(one["baseline"]["macro_f1"]),
    ]


def _list_classes(by_hospital: Mapping[str, Content]) -> Table:
    classes = list(next(iter(by_hospital.values()))["per_class"])
    rows = []
    for name in classes:
        cells: list[Cell] = [plain(name)]
        for one in by_hospital.values():
            own = one["per_class"][name]
            cells.append("not held" if not own["n"] else f"{say(own['f1'])} of {own['n']:,}")
        rows.append(cells)
    return Table(
        "F1 by class and hospital, of so many pictures",
        ["class", *by_hospital],
        rows,
        "l" + "r" * len(by_hospital),
    )


def _list_on_site(by_hospital: Mapping[str, Content]) -> list[Block]:
    rows: list[list[Cell]] = []
    for name, block in by_hospital.items():
        for method, one in (block["on_site"] or {}).items():
            if one["metrics"] is None:
                rows.append([name, plain(method), words.NONE, one["reason"], "", ""])
                continue
            reason = one.get("interval_reason")
            rows.append(
                [
                    name,
                    plain(method),
                    f"{one['n_images']:,}",
                    say_value(one["metrics"]["macro_f1"], reason),
                    say(one["plain"]["macro_f1"]),
                    say_value(one["gain"]["macro_f1"], reason),
                ]
            )
    if not rows:
        return []
    headings = ["hospital", "way", "pictures left", "macro F1", "before", "gain"]
    return [Table("Adapted to an unseen hospital", headings, rows, "llrrrr")]


def _say_screened(part: str, one: Content) -> Sentence:
    return Sentence(
        f"Sick called healthy ({PARTS[part]}): {one['sick_called_healthy']:,} of {one['n_sick']:,} "
        f"pictures; healthy called sick: {one['healthy_called_sick']:,} of {one['n_healthy']:,}."
    )


def _lay_out_confusion(own: pd.DataFrame, classes: Sequence[str]) -> Table:
    """Return a table of counts, each shaded by its share of the row."""
    counts = pd.crosstab(own["actual"], own["predicted"]).reindex(
        index=classes, columns=classes, fill_value=0
    )
    rows: list[list[Cell]] = []
    for number, name in enumerate(classes, 1):
        row = counts.loc[name]
        n = int(row.sum())
        cells = [
            Markup('<span class="shade" style="--share:{}">{}</span>').format(
                f"{100 * value / n if n else 0:.0f}%", Markup("<b>{}</b>").format(value)
                if other == name else value or "."
            )
            for other, value in row.items()
        ]  # fmt: skip
        rows.append([f"{number} {plain(name)}", *cells, f"{n:,}"])
    headings = ["published, and called:", *map(str, range(1, len(classes) + 1)), "all"]
    return Table(
        "Row: as published; column: as called, by the number of the row; bold: right",
        headings,
        rows,
        "l" + "r" * (len(classes) + 1),
    )


def _say_promise(block: Content, key: str) -> list[str]:
    one = block[key]
    if one is None:
        return [words.NONE, words.NONE, words.NONE, f"none: {block[f'{key}_reason']}"]
    if one["threshold"] is None:
        return [words.NONE, words.NONE, words.NONE, f"none: {one['reason']}"]
    verdict = one["promise"] or "none: too few groups"
    return [
        say(one["threshold"]),
        say_value(one["accepted"]),
        say_value(one["error_of_accepted"]),
        verdict.upper() if verdict == "broken" else verdict,
    ]


def _say_useless(one: Content) -> str:
    if one["useless"] is None:
        return f"not known: {one['useless_reason']}"
    return "NO: as of a network of chance" if one["useless"] else "yes"


def _is_judged(one: Content) -> bool:
    share = one["all"].get("keeps_call")
    return bool(share) and share["value"] is not None


def _say_where(one: Content) -> str:
    if one["flagged"] is None:
        return f"not known: {one['flagged_reason']}"
    return ", ".join(one["flagged"]) or words.NONE


def _say_flagged(own: Content, kind: str) -> str:
    if "flagged" not in own:
        return "none: no threshold"
    share = own["flagged"][kind]
    if share["value"] is None:
        return words.NONE
    return f"{say_percent(share['value'])} of {share['n']}"


def _say_mean(one: Content, key: str) -> str:
    if "reason" in one:
        return f"none: {one['reason']}"
    mean = one["mean_auc"][key]
    if mean["value"] is None:
        return "none: too few pictures of unknown types"
    return f"{say(mean['value'])}, {count(mean['n_hospitals'], 'hospitals')}"


def _show_sheet(sheet: str | None, title: str) -> list[Folded]:
    if sheet is None:
        return []
    return [Folded(title, [Pictures("", [Picture(sheet, title)], is_sheet=True)])]
