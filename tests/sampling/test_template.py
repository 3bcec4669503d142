"""Text with gaps: what is a gap and what is text, which lengths are tried, and what comes out."""

import pytest

from unmask.errors import ConfigError, DataError
from unmask.sampling.lengths import lengths
from unmask.sampling.template import Gap, Template
from unmask.text.tokenizers import gpt2


@pytest.mark.parametrize(
    ("text", "given", "gaps"),
    [
        ("a [MASK] b", ("a ", " b"), ((1, 1),)),
        ("[MASK:8]", ("", ""), ((8, 8),)),
        ("a[MASK:4-16]b[MASK:2]", ("a", "b", ""), ((4, 16), (2, 2))),
        ("[MASK:3-3]", ("", ""), ((3, 3),)),
        ("a[MASK:2][MASK:3-4][MASK]b", ("a", "b"), ((6, 7),)),  # side by side: one gap
        (r"\[MASK:3] [MASK]", ("[MASK:3] ", ""), ((1, 1),)),
        (r"\\[MASK]", ("\\", ""), ((1, 1),)),
        (r"a\\\[MASK] [MASK] \\ \n", (r"a\[MASK] ", r" \\ \n"), ((1, 1),)),  # elsewhere a backslash is one
        (r"[MASK]\[MASK][MASK]", ("", "[MASK]", ""), ((1, 1), (1, 1))),
        ("[[MASK:2]]", ("[", "]"), ((2, 2),)),
        ("[mask] MASK [MASK]", ("[mask] MASK ", ""), ((1, 1),)),
        ("\r\n[MASK]\x00\n", ("\r\n", "\x00\n"), ((1, 1),)),
    ],
)
def test_what_is_a_gap_and_what_is_text(text, given, gaps):
    found = Template.parse(text)
    assert found.given == given
    assert tuple((gap.least, gap.most) for gap in found.gaps) == gaps


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a [MASK:16-4] b", r"a gap of 16 to 4 tokens, \[MASK:16-4\]"),
        ("a [MASK:0-3] b", r"a gap of no tokens, \[MASK:0-3\]"),
        ("a [MASK:3-] b", r"cannot be read, at '\[MASK:3-\] b'"),
        ("a [MASK:-3] b", r"cannot be read"),
        ("a [MASK:1-2-3] b", r"cannot be read"),
        (f"a [MASK:{'9' * 5000}] b", r"cannot be read"),
        ("[MASKED] man", r"cannot be read, at '\[MASKED\] man'"),
        (r"only \[MASK]", "no gap"),
        ("", "no gap"),
    ],
)
def test_what_is_no_template(text, words):
    with pytest.raises(ConfigError, match=words) as raised:
        Template.parse(text)
    assert raised.value.hint


@pytest.mark.parametrize("make", [Template.parse, lambda text: Template.between("", text, 3)])
def test_text_that_is_not_utf8_is_refused(make):
    """What `os.fsdecode` makes of the byte 0xff, and one half of a surrogate pair."""
    for bad in ("\udcff", "\ud83d"):
        with pytest.raises(DataError, match="not valid UTF-8, at character 3"):
            make(f"ab{bad} [MASK]")


def test_a_gap_between_two_texts_reads_no_gap_in_them():
    found = Template.between("a [MASK] \\[MASK]", "[MASK:3", "4-16")
    assert found.given == ("a [MASK] \\[MASK]", "[MASK:3") and found.gaps == (Gap(4, 16),)
    assert Template.between("a", "", 3).gaps == Template.between("a", "", "3").gaps == (Gap(3, 3),)


@pytest.mark.parametrize("length", ["x", "", "-1", "4-", "4 - 6", 1.5, None, True, [3], "9" * 5000])
def test_a_length_that_is_none(length):
    with pytest.raises(ConfigError, match="a gap of length"):
        Template.between("a", "b", length)


def test_a_template_of_the_wrong_shape():
    with pytest.raises(ConfigError, match="2 given pieces and 2 gaps"):
        Template(("a", "b"), (Gap(1, 1), Gap(1, 1)))


def test_tokens_leave_one_space_to_the_gap_and_the_text_keeps_it():
    tokenizer = gpt2()
    found = Template.parse("a [MASK]b  [MASK] c ")
    assert found.ids(tokenizer) == (tokenizer.encode("a"), tokenizer.encode("b "), tokenizer.encode(" c "))
    assert found.tokens(tokenizer) == 2 + sum(map(len, found.ids(tokenizer)))
    own = [found.own_text(0, " dog"), found.own_text(1, "cat"), found.own_text(0, "  x")]
    assert own == ["dog", "cat", " x"]
    assert found.filled(own[:2]) == "a dogb  cat c "
    assert Template.parse("a[MASK]").own_text(0, " dog") == " dog"  # no space was given


def test_a_template_that_goes_on():
    assert Template.parse("a [MASK:2] b").extended(3).gaps == (Gap(2, 2), Gap(3, 3))
    assert Template.parse("a [MASK:2-4]").extended(3).gaps == (Gap(5, 7),)


def gaps(*spans: tuple[int, int]) -> list[Gap]:
    return [Gap(*span) for span in spans]


def test_all_lengths_are_tried_where_they_are_few():
    assert lengths(gaps((4, 7)), 10, 100, 64) == ([(4,), (5,), (6,), (7,)], ())
    found, notices = lengths(gaps((1, 3), (2, 2), (1, 2)), 10, 100, 6)
    assert found == [(a, 2, b) for a in (1, 2, 3) for b in (1, 2)] and not notices


def test_many_combinations_become_a_grid_and_say_so():
    found, notices = lengths(gaps((1, 100), (5, 6), (7, 7)), 0, 1000, 20)
    assert len(found) == 20 and {each[1:] for each in found} == {(5, 7), (6, 7)}
    assert sorted({each[0] for each in found}) == [1, 12, 23, 34, 45, 56, 67, 78, 89, 100]
    assert notices == (
        f"of 200 combinations of lengths a grid is tried: {', '.join(map(str, range(1, 101, 11)))}; 5, 6",
    )
    assert lengths(gaps((1, 100)), 0, 1000, 2)[0] == [(1,), (100,)]


def test_what_does_not_fit_the_context_is_left_out_and_says_so():
    found, notices = lengths(gaps((1, 10**12)), 90, 100, 64)
    assert found == [(n,) for n in range(1, 11)]
    assert notices == ("gaps that make more than the context of 100 tokens are left out (given 90)",)
    found, _ = lengths(gaps((1, 3), (1, 3)), 0, 4, 64)
    assert found == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)]


def test_too_much_is_one_error_with_both_counts():
    with pytest.raises(ConfigError, match=r"make 33 tokens \(given 30, gaps 3\), the model's context is 32"):
        lengths(gaps((3, 3)), 30, 32, 64)
    with pytest.raises(ConfigError, match=r"make 34 tokens \(given 30, gaps 4 at the least\)"):
        lengths(gaps((3, 5), (1, 1)), 30, 32, 64)
    with pytest.raises(ConfigError, match=r"7 flexible gaps: .* alone are 128 combinations, at most 64 are tried"):
        lengths(gaps(*[(1, 2)] * 7), 0, 1000, 64)
    assert len(lengths(gaps(*[(1, 9)] * 6), 0, 1000, 64)[0]) == 64
    with pytest.raises(ConfigError, match="0 combinations"):
        lengths(gaps((1, 2)), 0, 1000, 0)
