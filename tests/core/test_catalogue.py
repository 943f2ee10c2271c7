"""The catalogue: every row is a command that can run, and every count is the published one."""

import csv
import shutil
import textwrap

import pytest
from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from stages.core import catalogue, params, taxonomy
from stages.core.catalogue import Count
from stages.core.errors import ModelError, PipelineError
from tests.projects import ROOT

# Systems of our own: nobody's replay.
OURS = {"lite0_finetuned", "lite0_finetuned_gpu", "lite0_head", "measures_trees", "ensemble"}
PROJECT_FILES = (
    "params.yaml", "data/hospitals.yaml", "data/taxonomies.csv", "data/protocols.csv",
    "data/replays.csv",
)  # fmt: skip


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def replays():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return {replay.row: replay for replay in catalogue.read()}


@pytest.fixture(scope="module")
def content():
    return params.read_yaml(ROOT / "params.yaml")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The files that the catalogue reads, to be edited."""
    (tmp_path / "data").mkdir()
    for name in PROJECT_FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(path, name, /, **changes):
    """Change cells of the row of that name in a CSV file; return the number of its line."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    place = next(i for i, cells in enumerate(rows) if name in cells.values())
    rows[place] |= changes
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return place + 2


def test_every_recipe_has_a_source_or_is_ours(replays, content):
    used = {replay.recipe for replay in replays.values()}
    assert used | OURS == set(content["models"])
    assert not used & OURS


def test_both_projects_are_there_with_the_number_that_each_chose(replays):
    """Every backbone that PyCell tried or wished to; the figures that the reports stand by."""
    networks = {
        replay.changed.recipe.network for replay in replays.values() if replay.project == "PyCell"
    }
    assert networks >= {
        "lenet", "plain_cnn", "vgg16", "densenet121", "inceptionv3", "mobilenetv2", "resnet50",
        "resnet101", "resnet152", "nasnetlarge", *(f"efficientnetb{k}" for k in range(8)),
    }  # fmt: skip
    printed = {row: (replay.paper, replay.paper_n) for row, replay in replays.items()}
    assert printed["pycell-efficientnetb1"] == ("94.88 %", 6874)
    assert printed["leukopy-lenet"] == (".7983", 2544)
    assert printed["leukopy-vgg19-block5"] == (".9127", 2544)
    assert printed["leukopy-merged-vgg19-block5"] == (".9387", 3769)
    assert printed["leukopy-raabin-vgg19"] == (".474", 16_633)
    assert printed["leukopy-svm8"] == (".9779", 5613)
    assert printed["leukopy-knn-umap"] == (".45", 3419)


@pytest.mark.parametrize(
    ("row", "n_classes"),
    [
        ("pycell-lenet", 3), ("leukopy-lenet", 11), ("leukopy-lenet8", 8),
        ("leukopy-efficientnetb3-draft", 12), ("leukopy-efficientnetb3-subclasses", 7),
        ("leukopy-svm8", 8), ("leukopy-svm6", 6), ("leukopy-svm13", 13),
        ("leukopy-knn-umap", 8), ("leukopy-umap-knn", 11),
    ],
)  # fmt: skip
def test_rows_tell_as_many_classes_apart_as_the_papers(replays, row, n_classes):
    assert replays[row].n_classes == n_classes


def test_no_setting_says_what_holds_anyway(replays, content):
    """A row differs from its recipe by what it names; protocols say all that was told."""
    for replay in replays.values():
        for setting in replay.settings:
            if len(catalogue.choices(setting)) == 1:
                assert catalogue.change(content, [setting]) != content, (replay.row, setting)


def test_a_row_without_a_score_says_why_where_its_weights_are_not_to_be_had(replays):
    """Of the published weights, those of VGG19 and MobileNetV2 are at hand."""
    for replay in replays.values():
        parts = catalogue.list_parts(
            replay.changed.recipe, taxonomy.read_taxonomy(replay.changed.taxonomy).classes
        )
        wanted = {
            part.recipe.network
            for part in parts
            if isinstance(part.recipe, params.NetworkRecipe) and part.recipe.weights == "imagenet"
        }
        if wanted - {"vgg19", "mobilenetv2"}:
            assert replay.not_run or replay.ours is not None, replay.row


@pytest.mark.parametrize(
    "row",
    [
        "pycell-efficientnetb0", "leukopy-lenet8", "leukopy-efficientnetb3-draft",
        "leukopy-merged-vgg19", "leukopy-raabin-vgg19", "leukopy-svm6-masked",
        "leukopy-vit-b16-faster", "leukopy-forest-umap-leaky",
    ],
)  # fmt: skip
def test_a_command_does_what_dvc_makes_of_it(replays, content, tmp_path, row):
    """Parsed by DVC itself, the words of the command give the parameters that were checked."""
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    words = [*replays[row].protocol.settings, f"model={replays[row].recipe}"]
    words += replays[row].settings
    apply_overrides(tmp_path / "params.yaml", words)
    by_dvc = params.read_yaml(tmp_path / "params.yaml")
    assert by_dvc == catalogue.change(content, words)
    assert params.parse(by_dvc) == replays[row].changed


def test_a_series_is_what_dvc_makes_of_it(replays):
    settings = replays["pycell-lenet-sweep"].settings
    sweeps = get_hydra_sweeps({"params.yaml": list(settings)})
    assert len(sweeps) == 15
    ours = [choice for setting in settings for choice in catalogue.choices(setting)]
    assert {word for sweep in sweeps for word in sweep["params.yaml"]} == set(ours)
    assert "--queue" in replays["pycell-lenet-sweep"].command
    assert "--queue" not in replays["pycell-lenet"].command


@pytest.mark.parametrize(
    "setting",
    [
        "models.vgg19.batch=64",  # not written there: needs a +
        "models.vgg19.netwerk=vgg16",
        "models.vgg19.steps.7.epochs=3",
        "models.vgg18.size=100",
        "+models.vgg19.size=100",  # written there
        "taxonomy",
    ],
)
def test_what_dvc_refuses_is_refused(content, tmp_path, setting):
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    with pytest.raises(InvalidArgumentError):
        apply_overrides(tmp_path / "params.yaml", [setting])
    with pytest.raises(ModelError, match=r"models|taxonomy"):
        catalogue.change(content, [setting])


def test_a_change_leaves_what_it_was_given(content):
    before = str(content)
    changed = catalogue.change(content, ["+models.vgg19.batch=64", "weights_dir=null", "seed=1"])
    assert str(content) == before
    assert (changed["models"]["vgg19"]["batch"], changed["weights_dir"]) == (64, None)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"recipe": "lenett"}, "recipe 'lenett' is unknown. Did you mean 'lenet'"),
        ({"protocol": "pycel"}, "protocol 'pycel' is unknown. Did you mean 'pycell'"),
        ({"settings": "taxonomy=leukemia3"}, "settings: the command cannot run: .*leukaemia3"),
        ({"settings": "models.lenet.sise=64"}, "cannot run: .*Did you mean 'size'"),
        ({"settings": "models.lenet.size=8"}, r"cannot run: params.yaml, models.lenet.size: got 8"),
        ({"settings": "models.lenet.activation=relu,rely"}, r"cannot run: .*got 'rely'"),
        ({"settings": "split.test=0.3"}, "split.test is set twice"),
        ({"settings": "taxonomy=cells11 taxonomy=cells13"}, "taxonomy is set twice"),
        ({"settings": "sede=3"}, "'sede' is not written in params.yaml. Did you mean 'seed'"),
        ({"recipe": "cascade", "settings": ""}, None),
        ({"recipe": "cascade", "settings": "taxonomy=shared5"}, "cannot run: .*groups name"),
        ({"system": " "}, "system is empty"),
        ({"paper": ""}, "paper is empty"),
        ({"row": "LeNet"}, "row is 'LeNet'; it takes small letters"),
        ({"row": "leukopy-lenet"}, "row 'leukopy-lenet' stands twice"),
        ({"paper_n": "about 3"}, "paper_n is 'about 3'"),
        ({"paper_n": "0"}, "paper_n is '0'"),
        ({"ours": ".7", "low": ".6", "high": ".8"}, "a score has four cells, and n is empty"),
        ({"ours": ".5", "low": ".6", "high": ".8", "n": "9"}, "ours '.5', low '.6', high '.8'"),
        ({"ours": "70", "low": "60", "high": "80", "n": "9"}, "they take shares"),
        ({"ours": "x", "low": ".6", "high": ".8", "n": "9"}, "they take shares"),
        ({"ours": ".7", "low": ".6", "high": ".8", "n": "9.5"}, "n is '9.5'"),
        (
            {"ours": ".7", "low": ".6", "high": ".8", "n": "9", "not_run": "no time"},
            "a score of ours and a reason why there is none",
        ),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_with_its_line(project, cells, message):
    line = edit(project / "data/replays.csv", "pycell-lenet", **cells)
    if message is None:
        assert len(catalogue.read()) > 50
        return
    with pytest.raises(ModelError, match=rf"^data/replays.csv, line \d+.*{message}") as caught:
        catalogue.read()
    told = int(str(caught.value).split("line ")[1].split(":")[0].split(",")[0])
    assert told == (line if cells.get("row") != "leukopy-lenet" else told)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("row,project", "row,author", "line 1: the columns are row,author"),
        (",LeNet,lenet,", ",LeNet, small,lenet,", "line 2: has 17 cells, not 16"),
    ],
)
def test_a_table_of_another_shape_is_refused(project, old, new, message):
    path = project / "data/replays.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ModelError, match=f"data/replays.csv, {message}"):
        catalogue.read()


def test_a_hospital_without_a_block_is_told(project):
    edit(
        project / "data/protocols.csv",
        "leukopy_barcelona",
        settings="hospitals=[madrid] split.train_hospitals=[madrid]",
    )
    with pytest.raises(PipelineError, match=r"data/replays.csv, line .*cannot run: .*madrid"):
        catalogue.read()


@pytest.mark.parametrize(
    ("row", "total", "learning"),
    [
        ("leukopy-lenet", 7_880_675, [7_880_675]),
        ("leukopy-lenet8", 7_880_288, [7_880_288]),
        ("leukopy-vgg19", 21_507_915, [1_483_531]),
        ("leukopy-vgg19-block5", 21_507_915, [1_483_531, 1_483_531 + 9_439_232]),
        ("leukopy-efficientnetb0", 4_049_571 + 2_466_571, [2_466_571]),
        ("leukopy-efficientnetb3", 10_783_535 + 2_794_251, [2_794_251]),
        ("leukopy-efficientnetb3-subclasses", 12_885_814, [2_102_279]),
        ("leukopy-xception", 27_686_451, [6_824_971]),
        ("leukopy-svm8", 15_768_904, [15_768_904 - 14_714_688, 8_133_640]),
        ("leukopy-svm6", 15_767_878, [15_767_878 - 14_714_688, 8_133_640 - 1026]),
        ("leukopy-svm13", 15_771_469, [15_771_469 - 14_714_688, 8_133_640 + 2565]),
        ("leukopy-vit-b16", 85_999_371, [200_203]),
        ("leukopy-vit-b32", 87_518_987, [87_518_987]),
        ("leukopy-vit-b32-frozen", 87_714_315, [201_739]),
        ("leukopy-vit-b16-blocks", 86_223_627, [35_642_635]),
    ],
)  # fmt: skip
def test_networks_have_the_published_numbers_of_weights(replays, row, total, learning):
    """All weights, and in each step those that learn, of the recipe that the row names."""
    changed = replays[row].changed
    classes = taxonomy.read_taxonomy(changed.taxonomy).classes
    [part] = catalogue.list_parts(changed.recipe, classes)
    counts = catalogue.count(part, changed.features, None)
    assert {one.total for one in counts} == {total}
    assert [one.learning for one in counts] == learning
    assert [one.step for one in counts] == [step.train for step in changed.recipe.steps]


def test_a_head_counts_the_stored_vector(content):
    """A mean, a spread and a weight for each class of block10's 112 and the head's 1280 values."""
    rule = params.parse(content)
    [part] = catalogue.list_parts(rule.models["lite0_head"], list("abc"))
    [found] = catalogue.count(part, rule.features, None)
    assert found == Count("all", 60, 2 * 1392 + 1393 * 3, 1393 * 3)


def test_a_cascade_has_eight_classes_and_then_six(replays):
    """Leukopy's: eight folders; then the five inside two of them, and others."""
    changed = replays["leukopy-cascade"].changed
    classes = taxonomy.read_taxonomy(changed.taxonomy).classes
    parts = catalogue.list_parts(changed.recipe, classes)
    assert [(part.name, part.n_classes) for part in parts] == [("first", 8), ("second", 6)]


def test_what_has_no_network_has_no_weights(content):
    rule = params.parse(content)
    parts = catalogue.list_parts(rule.models["ensemble"], list("abcd"))
    assert [(part.name, part.n_classes) for part in parts] == [("network", 4), ("trees", 4)]
    assert catalogue.count(parts[1], rule.features, None) == []


def test_every_recipe_is_described(content):
    rule = params.parse(content)
    told = {name: catalogue.describe(recipe) for name, recipe in rule.models.items()}
    assert told["vgg19"].startswith("vgg19, ImageNet weights, dense 1280, 640 (relu)")
    assert "from scratch" in told["efficientnetb3_scratch"]
    assert "brightness 0.1 to 2" in told["efficientnetb3_subclasses"]
    assert (
        told["knn_umap"]
        == "3 nearest neighbours on supervised UMAP (2) of grey of 120 px, no network"
    )
    assert "then SVM of the first hidden layer" in told["vgg16_svm"]
    assert "vgg16" in told["cascade"]
    assert "efficientnet_lite0" in told["ensemble"]
    assert "extra trees" in told["ensemble"]


def test_a_recipe_is_laid_out_narrow(content):
    """Every step has its line; the numbers of weights stand below one another."""
    rule = params.parse(content)
    recipe = rule.models["vgg19_block5"]
    [part] = catalogue.list_parts(recipe, list("abc"))
    counts = [Count("head", 30, 123_456_789, 1_483_531), Count("block5", 26, 123_456_789, 9)]
    lines = catalogue.recipe_lines("vgg19_block5", recipe, [(part, counts)], ["a-row"] * 12)
    assert max(map(len, lines)) <= catalogue.WIDTH
    head = catalogue.head_lines()[0]
    steps = [" ".join(line.split()) for line in lines[:2]]
    assert steps[0] == "vgg19_block5 360 px 3 123,456,789 1,483,531 head, 30 epochs"
    assert steps[1] == "9 block5, 26 epochs"
    assert lines[0].index("123,456,789") + 11 == head.index("weights") + 7
    assert lines[-1] == "  uv run dvc exp run -n vgg19-block5 -S model=vgg19_block5"
    assert "a-row, a-row" in " ".join(lines)


def test_a_replay_is_laid_out_with_its_command(replays):
    """Lines of at most 100 columns; the shell reads the broken command as the whole one."""
    for replay in replays.values():
        lines = catalogue.replay_lines(replay)
        assert max(map(len, lines)) <= catalogue.WIDTH
        start = next(i for i, line in enumerate(lines) if "SMEARFLOW_MIRROR" in line)
        pasted = " ".join("\n".join(lines[start:]).replace("\\\n", " ").split())
        assert pasted == " ".join(replay.command)
        assert "not run" in " ".join(lines) or "none yet" in " ".join(lines) or replay.n


def test_a_score_is_shown_with_interval_and_number(project):
    edit(
        project / "data/replays.csv", "pycell-lenet",
        ours="0.674", low="0.64", high="1.0", n="1768", ours_settings="5 epochs",
    )  # fmt: skip
    found = catalogue.read()
    lines = catalogue.replay_lines(found[0])
    assert "  paper ~75 %; ours .674 (.640 to 1.000) of 1,768" in lines
    assert "  ours reduced: 5 epochs" in lines
    row = next(
        line for line in catalogue.readme_table(found).split("\n") if "`-n pycell-lenet " in line
    )
    assert row == (
        "| LeNet (report) | `-n pycell-lenet -S model=lenet -S taxonomy=leukaemia3` | ~75 % "
        "| .674 (.640 to 1.000) | 1,768 | ours reduced: 5 epochs |"
    )


def test_the_table_for_the_readme_holds_every_command(replays):
    """The protocol's block and a row's second cell are, together, the command of the row."""
    table = catalogue.readme_table(list(replays.values()))
    told = []
    for section in table.split("```bash\n")[1:]:
        base, rest = section.split("\n```\n")
        for line in rest.split("\n"):
            if line.startswith("| ") and not line.startswith("| system"):
                cells = line.split(" | ")
                assert len(cells) == 6, line
                told.append(f"{base} {cells[1].strip('`')}")
    assert sorted(told) == sorted(" ".join(replay.command) for replay in replays.values())


def test_the_readme_holds_the_table(replays):
    table = catalogue.readme_table(list(replays.values()))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table in text, f"paste this into README.md, Replay the two projects:\n\n{table}"


def test_notes_of_protocols_fit_the_page(replays):
    for protocol in {replay.protocol for replay in replays.values()}:
        assert protocol.title
        assert protocol.note.endswith(".")
        assert textwrap.shorten(protocol.note, 600) == protocol.note
