"""Files at a revision: branches, commits, experiments; one line where there is none."""

import subprocess

import pytest

from stages.core.errors import PipelineError
from stages.core.revisions import expand, read_at


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A repository with one file of three versions: tag old, branch main, working tree."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def run(*words):
        command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(text, **parents):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data/map.csv").write_text(text, encoding="utf-8")
        run("add", "data")
        run("commit", "-q", "-m", text[:5])
        return run("rev-parse", "HEAD")

    run("init", "-q", "-b", "main")
    commit("first ä\n")
    run("tag", "old")
    commit("second\n")
    (tmp_path / "data/map.csv").write_text("third\n", encoding="utf-8")
    run.commit = commit
    return run


def add_experiment(git, name, text, baseline="HEAD"):
    """An experiment as DVC stores it: a commit under refs/exps, in no branch."""
    start = git("rev-parse", baseline)
    git("checkout", "-q", "-f", "--detach", start)
    commit = git.commit(text)
    git("update-ref", f"refs/exps/{start[:2]}/{start[2:]}/{name}", commit)
    git("checkout", "-q", "-f", "main")
    return commit


@pytest.mark.parametrize(
    ("revision", "text"),
    [("old", "first ä\n"), ("main", "second\n"), ("HEAD", "second\n"), ("HEAD~1", "first ä\n")],
)
def test_reads_the_version_of_a_revision(git, revision, text):
    """The working tree's own version is not looked at."""
    assert read_at(f"{revision}:data/map.csv") == text


def test_reads_an_abbreviated_commit(git):
    assert read_at(f"{git('rev-parse', '--short', 'old')}:data/map.csv") == "first ä\n"


def test_reads_an_experiment_by_its_name(git):
    """The name DVC shows; its stash and its queue are no experiments."""
    commit = add_experiment(git, "tarry-loon", "tried\n")
    git("update-ref", "refs/exps/exec/EXEC_BRANCH", commit)
    assert read_at("tarry-loon:data/map.csv") == "tried\n"
    with pytest.raises(PipelineError, match="'EXEC_BRANCH' is no commit"):
        read_at("EXEC_BRANCH:data/map.csv")


def test_a_branch_goes_before_an_experiment_of_its_name(git):
    add_experiment(git, "main", "tried\n")
    assert read_at("main:data/map.csv") == "second\n"


def test_of_two_experiments_of_one_name_that_from_the_present_commit_is_meant(git):
    add_experiment(git, "tarry-loon", "from old\n", "old")
    add_experiment(git, "tarry-loon", "from main\n", "main")
    assert read_at("tarry-loon:data/map.csv") == "from main\n"


def test_two_experiments_of_other_commits_are_told_apart_by_a_person(git):
    first = add_experiment(git, "tarry-loon", "from old\n", "old")
    second = add_experiment(git, "tarry-loon", "from main\n", "main")
    git("commit", "-q", "--allow-empty", "-m", "later")
    with pytest.raises(PipelineError, match="'tarry-loon' names 2 experiments") as caught:
        read_at("tarry-loon:data/map.csv")
    assert first[:10] in str(caught.value)
    assert second[:10] in str(caught.value)


def test_a_pattern_stands_for_the_names_that_match(git):
    """Each name once, experiments of the present commit before those of others."""
    for name in ("loho-1", "loho-2", "one"):
        add_experiment(git, name, f"{name}\n")
    add_experiment(git, "loho-9", "from old\n", "old")
    git("branch", "loho-branch")
    assert sorted(expand(["loho-[0-9]", "one", "loho-1"])) == ["loho-1", "loho-2", "one"]
    assert sorted(expand(["loho-*"])) == ["loho-1", "loho-2", "loho-branch"]
    assert expand(["loho-9", "no-such"]) == ["loho-9", "no-such"]
    git("commit", "-q", "--allow-empty", "-m", "later")
    assert sorted(expand(["loho-?"])) == ["loho-1", "loho-2", "loho-9"]
    with pytest.raises(PipelineError, match=r"no branch, tag or experiment is called 'x\*' here"):
        expand(["x*"])


def test_the_path_is_that_of_the_working_folder(git, tmp_path, monkeypatch):
    """A project that lies in a folder of a larger repository names its files as ever."""
    monkeypatch.chdir(tmp_path / "data")
    assert read_at("old:map.csv") == "first ä\n"


def test_a_byte_order_mark_is_no_text(git):
    git.commit("\ufeffa,b\n")
    assert read_at("HEAD:data/map.csv") == "a,b\n"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mian:data/map.csv", r"'mian' is no commit, .*Did you mean 'main'\?"),
        ("tarry-lon:data/map.csv", r"'tarry-lon' is no .*Did you mean 'tarry-loon'\?"),
        ("-q:data/map.csv", "'-q' is no commit"),
        ("old:data/mop.csv", r"old holds no file 'data/mop.csv'. Did you mean 'data/map.csv'\?"),
        ("old:data", "old holds no file 'data'"),
        ("old", "'old' names no file at a revision. Write REVISION:path"),
        (":data/map.csv", "names no file at a revision"),
        ("old:", "names no file at a revision"),
    ],
)
def test_what_is_not_there_is_named(git, reference, message):
    """Revision or file, and the nearest name."""
    add_experiment(git, "tarry-loon", "tried\n")
    with pytest.raises(PipelineError, match=message) as caught:
        read_at(reference)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(git, tmp_path):
    (tmp_path / "data/map.csv").write_bytes(b"Prom\xe9\n")
    git("add", "data")
    git("commit", "-q", "-m", "latin")
    with pytest.raises(PipelineError, match=r"HEAD:data/map.csv is no UTF-8 text"):
        read_at("HEAD:data/map.csv")


def test_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(PipelineError, match=r"can be read here: .*Run from the project's top"):
        read_at("main:data/map.csv")


def test_without_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipelineError, match=r"git is not on the PATH.*Install Git"):
        read_at("main:data/map.csv")
