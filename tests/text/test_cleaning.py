"""Cleaning: from files made for other eyes to plain paragraphs."""

import pytest

from unmask.text import cleaning, detokenizers


def test_newlines():
    assert cleaning.newlines("\ufeffa\r\nb\rc\n") == "a\nb\nc\n"


def test_paragraphs():
    assert cleaning.paragraphs("\n a  b\t c \n \n\n d\x0ce\x07 \n") == "a b c\n\nd e"


def test_unwrap_joins_prose_and_keeps_indented_lines():
    assert cleaning.unwrap("one\ntwo\n\n  verse\n  line\nrest") == "one two\n\nverse\nline rest"


def test_book_drops_the_title_the_licence_and_the_emphasis():
    raw = "[Emma]\n\nCHAPTER I\n\nIt was _very_\nfine, snake_case.\n\nEnd of Project Gutenberg's Emma\nlaw"
    assert cleaning.book(raw) == "CHAPTER I\n\nIt was very fine, snake_case."


def test_verse_keeps_its_lines():
    assert cleaning.book("[T] \n\nOf Man's first \n  and the fruit\n", verse=True) == "Of Man's first\nand the fruit"


def test_bible_loses_the_numbers_of_verses_only():
    assert cleaning.bible("[T]\n\n1:1 In the\nbeginning 10:22 at 3:45pm.") == "In the beginning at 3:45pm."


def test_extracts():
    raw = (
        '<doc id="1" url="u" title="A &amp; B">\nA &amp; B\n\nFirst '
        "&lt;ref&gt;line&lt;/ref&gt;.\nSecond, 1 &lt; 2.\n\n</doc>\n"
        '<doc id="2" url="u" title="Empty">\nEmpty\n\n\n\n</doc>\n'
    )
    assert cleaning.extracts(raw) == [("A & B", "A & B\n\nFirst line.\n\nSecond, 1 < 2.")]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (" 1 @,@ 000 @.@ 5 well @-@ known men . ", " 1,000.5 well-known men. "),
        ('( a ) [ b ] { c } " d " said', '(a) [b] {c} "d" said'),
        ("the dogs ' tails , the dog", "the dogs' tails, the dog"),
        (
            "the dogs ' tails , the dog 's tail",
            "the dogs'tails, the dog's tail",
        ),  # a quirk of the tables' rules
        (" = = Part = = \n", " == Part ==\n"),
        ("20 ° C", "20°C"),
    ],
)
def test_wikitext_detokenizer(raw, clean):
    assert detokenizers.wikitext(raw) == clean


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("He said , no .", "He said, no."),
        ("Is it ? Yes ! So it 's", "Is it? Yes! So it's"),
        ("is it ?", "is it?"),
        ('a " quoted word " and ( one ) [ two ]', 'a "quoted word" and (one) [two]'),
        ("$ 5 and £ 6", "$5 and £6"),
        ("http : / / a", "http://a"),
    ],
)
def test_lm1b_detokenizer(raw, clean):
    assert detokenizers.lm1b(raw) == clean
