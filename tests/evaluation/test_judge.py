import shutil
import sys

import pytest
import torch

from unmask import assets, compat
from unmask.errors import CheckpointError, ConfigError, DataError
from unmask.evaluation import judge as module
from unmask.evaluation.judge import find_judge, token_nll

from . import gguf_file as file

CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def llama(tmp_path_factory, small_tokenizer):
    """A small Llama of transformers, and the GGUF file that was written of it."""
    model = file.llama(small_tokenizer)
    path = tmp_path_factory.mktemp("judge") / "little.gguf"
    return model, file.write(path, file.llama_metadata(model, small_tokenizer), file.llama_tensors(model))


def ids(count, length, size=320):
    return torch.randint(size, (count, length), generator=torch.Generator().manual_seed(1))


def test_a_gguf_judge_is_the_model_it_was_written_from(llama, small_tokenizer):
    model, path = llama
    judge, x = find_judge(str(path)), ids(3, 40)
    with torch.no_grad():
        expected = model(x)
        states = model.model(x).last_hidden_state
    assert expected.logits.std() > 0.5
    torch.testing.assert_close(judge.logits(x), expected.logits, **CLOSE)
    torch.testing.assert_close(judge.hidden(x), states, **CLOSE)
    assert (judge.name, judge.length, judge.bos_id) == ("little", 40, 5)
    assert judge.device == torch.device("cpu") and judge.tokenizer.fingerprint == small_tokenizer.fingerprint
    assert judge.model.lm_head.weight.data_ptr() == judge.model.model.embed_tokens.weight.data_ptr()


@pytest.mark.parametrize("chunk", [1, 320 * 7, 2**24])
def test_token_nll_is_the_chain_rule_in_any_chunks(llama, monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    judge, x = find_judge(str(llama[1])), ids(3, 9)
    expected = -judge.logits(x)[:, :-1].log_softmax(-1).gather(-1, x[:, 1:, None])[..., 0]
    found = token_nll(judge, x)
    assert found.shape == (3, 8) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, **CLOSE)


def test_a_single_token_has_nothing_to_score(llama):
    assert token_nll(find_judge(str(llama[1])), ids(2, 1)).shape == (2, 0)


def test_bfloat16_weights_give_float32_answers(llama):
    exact, rounded, x = find_judge(str(llama[1])), find_judge(str(llama[1]), dtype=torch.bfloat16), ids(2, 12)
    assert rounded.model.lm_head.weight.dtype == torch.bfloat16
    assert rounded.hidden(x).dtype == rounded.logits(x).dtype == token_nll(rounded, x).dtype == torch.float32
    assert 1e-4 < (token_nll(rounded, x) - token_nll(exact, x)).abs().mean() < 0.3


def test_our_own_models_judge_without_a_bos_in_front(small_models):
    judge, x = find_judge(str(small_models / "ar")), ids(2, 32)
    net = compat.load(small_models / "ar").net
    with torch.no_grad():
        torch.testing.assert_close(judge.logits(x), net(x), **CLOSE)
        torch.testing.assert_close(judge.hidden(x), net.hidden(x), **CLOSE)
        expected = -net(x)[:, :-1].log_softmax(-1).gather(-1, x[:, 1:, None])[..., 0]
    torch.testing.assert_close(token_nll(judge, x), expected, **CLOSE)
    assert judge.length == 32 and judge.bos_id == judge.tokenizer.eos_id


def test_the_embedded_twin_judges():
    judge = find_judge("ar-twin")
    assert judge.name == "ar-twin" and judge.length == 256
    text = judge.tokenizer.encode("The State of the Union is strong, and the people of the United States are free.")
    shuffled = [text[i] for i in torch.randperm(len(text), generator=torch.Generator().manual_seed(0))]
    assert token_nll(judge, torch.tensor([text])).mean() < token_nll(judge, torch.tensor([shuffled])).mean() - 0.5


def test_names_as_everybody_writes_them(monkeypatch, small_models):
    asked = []

    def load(name, **options):
        asked.append(name)
        return original(small_models / "ar", **options)

    original = compat.load
    monkeypatch.setattr(compat, "load", load)
    assert find_judge("gpt2-large").name == "gpt2-large"
    assert find_judge("owner/model").name == "owner/model"
    assert asked == ["openai-community/gpt2-large", "owner/model"]


def test_smollm2_comes_from_its_asset(monkeypatch, tmp_path, llama):
    shutil.copy(llama[1], tmp_path / "SmolLM2.gguf")
    monkeypatch.setattr(assets, "fetch", lambda name: tmp_path)
    assert find_judge("smollm2").name == "smollm2"
    shutil.copy(llama[1], tmp_path / "another.gguf")
    with pytest.raises(CheckpointError, match="holds 2 GGUF files"):
        find_judge("smollm2")


def test_without_transformers_the_pip_command_is_said_before_anything_is_fetched(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(assets, "fetch", lambda name: pytest.fail("fetched"))
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[judge\]'"):
        find_judge("smollm2")


def test_judges_that_are_refused(small_models, tmp_path, llama):
    with pytest.raises(ConfigError, match="diffusion model; a judge is autoregressive"):
        find_judge(str(small_models / "sedd"))
    with pytest.raises(ConfigError, match=r"no judge 'gpt3'(.|\n)*judges by name: smollm2, gpt2, gpt2-medium"):
        find_judge("gpt3")
    mute = shutil.copytree(small_models / "ar", tmp_path / "mute")
    (mute / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"has no tokenizer(.|\n)*tokenizer.json in its folder"):
        find_judge(str(mute))
    metadata = {k: v for k, v in file.llama_metadata(llama[0], find_judge(str(llama[1])).tokenizer).items()
                if not k.startswith("tokenizer.ggml")}  # fmt: skip
    path = file.write(tmp_path / "mute.gguf", metadata, file.llama_tensors(llama[0]))
    with pytest.raises(CheckpointError, match=r"mute\.gguf has no tokenizer"):
        find_judge(str(path))


def test_what_is_too_long_to_read_is_refused(llama, small_models):
    for judge in (find_judge(str(llama[1])), find_judge(str(small_models / "ar"))):
        with pytest.raises(ConfigError, match="cut the sequences"):
            token_nll(judge, ids(1, judge.length + 1))
