"""The pipeline as its users know it: the real commands, in a repository of its own.

One small experiment is reproduced once; the tests below change it as a user would, in order.
"""

import json
import re
import shlex
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from stages.simulation.cohorts import SmearSpec
from stages.simulation.cohorts import publish as publish_smears
from tests import documents
from tests.projects import Project, stages_run

LEARNING = ["train", "evaluate", "cover", "summarise"]
DIVIDING = ["split", "probe", "suspects", "validate"]
FOR_ALL = ["harmonise", *DIVIDING, *LEARNING]
PER_HOSPITAL = ["download", "filter", "quality", "features"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The demo with fewer pictures and views, reproduced and committed."""
    made = Project(tmp_path_factory.mktemp("user") / "smearflow")
    blocks = yaml.safe_load(made.read("data/hospitals.yaml"))
    small = {f"demo_{name}__simulated__n_images": 90 for name in ("north", "east", "west")}
    assert all(name.split("__")[0] in blocks for name in small)
    made.edit_yaml("data/hospitals.yaml", **small)
    made.edit_yaml(
        "params.yaml",
        taxonomy="shared5",
        partial=["demo_north", "demo_east", "demo_west"],
        features__augmented_views=0,
        models__lite0_head__epochs=8,
        models__lite0_finetuned__size=64,
        models__lite0_finetuned__steps__all__epochs=1,
        evaluate__bootstrap=100,
    )
    made.commit("small demo")
    made.first = made.dvc("repro")
    made.commit("results")
    return made


def summary(project):
    return json.loads(project.read("metrics/summary.json"))


def experiments(project):
    """Every experiment's params and metrics, by name, from ``dvc exp show``."""
    shown = json.loads(project.dvc("exp", "show", "--json").stdout)
    return {
        experiment["name"]: experiment["revs"][0]["data"]
        for row in shown
        for experiment in row.get("experiments") or []
    }


def test_every_stage_ran_once_and_the_end_is_readable(project):
    """The first repro runs all stages; its last lines name hospitals, n and intervals."""
    names = {f"{stage}@demo_{h}" for stage in PER_HOSPITAL for h in ("north", "east", "west")}
    ran = stages_run(project.first)
    assert sorted(ran) == sorted(names | {*FOR_ALL, "plots"})
    told = project.first.stdout[project.first.stdout.rindex("Running stage 'summarise'") :]
    assert "demo_west" in told
    assert re.search(r"0\.\d{3} to [01]\.\d{3}", told)
    assert "not evidence of accuracy on real cells" in told


def test_a_second_run_does_nothing(project):
    assert stages_run(project.dvc("repro")) == []
    assert project.git("status", "--porcelain") == ""


def test_in_is_kept_plus_rejected_at_every_stage(project):
    """Every member of every archive can be followed to its part, or to the reason why not."""
    import pandas as pd

    split = pd.read_parquet(project.folder / "data/split.parquet")
    labels = pd.read_parquet(project.folder / "data/labels.parquet")
    predictions = pd.read_parquet(project.folder / "data/predictions.parquet")
    total = 0
    for path in sorted((project.folder / "data/raw").glob("*/*.zip")):
        hospital = path.parent.name
        with zipfile.ZipFile(path) as archive:
            n_members = sum(not member.is_dir() for member in archive.infolist())
        counts = json.loads(project.read(f"metrics/filter/{hospital}.json"))
        assert n_members == counts["n_members"]
        assert n_members == counts["n_kept"] + counts["n_rejected"] + counts["n_auxiliary"]
        for table in ("images", "quality"):
            rows = pd.read_parquet(
                project.folder / f"data/{table}/{hospital}.parquet", columns=["image_id"]
            )
            assert len(rows) == counts["n_kept"]
        rejected = pd.read_parquet(project.folder / f"data/rejected/{hospital}.parquet")
        assert len(rejected) == counts["n_rejected"] == sum(counts["n_by_reason"].values())
        assert counts["n_rejected"] > 0
        assert (labels["hospital"] == hospital).sum() == counts["n_kept"]
        total += counts["n_kept"]
    assert len(labels) == total == labels["keep"].sum() + labels["drop_reason"].notna().sum()
    assert len(split) == labels["keep"].sum()
    assert len(predictions) == split["part"].isin(["test", "unseen"]).sum()


def test_editing_another_recipe_reruns_nothing(project):
    project.edit_yaml("params.yaml", models__lenet__batch=8)
    assert stages_run(project.dvc("repro")) == []
    project.git("checkout", "-q", "params.yaml")


def test_the_readme_compares_experiments_word_for_word(project):
    """Another recipe reruns train to summarise; the diffs name the change and the effect."""
    compare, series = commands(project, "Compare experiments")
    head, trees, params_diff, metrics_diff = (project.dvc(*words) for words in compare)
    assert stages_run(head) == stages_run(trees) == LEARNING
    assert re.search(r"model +lite0_head +measures_trees", params_diff.stdout)
    assert len(params_diff.stdout.splitlines()) < 20
    assert re.search(r"in_domain\.\S+ +\S+ +\S+ +\S+", metrics_diff.stdout)
    page = project.dvc("plots", "diff").stdout.strip().removeprefix("file://")
    html = Path(page).read_text(encoding="utf-8")
    assert "confusion.csv" in html
    shown = re.sub(r"<template.*?</template>", "", html, flags=re.DOTALL)
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=[\"']https?://", shown)
    assert {"head", "trees"} <= set(experiments(project))

    [restore] = re.findall(r"`(git restore [^`]+)`", project.read("README.md"))
    project.run(*restore.split())
    assert project.git("status", "--porcelain") == ""
    project.dvc("checkout")
    assert stages_run(project.dvc("repro")) == []

    for words in series:
        project.dvc(*words)
    wait_for_queue(project)
    rates = {
        found["params"]["params.yaml"]["data"]["models"]["lite0_head"]["dropout"]
        for found in experiments(project).values()
    }
    assert {0.1, 0.4} <= rates


def wait_for_queue(project, **variables):
    """Wait until nothing is queued or running; a failed experiment shows what it said."""
    for _ in range(600):
        status = project.dvc("queue", "status", **variables).stdout
        if not re.search(r"\b(Queued|Running)\b", status):
            break
        time.sleep(1)
    assert "Success" in status, status
    failed = re.findall(r"^(\w+) .*Failed", status, re.MULTILINE)
    assert not failed, project.dvc("queue", "logs", failed[0], check=False, **variables).stdout


def commands(project, title):
    """The dvc commands of a section's bash blocks, split into words, a list for each block."""
    return [
        [shlex.split(line.removeprefix("uv run dvc ")) for line in body.splitlines() if line]
        for language, body in documents.blocks(documents.find_section(title, project.folder))
        if language == "bash"
    ]


def test_the_readme_splits_at_random_word_for_word(project):
    """A leaky split reruns what depends on it, and every score of it says how leaky it is."""
    [[words]] = commands(project, "Splits and leaks")
    done = project.dvc(*words)
    assert sorted(stages_run(done)) == sorted([*DIVIDING, *LEARNING])
    told = done.stdout[done.stdout.rindex("Running stage 'summarise'") :]
    assert re.findall(r"^  leaky: [\d.]+ % of test images have a twin in train", told, re.MULTILINE)
    assert "WARNINGS" in told
    evaluation = json.loads(project.read("metrics/evaluate.json"))
    assert all("leaky" in block for block in evaluation["by_hospital"].values())
    leaks = evaluation["by_hospital"]["demo_north"]["leaks"]
    assert leaks["patient_in_train"]["value"] > 0.7
    project.git("checkout", "-q", ".")
    project.dvc("checkout")


def test_the_readme_compares_label_schemes_word_for_word(project):
    """Merging classes changes images and the stored accuracy; the same map twice changes none."""
    found = documents.commands(documents.find_section("Labels", project.folder))
    by_taxonomy, by_version = (
        [documents.module(line).removeprefix("stages."), *shlex.split(line)[5:]] for line in found
    )
    told = project.stage(*by_taxonomy, check=True).stdout
    assert re.search(r"demo_north +metamyelocyte +metamyelocyte +immature_granulocyte", told)
    changed = project.read("metrics/labels/diff.csv").splitlines()
    assert len(changed) > 20
    told = project.stage(*by_version, check=True).stdout
    assert "0 of" in told
    assert len(project.read("metrics/labels/diff.csv").splitlines()) == 1


def test_the_readme_adds_a_hospital_word_for_word(project):
    """A folder of class folders, one block, one label map: no code; only its stages rerun."""
    found = dict(documents.blocks(documents.find_section("Add your hospital", project.folder)))
    folders = [line.split()[0] for line in found["text"].splitlines() if line.strip()]
    publish(project, [project.folder / folder for folder in folders], seed=77)
    path = project.folder / "data/hospitals.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\n" + found["yaml"], encoding="utf-8")
    (project.folder / "data/labels/lisbon.csv").write_text(found["csv"], encoding="utf-8")
    [[add, words], _] = commands(project, "Add your hospital")
    project.run(*add)
    done = project.dvc(*words)
    own = [f"{stage}@lisbon" for stage in PER_HOSPITAL]
    assert sorted(stages_run(done)) == sorted(own + FOR_ALL)
    scores = json.loads(project.read("metrics/evaluate.json"))["by_hospital"]
    assert scores["lisbon"]["part"] == "unseen"
    assert scores["lisbon"]["n_images"] == 24
    project.git("checkout", "-q", "params.yaml", "dvc.lock", "metrics")
    project.commit("lisbon is known")


def publish(project, folders, seed):
    """Fill class folders with a dozen drawn pictures each, of nobody in the demo."""
    path = project.folder.parent / "drawn.zip"
    spec = SmearSpec(seed=seed, n_images=12 * len(folders))
    publish_smears(spec, "drawn", path)
    with zipfile.ZipFile(path) as archive:
        pictures = [archive.read(name) for name in sorted(archive.namelist())]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for index, content in enumerate(pictures[number :: len(folders)]):
            (folder / f"cell_{index}.jpg").write_bytes(content)


def test_a_queued_experiment_finds_the_mirror_and_a_removed_hospital_is_gone(project):
    """Queued with a relative mirror; one hospital comes from it, another one leaves the results."""
    mirror = project.folder.parent / "mirror/porto"
    publish(project, [mirror / "lymphocyte", mirror / "monocyte"], seed=78)
    block = {"title": "Porto", "licence": "none", "citation": "none", "folder": "not/here"}
    project.edit_yaml("data/hospitals.yaml", porto=block)
    (project.folder / "data/labels/porto.csv").write_text(
        "published_label,cell_type,reason,expected,source\n"
        "lymphocyte,lymphocyte,,,test\nmonocyte,monocyte,,,test\n",
        encoding="utf-8",
    )
    project.commit("porto is known")
    variables = {"SMEARFLOW_MIRROR": "../mirror"}
    hospitals = "hospitals=[demo_north,demo_east,porto]"
    partial = "partial=[demo_north,demo_east,porto]"
    words = ["-n", "queued", "-S", hospitals, "-S", partial]
    project.dvc("exp", "run", "--queue", *words, **variables)
    project.dvc("queue", "start", **variables)
    wait_for_queue(project, **variables)
    found = experiments(project)["queued"]
    assert found["params"]["params.yaml"]["data"]["hospitals"][-1] == "porto"
    scored = json.loads(project.git("show", f"{found['rev']}:metrics/evaluate.json"))
    assert set(scored["by_hospital"]) == {"demo_north", "demo_east", "porto"}
    assert found["metrics"]["metrics/summary.json"]["data"]["unseen_worst"]["hospital"] == "porto"
