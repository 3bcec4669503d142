"""The canvas: what is given and what is to be written. Shapes: B batch, L length."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.devices import rows_of
from unmask.errors import ConfigError
from unmask.sampling.lengths import lengths
from unmask.sampling.template import Encoder, Template


@dataclasses.dataclass(frozen=True, eq=False)
class Canvas:
    """tokens [B, L] int64 and frozen [B, L] bool: frozen tokens are given, the others are to be written.

    What tokens holds where frozen is False is never read. Raises ConfigError on other shapes or types, on an empty
    canvas, and on a negative frozen token. here: frozen on the CPU, where what to write is decided; left out, it is
    copied.
    """

    tokens: Tensor
    frozen: Tensor
    here: Tensor = dataclasses.field(default=None, repr=False, kw_only=True)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.here is not None:  # the rows of a canvas that was looked at
            return
        if self.tokens.ndim != 2 or self.tokens.shape != self.frozen.shape or self.tokens.numel() == 0:
            raise ConfigError(
                f"a canvas of tokens {tuple(self.tokens.shape)} and frozen {tuple(self.frozen.shape)}",
                "both are [B, L], with at least one row and one position",
            )
        if self.tokens.dtype != torch.int64 or self.frozen.dtype != torch.bool:
            raise ConfigError(
                f"a canvas of tokens {self.tokens.dtype} and frozen {self.frozen.dtype}",
                "tokens are torch.int64, frozen is torch.bool",
            )
        if bool((self.frozen & (self.tokens < 0)).any()):
            raise ConfigError(f"a canvas with token {int(self.tokens.min())}", "token ids start at 0")
        object.__setattr__(self, "here", self.frozen.cpu())

    @property
    def batch(self) -> int:
        """B."""
        return self.tokens.shape[0]

    @property
    def length(self) -> int:
        """L."""
        return self.tokens.shape[1]

    @classmethod
    def blank(cls, length: int, batch: int = 1) -> "Canvas":
        """Nothing given: [batch, length] to be written."""
        return cls.template(length, batch=batch)

    @classmethod
    def prompt(
        cls,
        ids: Sequence[int] | Tensor,
        length: int,
        batch: int = 1,
        suffix: Sequence[int] | Tensor | None = None,
    ) -> "Canvas":
        """ids on the left, suffix on the right, `length` positions in all: [rows * batch, length].

        ids and suffix: [P] ids, or a tensor [rows, P] with a prompt a row, each written `batch` times, one after the
        other. ConfigError where they leave nothing to write.
        """
        left, right = _rows(ids), _rows([] if suffix is None else suffix)
        rows = max(len(left), len(right))
        if min(len(left), len(right)) not in (1, rows):
            raise ConfigError(f"{len(left)} prompts and {len(right)} suffixes", "give one suffix, or one a prompt")
        given = left.shape[1] + right.shape[1]
        if given >= length:
            raise ConfigError(
                f"{given} given tokens leave nothing to write on a canvas of {length}",
                "length counts the given tokens and the new ones",
            )
        _check_batch(batch)
        gap = torch.zeros(rows, length - given, dtype=torch.int64, device=left.device)
        tokens = torch.cat([left.expand(rows, -1), gap, right.to(left.device).expand(rows, -1)], 1)
        frozen = torch.ones_like(tokens, dtype=torch.bool)
        frozen[:, left.shape[1] : length - right.shape[1]] = False
        return cls(tokens.repeat_interleave(batch, 0), frozen.repeat_interleave(batch, 0))

    @classmethod
    def template(cls, *parts: int | Sequence[int] | Tensor, batch: int = 1) -> "Canvas":
        """Given tokens (lists of ids) and gaps (ints: how many tokens to write) side by side, `batch` times.

        ConfigError for a gap below 1, and where there is no gap.
        """
        _check_batch(batch)
        tokens: list[Tensor] = []
        frozen: list[Tensor] = []
        for part in parts:
            if isinstance(part, int) and part < 1:
                raise ConfigError(f"a gap of {part} tokens", "a gap is at least 1 token long")
            row = torch.zeros(part, dtype=torch.int64) if isinstance(part, int) else _rows(part)[0].cpu()
            tokens.append(row)
            frozen.append(torch.full(row.shape, not isinstance(part, int)))
        if not any(isinstance(part, int) for part in parts):
            raise ConfigError("a canvas without a gap: there is nothing to write", "give a gap's length as an int")
        return cls(torch.cat(tokens).repeat(batch, 1), torch.cat(frozen).repeat(batch, 1))

    @classmethod
    def parse(cls, text: str, tokenizer: Encoder, batch: int = 1, length: int | None = None) -> "Canvas":
        """The canvas of a text such as "Hi, my name is [MASK:12] and that's why I'm late.".

        `[MASK]` is a gap of one token, `[MASK:n]` of n, as `Template` reads them. One space right before a gap belongs
        to the gap: tokens of GPT-2's kind carry the space in front of them. length: the longest canvas (a model's
        context). Raises ConfigError where there is no gap, on a gap that is not written so, on a gap of several
        lengths, among which `unmask.infill` chooses, and beyond `length`.
        """
        found = Template.parse(text)
        if not found.fixed:
            flexible = next(gap for gap in found.gaps if not gap.fixed)
            raise ConfigError(
                f"a gap of several lengths, {flexible}", "give it one, or use unmask.infill, which chooses"
            )
        given = found.ids(tokenizer)
        count = sum(map(len, given))
        gaps = [gap.least for gap in found.gaps]
        if length is not None:
            lengths(found.gaps, count, length, most=1)  # says where it does not fit
        return cls.laid(given, gaps, batch)

    @classmethod
    def laid(cls, given: Sequence[Sequence[int]], gaps: Sequence[int], batch: int = 1) -> "Canvas":
        """given[0], a gap of gaps[0] tokens, given[1], …, given[-1], `batch` times; empty pieces are passed over."""
        parts: list[int | Sequence[int]] = []
        for piece, gap in zip(given, (*gaps, None), strict=True):
            parts += [piece] if len(piece) else []
            parts += [] if gap is None else [gap]
        return cls.template(*parts, batch=batch)

    def to(self, device: torch.device | str) -> "Canvas":
        """The same canvas on a device."""
        return Canvas(self.tokens.to(device), self.frozen.to(device), here=self.here)

    def keep(self, rows: Tensor) -> "Canvas":
        """Its rows at these indices [b], on the CPU."""
        return Canvas(rows_of(self.tokens, rows), rows_of(self.frozen, rows), here=rows_of(self.here, rows))

    def clamp(self, x: Tensor) -> Tensor:
        """x [B, L] with the frozen tokens put back."""
        return torch.where(self.frozen, self.tokens, x)


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise ConfigError(f"a batch of {batch} canvases", "ask for at least 1")


def _rows(ids: Sequence[int] | Tensor) -> Tensor:
    """Ids as int64 [rows, P]; ConfigError where they are not ids."""
    row = ids if isinstance(ids, Tensor) else torch.tensor(list(ids) or (), dtype=None if len(ids) else torch.int64)
    if row.ndim not in (1, 2) or row.is_floating_point():
        raise ConfigError(f"given tokens of shape {tuple(row.shape)}, {row.dtype}", "give ids [P] or [rows, P]")
    return row.to(torch.int64).reshape(-1, row.shape[-1]) if row.ndim == 2 else row.to(torch.int64)[None]
