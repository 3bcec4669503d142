"""Text a token: it joins to what decoding says, and characters spread over tokens appear once they are complete."""

import itertools

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from unmask.text.pieces import byte_table, one, pieces
from unmask.text.tokenizers import Tokenizer, gpt2

TEXT = "naïve café — 日本語 👩‍👩‍👧 plain words\n\n  and more 🙂"


@pytest.fixture(params=["gpt2", "small"])
def tokenizer(request, small_tokenizer):
    return gpt2() if request.param == "gpt2" else small_tokenizer


def test_pieces_join_to_the_text_wherever_it_is_cut(tokenizer):
    table, ids = byte_table(tokenizer), tokenizer.encode(TEXT)
    assert "".join(pieces(table, ids)) == TEXT
    assert b"".join(table[i] for i in ids) == TEXT.encode()
    for k in range(len(ids)):  # cut characters become U+FFFD, as in decode
        assert "".join(pieces(table, ids[:k])) == tokenizer.decode(ids[:k])
        assert "".join(pieces(table, ids[k:])) == tokenizer.decode(ids[k:])


def test_bytes_that_are_no_text_are_shown_as_decoding_shows_them(tokenizer):
    table = byte_table(tokenizer)
    byte = {part[0]: number for number, part in enumerate(table) if len(part) == 1}
    for values in itertools.product((0x41, 0xC3, 0xA9, 0xE2, 0x82, 0xF0, 0x9F, 0xF5), repeat=4):
        ids = [byte[value] for value in values]
        assert "".join(pieces(table, ids)) == tokenizer.decode(ids), values


def test_a_face_appears_whole_once_all_its_tokens_are_there(small_tokenizer):
    table = byte_table(small_tokenizer)
    ids = small_tokenizer.encode("a🙂b")
    assert len(ids) == 6
    for order in itertools.permutations(range(1, 5)):
        known: list[int | None] = [ids[0], None, None, None, None, ids[5]]
        for count, i in enumerate(order, 1):
            known[i] = ids[i]
            shown = pieces(table, known)
            assert [text is None for text in shown] == [number is None for number in known]
            assert "".join(text or "" for text in shown) == ("a🙂b" if count == 4 else "ab")
    assert pieces(table, ids) == ["a", "🙂", "", "", "", "b"]


def test_an_end_of_text_is_one_piece_and_the_same_characters_are_not(tokenizer):
    table = byte_table(tokenizer)
    face = tokenizer.encode("🙂")
    assert pieces(table, [face[0], tokenizer.eos_id]) == ["\ufffd", "<|endoftext|>"]
    assert len(pieces(table, tokenizer.encode("<|endoftext|>"))) > 1


def test_ids_that_are_no_token_are_unknown_characters(tokenizer):
    table = byte_table(tokenizer)
    assert pieces(table, [tokenizer.vocab_size + 3, None]) == ["\ufffd", None]
    assert one(table, -1) == one(table, len(table)) == "\ufffd" and one(table, tokenizer.encode(" the")[0]) == " the"


def test_tokens_that_do_not_know_their_bytes_are_decoded_one_by_one():
    core = tokenizers.Tokenizer(models.WordLevel({"ab": 0, "é": 1}, unk_token="ab"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(["<|endoftext|>"])
    assert pieces(byte_table(Tokenizer(core)), [1, None, 2]) == ["é", None, "<|endoftext|>"]
