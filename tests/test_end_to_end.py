"""The pipeline as its users know it: the real commands, in a repository of its own.

One small experiment is reproduced once. The tests change it as a user or a developer would; TABLE
says what each edit makes run, and so what it must not.
"""

import copy
import json
import re
import shlex
import shutil
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages.simulation.cohorts import SmearSpec
from stages.simulation.cohorts import publish as publish_smears
from tests import documents
from tests.made import warm_python
from tests.projects import Project, stages_run

TRAINING = ["demo_north", "demo_east"]
DEMO = [*TRAINING, "demo_west"]
ASKING = [f"{stage}@{name}" for stage in ("predict", "adapt") for name in DEMO]
LOOKING = ["bias", "explain", "novelty", "attributes", "gallery", "export"]
LEARNING = ["train", *ASKING, "evaluate", *LOOKING, "summarise", "report"]
DIVIDING = ["split", "colorimetry", "probe", "validate", "maps", "gather"]
# What an unseen hospital makes run, besides its own stages: tables, and no training.
FOR_ALL = ["harmonise", *DIVIDING, "evaluate", *LOOKING, "summarise", "report"]
EMBEDDING = [f"features@{name}" for name in TRAINING]
MODELS = {
    "pixels": {"kind": "classifier", "vectors": "grey", "size": 32, "classifier": "knn"},
    "trees": {
        "kind": "classifier", "vectors": "grey", "size": 32, "classifier": "forest", "trees": 5,
    },
    "few_pixels": {"kind": "classifier", "vectors": "grey", "size": 24, "classifier": "knn"},
    "both": {"kind": "ensemble", "members": ["pixels", "trees"]},
    "unused": {"kind": "network", "network": "lenet", "size": 64, "steps": {"all": {"epochs": 1}}},
}  # fmt: skip

# Two classes, so that the simple models of the probe are few.
GRANULES = {
    "granulocyte": ["band_neutrophil", "segmented_neutrophil", "eosinophil", "basophil"],
    "other": ["lymphocyte", "monocyte", "erythroblast", "platelet"],
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The demo with fewer pictures and classes and a recipe without TensorFlow, reproduced."""
    made = Project(tmp_path_factory.mktemp("user") / "smearflow")
    blocks = yaml.safe_load(made.read("data/hospitals.yaml"))
    for name in DEMO:
        blocks[name]["simulated"] |= {"n_images": 48, "defects": {"truncated": 1, "empty": 1}}
    write_yaml(made, "data/hospitals.yaml", blocks)
    with (made.folder / "data/taxonomies.csv").open("a", encoding="utf-8") as file:
        for label, cell_types in GRANULES.items():
            file.writelines(f"granules,cell_type,{name},{label},,\n" for name in cell_types)
    content = yaml.safe_load(made.read("params.yaml"))
    content |= {"taxonomy": "granules", "partial": DEMO, "model": "both"}
    # DVC reads the file once for each stage: the recipes that no test names are left out.
    content["models"] = MODELS | {
        name: content["models"][name] for name in ("lite0_head", "measures_trees")
    }
    content["models"]["lite0_head"] |= {"size": 32, "views": 1}
    content["models"]["lite0_head"]["steps"]["head"]["epochs"] = 2
    content["models"]["measures_trees"] |= {"vectors": "grey", "size": 32}
    content["features"] |= {"size": 32, "layers": ["block3"]}
    content["evaluate"]["bootstrap"] = 100
    content["bias"]["max_images"] = 5
    content["explain"]["methods"] = ["occlusion"]
    content["novelty"]["max_images"] = 5
    write_yaml(made, "params.yaml", content)
    made.commit("small demo")
    made.first = made.dvc("repro")
    made.commit("results")
    return made


@pytest.fixture(scope="module")
def warm(project):
    """The project once more, its commands run by a warm Python."""
    with warm_python.start() as python:
        again = copy.copy(project)
        again.python = str(python)
        yield again


@pytest.fixture
def edited(warm):
    """The project, put back after the test."""
    yield warm
    warm.git("checkout", "-q", ".")
    warm.dvc("checkout")


def write_yaml(project, name, content):
    text = yaml.safe_dump(content, sort_keys=False)
    (project.folder / name).write_text(text, encoding="utf-8")


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
    own = [f"{stage}@{name}" for stage in ("download", "filter", "quality") for name in DEMO]
    for_all = ["plots", "recipe", "harmonise", *DIVIDING, "suspects", *LEARNING]
    ran = stages_run(project.first)
    assert sorted(ran) == sorted([*own, *EMBEDDING, *for_all])
    assert ran.index("recipe") < ran.index("filter@demo_north")
    told = project.first.stdout[project.first.stdout.rindex("Running stage 'summarise'") :]
    assert "demo_west" in told
    assert re.search(r"0\.\d{3} to [01]\.\d{3}", told)
    assert "not evidence of accuracy on real cells" in told


def test_no_stage_prints_a_librarys_warning(project):
    """What a user reads is written for users: libraries' warnings name their class on stderr."""
    assert re.findall(r".*Warning\b.*", project.first.stdout + project.first.stderr) == []


def test_a_second_run_does_nothing(project):
    assert stages_run(project.dvc("repro")) == []
    assert project.git("status", "--porcelain") == ""


def test_in_is_kept_plus_rejected_at_every_stage(project):
    """Every member of every archive can be followed to its part, or to the reason why not."""
    import pandas as pd

    split = pd.concat([pd.read_parquet(path) for path in (project.folder / "data/split").iterdir()])
    labels = pd.read_parquet(project.folder / "data/labels.parquet")
    predictions = pd.concat(
        [pd.read_parquet(path) for path in (project.folder / "data/predictions").iterdir()]
    )
    training = pd.read_parquet(project.folder / "data/training/pictures.parquet")
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
    assert len(predictions) == split["part"].isin(["valid", "test", "unseen"]).sum()
    assert len(training) == split["part"].isin(["train", "valid"]).sum()


def test_the_warm_python_ends_as_python_does(project, warm):
    """Exit code and words of a command that fails, of one that does not, and of no command."""
    for words in (["filter", "nowhere"], ["filter"], ["tools.list_recipes"], ["no_such_stage"]):
        cold, again = project.stage(*words), warm.stage(*words)
        assert again.returncode == cold.returncode
        assert again.stdout == cold.stdout
        if words != ["no_such_stage"]:
            assert again.stderr == cold.stderr


# -- what an edit makes run, and what it must not -----------------------------------------------


def append(name, text="\nADDED = 1\n"):
    """Add a line to a module: other code, the same results."""

    def edit(project):
        with (project.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return edit


def set_params(**changes):
    return lambda project: project.edit_yaml("params.yaml", **changes)


def correct_citation(project):
    project.edit_yaml("data/hospitals.yaml", demo_north__citation="Drawn again, and corrected.")


def review(hospital):
    """Let a person call the first monocyte of a hospital a basophil."""

    def edit(project):
        import pandas as pd

        labels = pd.read_parquet(project.folder / "data/labels.parquet")
        own = labels[(labels["hospital"] == hospital) & (labels["cell_type"] == "monocyte")]
        append("data/reviews.csv", f"{own['image_id'].iloc[0]},basophil,,Berg,\n")(project)

    return edit


TABLE = {
    "remove one": (set_params(hospitals=TRAINING, partial=TRAINING), FOR_ALL),
    "edit a metric": (
        append("stages/evaluation/metrics.py"), ["harmonise", "probe", "evaluate", "attributes"],
    ),
    "edit bootstrap": (
        set_params(evaluate__bootstrap=150), ["evaluate", "export", "summarise", "report"],
    ),
    "edit the chosen recipe": (
        set_params(models__both__members=["trees", "few_pixels"]), ["recipe", *LEARNING],
    ),
    "edit another recipe": (set_params(models__unused__size=96), ["recipe"]),
    "edit a member of the chosen composite": (
        set_params(models__pixels__neighbours=1), ["recipe", *LEARNING],
    ),
    "add a backbone": (
        append("stages/models/backbones.py"),
        ["recipe", *EMBEDDING, "maps", "train", *ASKING, *LOOKING],
    ),
    "correct a citation": (correct_citation, ["download@demo_north", "export", "report"]),
    "review a picture of an unseen hospital": (
        review("demo_west"),
        [
            "harmonise", *DIVIDING, "predict@demo_west", "adapt@demo_west", "evaluate", "bias",
            "explain", "novelty", "gallery", "export", "summarise", "report",
        ],
    ),
    "review a picture to learn from": (
        review("demo_north"), ["harmonise", *DIVIDING, "suspects", *LEARNING],
    ),
    "change features": (
        set_params(features__size=40),
        ["recipe", *EMBEDDING, "maps", "gather", "suspects", "export", "report"],
    ),
    "change inputs": (
        set_params(inputs__half_side=1.2),
        [*EMBEDDING, "probe", "maps", "gather", "suspects", *LEARNING],
    ),
    "ask for labels that no network learns from": (
        set_params(on_site__labels=[3]),
        [*(f"adapt@{name}" for name in DEMO), "evaluate", "export", "summarise", "report"],
    ),
    "list pictures unlike a hospital": (
        set_params(quality__similar_to="demo_north", quality__similar="flag"),
        ["split", "colorimetry", "report"],
    ),
    "change the split's seed": (
        set_params(seed=43),
        [*DIVIDING, "suspects", *LEARNING],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", TABLE)
def test_an_edit_reruns_what_it_changes_and_nothing_else(edited, row):
    edit, expected = TABLE[row]
    edit(edited)
    assert sorted(stages_run(edited.dvc("repro"))) == sorted(expected)


# -- what the documents say, word for word -------------------------------------------------------


def test_the_readme_compares_experiments_word_for_word(warm):
    """Another recipe reruns train to summarise; the diffs name the change and the effect."""
    [[*compare, queue, start]] = commands(warm, "Compare experiments")
    head, trees, params_diff, metrics_diff, told, page = (run(warm, words) for words in compare)
    assert "metrics/report/against.html" in page.stdout + page.stderr
    assert stages_run(head) == ["recipe", *LEARNING]
    assert stages_run(trees) == ["recipe", *LEARNING]
    assert re.search(r"model +lite0_head +measures_trees", params_diff.stdout)
    assert len(params_diff.stdout.splitlines()) < 20
    assert re.search(r"unseen_mean\.\S+ +\S+ +\S+ +\S+", metrics_diff.stdout)  # home may tie
    assert re.search(r"trees +demo_west +\d+ +\d+ +\S+ +\S+ +[+-]\S+ +\S+ +\w", told.stdout)
    page = warm.dvc("plots", "diff").stdout.strip().removeprefix("file://")
    html = Path(page).read_text(encoding="utf-8")
    assert "confusion.csv" in html
    shown = re.sub(r"<template.*?</template>", "", html, flags=re.DOTALL)
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=[\"']https?://", shown)
    assert {"head", "trees"} <= set(experiments(warm))

    [restore] = re.findall(r"`(git restore [^`]+)`", warm.read("README.md"))
    warm.run(*restore.split())
    assert warm.git("status", "--porcelain") == ""
    warm.dvc("checkout")
    assert stages_run(warm.dvc("repro")) == []

    for words in (queue, start):
        run(warm, words)
    wait_for_queue(warm)
    numbers = {
        found["params"]["params.yaml"]["data"]["models"]["measures_trees"]["trees"]
        for found in experiments(warm).values()
    }
    assert {100, 300} <= numbers


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
    """The commands of a section's bash blocks, split into words, a list for each block."""
    return [
        [shlex.split(line.removeprefix("uv run ")) for line in body.splitlines() if line]
        for language, body in documents.blocks(documents.find_section(title, project.folder))
        if language == "bash"
    ]


def run(project, words):
    """Run a command of `commands`."""
    if words[0] == "dvc":
        return project.dvc(*words[1:])
    if words[:2] == ["python", "-m"]:
        return project.stage(words[2].removeprefix("stages."), *words[3:], check=True)
    return project.run(*words)


def test_the_readme_asks_about_pictures_word_for_word(warm):
    """Files and a zip of a hospital's pictures are called as the stage predict called them."""
    place = warm.folder / "smears"
    place.mkdir()
    images = pd.read_parquet(warm.folder / "data/images/demo_west.parquet").head(4)
    contents = list(images["bytes"])
    for number in (1, 2):
        (place / f"{number}.png").write_bytes(contents[number])
    with zipfile.ZipFile(warm.folder / "more.zip", "w") as archive:
        archive.writestr("3.png", contents[3])
    [[words]] = commands(warm, "Ask about pictures")
    done = warm.stage("predict", *words[2:], check=True)
    assert "wrote answers.html" in done.stdout
    page = warm.read("answers.html")
    assert all(name in page for name in ("smears/1.png", "smears/2.png", "more.zip/3.png"))
    shutil.rmtree(place)
    for name in ("answers.html", "more.zip"):
        (warm.folder / name).unlink()


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


def test_the_readme_adds_a_hospital_word_for_word(warm):
    """A folder of class folders, one block, one label map: no code, and no training."""
    section = documents.find_section("Add your hospital", warm.folder)
    found = dict(documents.blocks(section))
    folders = sorted(set(re.findall(r"`(\.\./lisbon/\w+)`", section)))
    publish(warm, [warm.folder / folder for folder in folders], seed=77)
    path = warm.folder / "data/hospitals.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\n" + found["yaml"], encoding="utf-8")
    (warm.folder / "data/labels/lisbon.csv").write_text(found["csv"], encoding="utf-8")
    [[add, words], _] = commands(warm, "Add your hospital")
    run(warm, add)
    done = run(warm, words)
    own = [f"{stage}@lisbon" for stage in ("download", "filter", "quality", "predict", "adapt")]
    assert sorted(stages_run(done)) == sorted([*own, *FOR_ALL])
    scores = json.loads(warm.read("metrics/evaluate.json"))["by_hospital"]
    assert scores["lisbon"]["part"] == "unseen"
    assert scores["lisbon"]["n_images"] == 24
    assert scores["lisbon"]["on_site"]["calibrated"]["n_images"] == 24
    warm.git("checkout", "-q", "params.yaml", "dvc.lock", "metrics")
    warm.dvc("checkout")
    warm.commit("lisbon is known")


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


def test_a_queued_experiment_finds_the_mirror_and_a_removed_hospital_is_gone(project, warm):
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
    wait_for_queue(warm, **variables)
    found = experiments(warm)["queued"]
    assert found["params"]["params.yaml"]["data"]["hospitals"][-1] == "porto"
    scored = json.loads(project.git("show", f"{found['rev']}:metrics/evaluate.json"))
    assert set(scored["by_hospital"]) == {"demo_north", "demo_east", "porto"}
    assert found["metrics"]["metrics/summary.json"]["data"]["unseen_worst"]["hospital"] == "porto"
