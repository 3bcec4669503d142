"""`unmask eval mauve`: what it prints, what it keeps, what it refuses."""

import json

from .call import call

FEW = ("--prompts", "excerpt", "--count", 20, "--prompt-tokens", 8, "--new-tokens", 8, "--seeds", 2, "--batch", 20)


def test_rows_and_the_file_that_is_kept(small_models, tmp_path):
    sedd, ar, out = small_models / "sedd", small_models / "ar", tmp_path / "made.jsonl"
    arguments = ("eval", "mauve", "--model", sedd, "--judge", ar, "--steps", 2, "--way", "matched", *FEW, "--out", out)
    (found,) = call(*arguments, "--json").lines()
    assert [row["name"] for row in found["rows"]] == ["mauve", "continuation_perplexity", "continuation_nats_per_byte"]
    assert (found["way"], found["steps"], found["top_p"]) == ("matched", 2, 1.0) and len(found["per_seed"]) == 2
    assert "20 prompts, not 1000" in found["unlike"]
    head, *samples = [json.loads(line) for line in out.read_text().splitlines()]
    assert head["settings"]["extra"]["way"] == "matched" and len(samples[0]["ids"]) == 16
    again = call(*arguments)  # from the file: nothing is sampled
    assert again.code == 0 and again.out.startswith(f"mauve                       {found['rows'][0]['value']:.4f} +- ")
    assert "sigma by the masked fraction; 20 prompts of 8 tokens from excerpt" in again.out


def test_what_does_not_fit_is_refused(small_models):
    ar = small_models / "ar"
    few = call("eval", "mauve", "--model", ar, "--judge", ar, *FEW, "--count", 10)
    assert few.code == 2 and "MAUVE needs at least 20 references" in few.err
    steps = call("eval", "mauve", "--model", ar, "--judge", ar, *FEW, "--steps", 4)
    assert steps.code == 2 and "--steps and --rule are for diffusion models" in steps.err
    way = call("eval", "mauve", "--model", ar, "--way", "short")
    assert way.code == 2 and "use plain, top-p, top-k" in way.err
    many = call("eval", "mauve", "--model", ar, "--judge", ar, *FEW, "--count", 10**6)
    assert many.code == 2 and "ask for at most" in many.err
