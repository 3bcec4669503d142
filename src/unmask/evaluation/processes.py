"""The processes that `accelerate launch` or torchrun started, as one of them sees them."""

import dataclasses
import os
from typing import Any

import torch

from unmask.errors import ConfigError

# how many processes there are: torchrun's name, then those of mpirun's kinds
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


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
    """What the environment says; accelerate is imported only where there are several processes.

    cpu: whether they work on the CPU and talk over gloo. Default: where there is no accelerator, or
    `accelerate launch --cpu` says so. Raises ConfigError where the launcher started several processes that do not
    find each other, so that none of them takes itself for the only one.
    """
    count = next((int(os.environ[name]) for name in SIZES if os.environ.get(name, "").isdecimal()), 1)
    if count < 2:
        return ALONE
    from accelerate import PartialState

    if cpu is None:
        cpu = not torch.accelerator.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    try:
        state = PartialState(cpu=cpu)
    except ValueError as error:
        raise ConfigError(f"{count} processes were started and cannot meet: {error}", _HOW) from None
    if state.num_processes != count:
        raise ConfigError(f"{count} processes were started, and each is on its own", _HOW)
    return Ranks(state.process_index, state.num_processes, state.device, state)


_HOW = "torchrun --nproc_per_node, or accelerate launch --multi_gpu --num_processes, which needs no GPU, starts them so"
