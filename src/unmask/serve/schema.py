"""The bodies of requests: OpenAI's fields, Mistral's, and ours. What is not there is refused by name."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MOST_STOPS, MOST_REPEATS = 4, 32
_NEUTRAL: dict[str, tuple[tuple[Any, ...], str]] = {  # field: values that ask for nothing, and why others are refused
    "logprobs": ((), "a token's probability here depends on all the text around it and is no likelihood of a sequence;"
        " /v1/infill with diffusing and alternatives shows it as tokens settle, `unmask eval ppl` scores texts"),
    "echo": ((False,), "the prompt is not repeated: put it before the text"),
    "best_of": ((1,), "every sample is returned: ask for n of them"),
    "logit_bias": (({},), "tokens are not weighted one by one: temperature, top_p, top_k and min_p reshape their law"),
    "presence_penalty": ((0,), "repetition is not punished: temperature, top_p, top_k and min_p reshape the law"),
    "frequency_penalty": ((0,), "repetition is not punished: temperature, top_p, top_k and min_p reshape the law"),
    "tools": (([],), "these models write text and call nothing"),
    "tool_choice": (("none",), "these models write text and call nothing"),
    "functions": (([],), "these models write text and call nothing"),
    "response_format": (({"type": "text"},), "the text follows no grammar"),
    "messages": ((), "these models were not trained on conversations: give a prompt"),
    "min_tokens": ((0,), "a text ends where the model ends it"),
}  # fmt: skip
_IGNORED = ("user", "metadata", "store", "safety_identifier")  # they change nothing about the text


def _plain(text: str) -> str:
    """The text, if UTF-8 can write it: JSON can smuggle half a character in."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None
    return text


Text = Annotated[str, AfterValidator(_plain)]
Name = Annotated[str, Field(max_length=200), AfterValidator(_plain)]
Stop = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class StreamOptions(BaseModel):
    """What a stream ends with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False


class Sampling(BaseModel):
    """What all requests for text share. null is the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Name | None = Field(None, description="One of /v1/models; default: the first.")
    n: int = Field(1, ge=1, le=128, description="Samples of each prompt.")
    temperature: float = Field(1.0, ge=0, le=2, description="0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=1, lt=2**31)
    min_p: float | None = Field(None, gt=0, le=1)
    seed: Seed | None = Field(None, description="Repeats the draws; the answer says which one was used.")
    steps: int | None = Field(None, ge=1, lt=2**31, description="Denoising steps, of a diffusion model.")
    rule: Name | None = Field(None, description="The sampling rule of a diffusion model, by name.")
    tau: float | None = Field(None, description="Of the rule threshold.")
    gamma: float | None = Field(None, description="Of the rule entropy-bounded, in nats.")
    grid: Name | None = Field(None, description="linear or cosine, of the rules on a grid of times.")
    block_size: int | None = Field(None, ge=1, lt=2**31, description="Of a model with blocks.")
    stream: bool = False
    diffusing: bool = Field(False, description="Stream whole frames, each in place of the one before.")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """Without what asks for nothing; an error for what is not done here."""
        if not isinstance(given, dict):
            return given
        body = {name: value for name, value in given.items() if value is not None and name not in _IGNORED}
        for name in sorted(body.keys() & _NEUTRAL.keys()):
            values, why = _NEUTRAL[name]
            if not any(type(body[name]) is type(v) and body[name] == v for v in (*values, *map(_float, values))):
                raise PydanticCustomError("unsupported", "{field} is not supported: {why}", {"field": name, "why": why})
            del body[name]
        return body


def _float(value: Any) -> Any:
    return float(value) if type(value) is int else value


class CompletionRequest(Sampling):
    """OpenAI's completion, with our fields."""

    prompt: Text | list[Text] | list[TokenId] | list[list[TokenId]] = Field(
        "", description="A text, or token ids, or a list of such: a list makes a batch."
    )
    suffix: Text | None = Field(None, description="Text after the new one.")
    max_tokens: int = Field(16, ge=1, lt=2**31, description="The longest text, in tokens.")
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = Field(
        None, description="The text ends before the first of these."
    )
    stream_options: StreamOptions | None = None


class FimRequest(Sampling):
    """Mistral's fill-in-the-middle, with our fields."""

    prompt: Text = Field(description="Text before the new one.")
    suffix: Text = Field("", description="Text after the new one.")
    max_tokens: int = Field(16, ge=1, lt=2**31)
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    random_seed: Seed | None = Field(None, description="Mistral's name for seed.")
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _one_seed(self) -> Self:
        """Under one name."""
        self.seed = self.random_seed if self.seed is None else self.seed
        return self


class InfillRequest(Sampling):
    """A template with gaps."""

    template: Text = Field(
        description="Text with gaps: [MASK] is one token, [MASK:12] is twelve, [MASK:4-16] as many as fit best."
    )
    prior: Name | None = Field(None, description="Of lengths to choose from: flat, the default, or geometric:MEAN.")
    candidates: int | None = Field(
        None,
        ge=1,
        lt=2**31,
        description="Combinations of lengths that are tried at most; n of each are samples of this request.",
    )
    repeats: int | None = Field(
        None, ge=2, le=MOST_REPEATS, description="Times that the bound of each combination is measured."
    )
    alternatives: int = Field(0, ge=0, le=5, description="With diffusing: other tokens named at each commitment.")


class Side(BaseModel):
    """One of two texts that were compared."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
    text: Text


class Vote(BaseModel):
    """Which of two texts a reader prefers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Text
    left: Side
    right: Side
    winner: Literal["left", "right", "tie"]
    seed: Seed | None = None
