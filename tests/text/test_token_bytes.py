"""Bytes of tokens: all of the text's, wherever it is cut."""

import numpy as np
import tokenizers
import torch
from tokenizers import models, pre_tokenizers

from unmask.text.token_bytes import count_bytes, token_bytes
from unmask.text.tokenizers import Tokenizer, gpt2

TEXT = "naïve café — 日本語 🙂 plain words\n\n  and more"


def test_a_text_has_its_bytes_however_it_is_cut(small_tokenizer):
    for tokenizer in (gpt2(), small_tokenizer):
        ids = np.asarray(tokenizer.encode(TEXT))
        sizes = token_bytes(tokenizer)
        assert sizes[ids].sum() == len(TEXT.encode())
        cuts = [
            len(tokenizer.decode(ids[:k]).encode()) + len(tokenizer.decode(ids[k:]).encode()) for k in range(len(ids))
        ]
        assert max(cuts) > len(TEXT.encode())  # decoding a part of a character makes up bytes
        for k in range(len(ids)):
            assert sizes[ids[:k]].sum() + sizes[ids[k:]].sum() == len(TEXT.encode())


def test_ends_of_documents_and_padding_have_none():
    tokenizer = gpt2()
    sizes = token_bytes(tokenizer)
    assert sizes.shape == (50257,) and sizes[tokenizer.eos_id] == 0 and sizes[:256].tolist() == [1] * 256
    rows = torch.tensor([[tokenizer.eos_id, 15496, 50300], [995, 995, 15496]])  # Hello, world; 50300 is no token
    scored = torch.tensor([[True, True, True], [True, False, True]])
    assert count_bytes(tokenizer, rows, scored).tolist() == [5.0, 11.0]


def test_tokens_that_do_not_know_their_bytes_are_decoded():
    core = tokenizers.Tokenizer(models.WordLevel({"ab": 0, "é": 1}, unk_token="ab"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(["<|endoftext|>"])
    tokenizer = Tokenizer(core)
    assert token_bytes(tokenizer) is None
    rows = torch.tensor([[0, 1, 2]])
    assert count_bytes(tokenizer, rows, torch.ones(1, 3, dtype=torch.bool)).tolist() == [5.0]  # "ab é"
    assert count_bytes(tokenizer, rows, torch.tensor([[False, True, True]])).tolist() == [2.0]
