"""Folders of the Hugging Face Hub, written and read here, and uploaded to a stand-in for it."""

import json
import types

import pytest

from kstyle_torch import Input, Model, Sequential, layers, saving
from kstyle_torch.saving import hub
from tests.oracle import assert_close, uniform


def trained():
    model = Sequential([Input((3,)), layers.Dense(4, activation="relu"), layers.BatchNormalization(), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(uniform(16, 3), uniform(16, 1, seed=1), verbose=0)
    return model


@saving.register_keras_serializable("tests")
class Doubled(Model):
    """A model with a call of its own."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def call(self, x):
        """(batch, features) -> (batch, units)."""
        return 2 * self.dense(x)


def test_a_folder_holds_the_model_and_no_pickle(tmp_path):
    model = trained()
    model.save_pretrained(tmp_path / "new" / "m")
    assert {path.name for path in (tmp_path / "new" / "m").iterdir()} == {"config.json", "model.safetensors"}
    again = Model.from_pretrained(tmp_path / "new" / "m")
    assert_close(again(uniform(5, 3)), model(uniform(5, 3)))
    assert again.compiled
    again.fit(uniform(16, 3), uniform(16, 1, seed=1), verbose=0)


def test_a_registered_subclass_comes_back_as_itself(tmp_path):
    model = Doubled(3)
    model(uniform(1, 4))
    model.save_pretrained(tmp_path)
    again = Doubled.from_pretrained(tmp_path)
    assert type(again) is Doubled
    assert_close(again(uniform(2, 4)), model(uniform(2, 4)))


def test_saving_twice_replaces_both_files(tmp_path):
    trained().save_pretrained(tmp_path)
    second = trained()
    second.save_pretrained(tmp_path)
    assert_close(Model.from_pretrained(tmp_path)(uniform(5, 3)), second(uniform(5, 3)))


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="'nowhere' does not exist, and it is not a name on the Hub"):
        Model.from_pretrained("nowhere")
    with pytest.raises(FileNotFoundError, match="no config.json"):
        Model.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no weights yet"):
        Sequential([layers.Dense(1)]).save_pretrained(tmp_path / "unbuilt")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        trained().save_pretrained(tmp_path / "file")
    trained().save_pretrained(tmp_path / "m")
    with pytest.raises(ValueError, match="holds a Sequential, not a Doubled"):
        Doubled.from_pretrained(tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(class_name="system", module="os"),
        lambda config: config.update(config=None),
        lambda config: config["config"].update(layers=[{"class_name": "Dense", "module": "os", "config": {}}]),
        lambda config: config["config"]["layers"][1]["config"].update(units=10**12),
        lambda config: config["config"]["layers"][1]["config"].update(units=5),
    ],
)
def test_an_untrusted_config_ends_in_an_error(change, tmp_path):
    trained().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError):
        Model.from_pretrained(tmp_path)


class Hub:
    """Stands in for the Hub: repositories as dicts of files."""

    def __init__(self):
        self.files, self.calls = {}, []

    def HfApi(self, token=None):  # noqa: N802
        self.calls.append(("token", token))
        return self

    def create_repo(self, repo_id, private=None, exist_ok=False):
        self.calls.append(("create", repo_id, private, exist_ok))
        return types.SimpleNamespace(repo_id=f"me/{repo_id}" if "/" not in repo_id else repo_id)

    def file_exists(self, repo_id, name):
        return (repo_id, name) in self.files

    def upload_file(self, path_or_fileobj, path_in_repo, repo_id):
        self.files[repo_id, path_in_repo] = path_or_fileobj

    def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message, **kwargs):
        for name in allow_patterns:
            with open(f"{folder_path}/{name}", "rb") as file:
                self.files[repo_id, name] = file.read()
        self.calls.append(("upload", commit_message, kwargs))
        return "commit"

    def snapshot_download(self, repo_id, allow_patterns, **kwargs):
        self.calls.append(("download", kwargs))
        for (repo, name), content in self.files.items():
            if repo == repo_id and name in allow_patterns:
                (self.folder / name).write_bytes(content)
        return str(self.folder)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    made = Hub()
    made.folder = tmp_path
    monkeypatch.setattr(hub, "_hub", lambda: made)
    return made


def test_what_is_pushed_can_be_fetched(stand_in):
    model = trained()
    assert model.push_to_hub("me/m", private=True, token="t", revision="main") == "commit"
    assert ("create", "me/m", True, True) in stand_in.calls and ("token", "t") in stand_in.calls
    assert {name for _, name in stand_in.files} == {"config.json", "model.safetensors", "README.md"}
    assert b"library_name: kstyle-torch" in stand_in.files["me/m", "README.md"]
    again = Model.from_pretrained("me/m", revision="main")
    assert ("download", {"revision": "main"}) in stand_in.calls
    assert_close(again(uniform(5, 3)), model(uniform(5, 3)))


def test_a_model_card_that_is_there_stays(stand_in, tmp_path):
    stand_in.files["me/m", "README.md"] = b"mine"
    trained().save_pretrained(tmp_path / "m", push_to_hub=True, repo_id="me/m")
    assert stand_in.files["me/m", "README.md"] == b"mine"


def test_the_calls_are_those_of_huggingface_hub():
    huggingface_hub = pytest.importorskip("huggingface_hub")
    import inspect

    for name in ("create_repo", "file_exists", "upload_file", "upload_folder"):
        theirs = inspect.signature(getattr(huggingface_hub.HfApi, name)).parameters
        ours = inspect.signature(getattr(Hub, name)).parameters
        assert {*ours} - {"kwargs", "name"} <= {*theirs}
    assert "allow_patterns" in inspect.signature(huggingface_hub.snapshot_download).parameters


def test_without_the_extra_it_says_which(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'kstyle-torch\[hub\]'"):
        trained().push_to_hub("me/m")
