"""A run as one value: JSON, --set, and what is said about a mistake."""

import json

import pytest

from unmask.errors import ConfigError
from unmask.recipes.run import DataSettings, ModelShape, Run, from_json, with_settings
from unmask.recipes.table import RECIPES, recipe
from unmask.training.optim import OptimSettings
from unmask.training.settings import TrainSettings

RUN = Run("mine", train=TrainSettings(steps=10))


def changed(*changes: str) -> Run:
    return with_settings(RUN, changes)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name):
    run = recipe(name)
    assert run.name == name
    assert from_json(json.loads(json.dumps(run.as_json()))) == run


def test_a_run_with_everything_changed_survives_json():
    optim = OptimSettings("muon", 1e-2, 0.1, (0.8, 0.9), 1e-6, 0.1, 7, "cosine", 0.5, 0.5, 0.5)
    train = TrainSettings(steps=3, optim=optim, micro_batch=2, log_tensorboard=True)
    run = Run("x", ModelShape("ar", 32, 1, 2, 8, 4, 0.5), DataSettings("a+b", "gpt2", "stream", 3), train, 5)
    back = from_json(json.loads(json.dumps(run.as_json())))
    assert back == run and isinstance(back.train.optim.betas, tuple)


def test_a_config_of_an_earlier_version_gets_the_defaults_of_new_settings():
    old = RUN.as_json()
    for new in ("log_tensorboard", "t_power"):
        del old["train"][new]
    del old["model"]["start"]
    assert from_json(old) == RUN


@pytest.mark.parametrize(
    ("change", "read", "value"),
    [
        ("model.width=128", lambda r: r.model.width, 128),
        ("width=128", lambda r: r.model.width, 128),
        (" width = 128 ", lambda r: r.model.width, 128),
        ("steps=1e4", lambda r: r.train.steps, 10_000),
        ("seed=12345678901234567", lambda r: r.train.seed, 12345678901234567),
        ("lr=1e-3", lambda r: r.train.optim.lr, 1e-3),
        ("lr=1", lambda r: r.train.optim.lr, 1.0),
        ("train.optim.betas=0.8,0.95", lambda r: r.train.optim.betas, (0.8, 0.95)),
        ("betas=(0.8, 0.95)", lambda r: r.train.optim.betas, (0.8, 0.95)),
        ("micro_batch=4", lambda r: r.train.micro_batch, 4),
        ("micro_batch=none", lambda r: r.train.micro_batch, None),
        ("log_tensorboard=true", lambda r: r.train.log_tensorboard, True),
        ("log_tensorboard=False", lambda r: r.train.log_tensorboard, False),
        ("corpus=a=b.txt", lambda r: r.data.corpus, "a=b.txt"),
        ("tokenizer=123", lambda r: r.data.tokenizer, "123"),
        ("name=other", lambda r: r.name, "other"),
        ("batch_size=3", lambda r: r.batch_size, 3),
    ],
)
def test_a_setting_is_read_as_its_own_type(change, read, value):
    found = read(changed(change))
    assert found == value and type(found) is type(value)


def test_the_last_of_two_changes_stands_and_nothing_else_moves():
    assert changed("width=8", "heads=2", "width=16") == with_settings(RUN, ["heads=2", "width=16"])
    assert changed() == RUN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("widht=3", "unknown setting 'widht'|did you mean 'width'?"),
        ("model.widht=3", "unknown setting 'model.widht'|did you mean 'model.width'?"),
        ("train.optim.warm_up=3", "did you mean 'train.optim.warmup'?"),
        ("schedule=cosine", "the setting 'schedule' could be model.schedule or train.optim.schedule"),
        ("width", "--set takes KEY=VALUE, got 'width'"),
        ("width=wide", "model.width takes a value of type int, got 'wide'"),
        ("width=1.5", "model.width takes a value of type int, got 1.5"),
        ("width=true", "model.width takes a value of type int, got 'true'"),
        ("lr=fast", "train.optim.lr takes a value of type float, got 'fast'"),
        ("lr=nan", "train.optim.lr takes a value of type float, got nan"),
        ("lr=1e999", "train.optim.lr takes a value of type float, got inf"),
        ("betas=0.9", "train.optim.betas takes a value of type float and float, separated by a comma, got '0.9'"),
        ("betas=0.9,x", "train.optim.betas takes a value of type float, got 'x'"),
        ("log_tensorboard=1", "train.log_tensorboard takes a value of type bool, got '1'"),
        ("micro_batch=few", "train.micro_batch takes a value of type int, got 'few'"),
        ("kind=seed", "unknown kind of model 'seed'|did you mean 'sedd'?"),
        ("process=absorb", "did you mean 'absorbing'?"),
        ("model.schedule=loglin", "did you mean 'loglinear'?"),
        ("batch_size=0", "batch_size must be at least 1, got 0"),
        ("heldout_rows=0", "heldout_rows must be at least 1, got 0"),
        ("steps=0", "steps must be at least 1, got 0"),
    ],
)
def test_a_mistake_is_named_with_what_to_write_instead(change, words):
    with pytest.raises(ConfigError) as caught:
        changed(change)
    assert all(part in str(caught.value) for part in words.split("|")), str(caught.value)


def test_settings_that_contradict_one_another_are_refused():
    with pytest.raises(ConfigError, match="kind 'mdlm' needs the absorbing process, got 'uniform'"):
        changed("kind=mdlm", "process=uniform")
    with pytest.raises(ConfigError, match="blocks need kind 'mdlm', got 'sedd'"):
        changed("kind=sedd", "block_size=4")
    for size in (1, 8, 9):
        with pytest.raises(ConfigError, match=f"block_size {size} does not fit a context of 8 tokens"):
            changed("kind=mdlm", "length=8", f"block_size={size}")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda v: v["model"].update(widht=3), "unknown setting 'model.widht'"),
        (lambda v: v.update(modle={}), "unknown setting 'modle'"),
        (lambda v: v["model"].update(width="64"), "model.width takes a value of type int, got '64'"),
        (lambda v: v["model"].update(width=True), "model.width takes a value of type int, got True"),
        (lambda v: v["train"]["optim"].update(betas=[0.9]), "train.optim.betas takes a value of type float and float"),
        (
            lambda v: v["train"]["optim"].update(betas=["a", "b"]),
            "train.optim.betas takes a value of type float, got 'a'",
        ),
        (lambda v: v["train"].update(optim=3), "train.optim takes a value of type an object, got 3"),
        (lambda v: v["train"].update(log_tensorboard=0), "train.log_tensorboard takes a value of type bool, got 0"),
        (lambda v: v["train"].pop("steps"), "the run lacks the setting train.steps"),
        (lambda v: v.pop("name"), "the run lacks the setting name"),
    ],
)
def test_a_config_that_was_spoiled_is_refused(spoil, words):
    values = RUN.as_json()
    spoil(values)
    with pytest.raises(ConfigError) as caught:
        from_json(values)
    assert words in str(caught.value)


def test_a_config_that_is_no_object_is_refused():
    with pytest.raises(ConfigError, match="a run takes a value of type an object, got"):
        from_json([1])  # type: ignore[arg-type]


def test_the_recipes():
    assert set(RECIPES) >= {"smoke", "twins/sedd", "twins/ar", "sedd-small", "mdlm-small"}
    sedd, mdlm = recipe("sedd-small"), recipe("mdlm-small")
    for run in (sedd, mdlm):
        m, o = run.model, run.train.optim
        assert (m.width, m.depth, m.heads, m.length, m.dropout, run.batch_size) == (768, 12, 12, 1024, 0.1, 512)
        assert (o.optimizer, o.lr, o.warmup, o.clip, o.ema, o.weight_decay) == ("adamw", 3e-4, 2500, 1.0, 0.9999, 0.0)
        assert (run.data.corpus, run.data.tokenizer, o.schedule) == ("openwebtext", "gpt2", "constant")
    assert (sedd.model.kind, sedd.train.steps) == ("sedd", 1_300_000)
    assert (mdlm.model.kind, mdlm.train.steps) == ("mdlm", 1_000_000)
    a, b = recipe("twins/sedd"), recipe("twins/ar")
    assert a.data == b.data and a.batch_size == b.batch_size and a.train.optim == b.train.optim
    assert (a.model.kind, b.model.kind) == ("sedd", "ar") and a.model.width == b.model.width


def test_an_unknown_recipe_offers_the_nearest():
    with pytest.raises(ConfigError, match=r"(?s)unknown recipe 'twin/sedd'.*did you mean 'twins/sedd'"):
        recipe("twin/sedd")
