"""The catalogue: every row is a command that can run, and every count is the published one."""

import shutil
import textwrap

import pytest
from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from stages.core import backend, params, settings
from stages.core.errors import ModelError, PipelineError
from stages.labels import taxonomy
from stages.models import recipes
from stages.tools import replays
from stages.tools.replays import Count
from tests.made.shipped import edit
from tests.projects import ROOT

KERAS = backend.load_keras()
# Systems of our own: nobody's replay.
OURS = {"lite0_finetuned", "lite0_finetuned_gpu", "lite0_head", "measures_trees", "ensemble"}


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_every_recipe_has_a_source_or_is_ours(rows, content):
    used = {replay.recipe for replay in rows.values()}
    assert used | OURS <= set(content["models"])  # a user may have added some
    assert not used & OURS


def test_both_projects_are_there_with_the_number_that_each_chose(rows):
    """Every backbone that PyCell tried or wished to; the figures that the reports stand by."""
    networks = {replay.built.network for replay in rows.values() if replay.project == "PyCell"}
    assert networks >= {
        "lenet", "plain_cnn", "vgg16", "densenet121", "inceptionv3", "mobilenetv2", "resnet50",
        "resnet101", "resnet152", "nasnetlarge", *(f"efficientnetb{k}" for k in range(8)),
    }  # fmt: skip
    printed = {row: (replay.paper, replay.paper_n) for row, replay in rows.items()}
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
def test_rows_tell_as_many_classes_apart_as_the_papers(rows, row, n_classes):
    assert rows[row].n_classes == n_classes


def test_no_setting_says_what_holds_anyway(rows, content):
    """A row differs from its recipe by what it names; protocols say all that was told.

    But for the taxonomy, which every command names, whatever params.yaml says today.
    """
    for replay in rows.values():
        for setting in replay.settings:
            is_taxonomy = setting == f"taxonomy={replays.TAXONOMY}"
            if len(replays.choices(setting)) == 1 and not is_taxonomy:
                assert replays.change(content, [setting]) != content, (replay.row, setting)


def test_a_row_without_a_score_says_why_where_its_weights_are_not_to_be_had(rows):
    """Of the published weights, those of VGG19 and MobileNetV2 are at hand."""
    for replay in rows.values():
        parts = replays.list_parts(
            replay.built, taxonomy.read_taxonomy(replay.changed.taxonomy).classes
        )
        wanted = {
            part.recipe.network
            for part in parts
            if isinstance(part.recipe, recipes.NetworkRecipe) and part.recipe.weights == "imagenet"
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
def test_a_command_does_what_dvc_makes_of_it(rows, content, tmp_path, row):
    """Parsed by DVC itself, the words of the command give the parameters that were checked."""
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    words = [*rows[row].protocol.settings, f"model={rows[row].recipe}"]
    words += rows[row].settings
    apply_overrides(tmp_path / "params.yaml", words)
    by_dvc = settings.read_yaml(tmp_path / "params.yaml")
    assert by_dvc == replays.change(content, words)
    assert params.parse(by_dvc) == rows[row].changed


def test_a_series_is_what_dvc_makes_of_it(rows):
    settings = rows["pycell-lenet-sweep"].settings
    sweeps = get_hydra_sweeps({"params.yaml": list(settings)})
    assert len(sweeps) == 15
    ours = [choice for setting in settings for choice in replays.choices(setting)]
    assert {word for sweep in sweeps for word in sweep["params.yaml"]} == set(ours)
    assert "--queue" in rows["pycell-lenet-sweep"].command
    assert "--queue" not in rows["pycell-lenet"].command


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
        replays.change(content, [setting])


def test_a_change_leaves_what_it_was_given(content):
    before = str(content)
    changed = replays.change(content, ["+models.vgg19.batch=64", "weights_dir=null", "seed=1"])
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
    no_score = dict.fromkeys(["ours", "low", "high", "n", "ours_settings"], "")
    line = edit(project / "data/replays.csv", "pycell-lenet", **(no_score | cells))
    if message is None:
        assert len(replays.read()) > 50
        return
    with pytest.raises(ModelError, match=rf"^data/replays.csv, line \d+.*{message}") as caught:
        replays.read()
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
        replays.read()


def test_a_hospital_without_a_block_is_told(project):
    edit(
        project / "data/protocols.csv",
        "leukopy_barcelona",
        settings="hospitals=[madrid] split.train_hospitals=[madrid]",
    )
    with pytest.raises(PipelineError, match=r"data/replays.csv, line .*cannot run: .*madrid"):
        replays.read()


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
def test_networks_have_the_published_numbers_of_weights(rows, row, total, learning):
    """All weights, and in each step those that learn, of the recipe that the row names."""
    changed = rows[row].changed
    classes = taxonomy.read_taxonomy(changed.taxonomy).classes
    [part] = replays.list_parts(rows[row].built, classes)
    with KERAS.StatelessScope(initialize_variables=False):  # shapes without values
        counts = replays.count(part)
    assert {one.total for one in counts} == {total}
    assert [one.learning for one in counts] == learning
    assert [one.step for one in counts] == [step.train for step in rows[row].built.steps]


def test_a_frozen_backbone_counts_but_does_not_learn(content):
    """Two numbers scale and shift each of its 1280 features; a weight for each class, and one more.

    Its own, and the mean and the spread of each feature, are there and do not learn.
    """
    rule = params.parse(content)
    head = recipes.choose("lite0_head", rule.models, rule.features)
    [part] = replays.list_parts(head, list("abc"))
    [found] = replays.count(part)
    learning = 2 * 1280 + 1281 * 3
    assert found == Count("head", 60, 3_413_024 + 2 * 1280 + learning, learning)


def test_a_cascade_has_eight_classes_and_then_six(rows):
    """Leukopy's: eight folders; then the five inside two of them, and others."""
    changed = rows["leukopy-cascade"].changed
    classes = taxonomy.read_taxonomy(changed.taxonomy).classes
    parts = replays.list_parts(rows["leukopy-cascade"].built, classes)
    assert [(part.name, part.n_classes) for part in parts] == [("first", 8), ("second", 6)]


def test_what_has_no_network_has_no_weights(content):
    rule = params.parse(content)
    ensemble = recipes.choose("ensemble", rule.models, rule.features)
    parts = replays.list_parts(ensemble, list("abcd"))
    assert [(part.name, part.n_classes) for part in parts] == [
        ("lite0_finetuned", 4),
        ("measures_trees", 4),
    ]
    assert replays.count(parts[1]) == []


def test_notes_of_protocols_fit_the_page(rows):
    for protocol in {replay.protocol for replay in rows.values()}:
        assert protocol.title
        assert protocol.note.endswith(".")
        assert textwrap.shorten(protocol.note, 600) == protocol.note
