"""Packing loses nothing: rows and leftover together are the documents and their ends."""

import numpy as np
import pytest

from unmask.errors import ConfigError, DataError
from unmask.text.corpora import corpus
from unmask.text.packing import PACKINGS, pack, tokenize
from unmask.text.tokenizers import gpt2

DOCUMENTS = [[1, 2, 3], [], [4], list(range(5, 15)), [15, 16]]
EOS = 99


def joined(rule):
    return [i for d in DOCUMENTS for i in (*d, *([EOS] if rule == "sedd" else []))]


@pytest.mark.parametrize("rule", ["sedd", "stream"])
@pytest.mark.parametrize("length", [1, 2, 4, 5, 7, 16])
def test_rows_are_the_documents_in_order_and_the_leftover_is_counted(rule, length):
    packed = pack(DOCUMENTS, length, EOS, rule=rule)
    stream = joined(rule)
    assert packed.rows.shape == (len(stream) // length, length)
    assert packed.rows.ravel().tolist() == stream[: packed.rows.size]
    assert packed.num_tokens == len(stream) == packed.rows.size + packed.leftover_tokens
    assert packed.leftover_tokens == len(stream) % length
    assert packed.num_documents == len(DOCUMENTS)


def test_a_corpus_of_exactly_one_row():
    packed = pack([[1, 2, 3]], 4, EOS)
    assert packed.rows.tolist() == [[1, 2, 3, EOS]]
    assert packed.leftover_tokens == 0


def test_rows_take_the_smallest_type_that_holds_the_ids():
    assert pack([[1, 2]], 1, 65535).rows.dtype == np.uint16
    assert pack([[1, 70000]], 1, 0).rows.dtype == np.int32
    assert pack([[1, 70000]], 1, 0).rows.max() == 70000


def test_narrow_ids_do_not_wrap_a_wide_end():
    assert pack([np.asarray([7], dtype=np.uint8)], 2, 50256).rows.tolist() == [[7, 50256]]


def test_documents_may_come_from_a_generator():
    assert np.array_equal(pack((d for d in DOCUMENTS), 3, EOS).rows, pack(DOCUMENTS, 3, EOS).rows)


def test_a_context_longer_than_the_corpus_names_both_lengths():
    with pytest.raises(DataError, match="holds 21 tokens, which does not fill one row of 1024"):
        pack(DOCUMENTS, 1024, EOS)
    with pytest.raises(DataError, match="holds 0 tokens, which does not fill one row of 8"):
        pack([], 8, EOS)


def test_unknown_rule_and_length():
    with pytest.raises(ConfigError, match="unknown packing 'sed'\nhint: did you mean 'sedd'"):
        pack(DOCUMENTS, 4, EOS, rule="sed")
    with pytest.raises(ConfigError, match="rows of 0 tokens"):
        pack(DOCUMENTS, 0, EOS)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_tokenize_is_encode_whatever_the_batch(batch):
    texts = [*corpus("excerpt").heldout(), "", "a short one"]
    seen = []
    ids = tokenize(iter(texts), gpt2(), batch=batch, progress=lambda d, t: seen.append((d, t)))
    assert [each.tolist() for each in ids] == [gpt2().encode(text) for text in texts]
    assert all(each.dtype == np.uint16 for each in ids)
    assert seen[-1] == (len(texts), sum(each.size for each in ids))
    assert len(seen) == -(-len(texts) // batch)


@pytest.mark.parametrize("rule", sorted(PACKINGS))
@pytest.mark.parametrize("length", [3, 4, 5, 7, 13])
def test_every_token_is_in_a_row_or_left_over(rule, length):
    packed = pack(DOCUMENTS, length, EOS, rule=rule)
    stream = joined("sedd" if rule in ("sedd", "mdlm", "stride") else "stream")
    assert packed.num_tokens == len(stream) and packed.rows.shape[1] == length
    body = packed.rows[:, 1:-1] if rule in ("mdlm", "bd3") else packed.rows
    if rule == "stride":
        assert packed.rows[packed.scored].tolist() == stream and packed.leftover_tokens == 0
    else:
        assert body.ravel().tolist() == stream[: body.size]
        assert packed.leftover_tokens == len(stream) - body.size < body.shape[1]


def test_blocks_between_a_beginning_and_an_end():
    packed = pack([[1, 2, 3], [4]], 5, EOS, rule="mdlm", bos_id=98)
    assert packed.rows.tolist() == [[98, 1, 2, 3, EOS], [98, EOS, 4, EOS, EOS]]
    assert packed.scored is None and packed.leftover_tokens == 0
    packed = pack([[1, 2, 3], [4, 5, 6, 7]], 5, EOS, rule="bd3")
    assert packed.rows.tolist() == [[EOS, 1, 2, 3, EOS], [EOS, 4, 5, 6, EOS]]
    assert packed.scored.tolist() == [[False, True, True, True, True]] * 2 and packed.leftover_tokens == 1


def test_a_sliding_window_scores_each_token_once_and_ends_with_the_text():
    packed = pack([list(range(10))], 4, EOS, rule="stride", stride=2)  # 11 tokens with the end
    assert packed.rows.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9], [7, 8, 9, EOS]]
    assert packed.scored.astype(int).tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    whole = pack([list(range(3))], 4, EOS, rule="stride")
    assert whole.rows.tolist() == [[0, 1, 2, EOS]] and whole.scored.all()
    apart = pack([list(range(7))], 4, EOS, rule="stride", stride=4)
    assert apart.rows.tolist() == [[0, 1, 2, 3], [4, 5, 6, EOS]] and apart.scored.all()


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("tokens", [8, 9, 15, 40])
def test_each_scored_token_has_its_context(stride, tokens):
    packed = pack([list(range(tokens))], 8, EOS, rule="stride", stride=stride)
    assert packed.scored.any(1).all() and packed.scored.sum() == tokens + 1
    first = packed.scored.argmax(1)
    assert first[0] == 0 and (first[1:] >= 8 - stride).all()


def test_framed_rows_need_room_and_a_window_a_stride():
    with pytest.raises(ConfigError, match="rows of 2 tokens cannot be packed\nhint: ask for a length of at least 3"):
        pack(DOCUMENTS, 2, EOS, rule="mdlm")
    for stride in (0, 5):
        with pytest.raises(ConfigError, match=f"a window of 4 tokens cannot move by {stride}"):
            pack(DOCUMENTS, 4, EOS, rule="stride", stride=stride)
    with pytest.raises(DataError, match="holds 2 tokens, which does not fill one row of 5"):
        pack([[1, 2]], 5, EOS, rule="bd3")


def test_a_frame_does_not_wrap_narrow_ids():
    assert pack([[7, 8]], 3, 0, rule="bd3", bos_id=70000).rows.tolist() == [[70000, 7, 0], [70000, 8, 0]]
