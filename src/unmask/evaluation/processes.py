"""The processes that `accelerate launch` or torchrun started, as one of them sees them."""

import dataclasses
import os
from typing import Any

import torch


@dataclasses.dataclass(frozen=True)
class Ranks:
    """This process is number `index` of `count`. device: its own, None where it may choose."""

    index: int = 0
    count: int = 1
    device: torch.device | None = None
    state: Any = None  # accelerate's PartialState, where there are several

    def wait(self) -> None:
        """Until all processes are here."""
        if self.state is not None:
            self.state.wait_for_everyone()

    def total(self, value: int) -> int:
        """The sum of everyone's value."""
        if self.state is None:
            return value
        from accelerate.utils import gather_object

        return sum(gather_object([value]))

    def close(self) -> None:
        """Take leave of the others."""
        if self.state is not None:
            self.state.destroy_process_group()


ALONE = Ranks()


def launched(*, cpu: bool | None = None) -> Ranks:
    """What the environment says (WORLD_SIZE); accelerate is imported only where there are several processes.

    cpu: whether they work on the CPU and talk over gloo. Default: where there is no accelerator.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=not torch.accelerator.is_available() if cpu is None else cpu)
    return Ranks(state.process_index, state.num_processes, state.device, state)
