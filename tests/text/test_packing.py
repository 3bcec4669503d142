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


@pytest.mark.parametrize("rule", sorted(PACKINGS))
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
