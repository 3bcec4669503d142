"""Train a small model in as many processes as it was launched in; each rank keeps what it saw.

Arguments: the run's folder, a kind of model, a micro batch (0: none), and the step before which all ranks kill
themselves (0: never).
"""

import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from training.tiny import OPTIM, loader, model, settings
from unmask.training import loop
from unmask.training.objectives import Batch, DiffusionObjective


def main(out: Path, kind: str, micro: int, die_at: int) -> None:
    torch.set_num_threads(1)
    seen: dict[str, torch.Tensor] = {}
    corrupt, step = DiffusionObjective.corrupt, loop._step

    def kept(self: DiffusionObjective, batch: Batch) -> object:
        noisy = corrupt(self, batch)
        for row, place in enumerate(batch.place.tolist()):
            seen[f"{batch.step}.{place}.xt"], seen[f"{batch.step}.{place}.t"] = (
                noisy.xt[row].clone(),
                noisy.t[row].clone(),
            )
        return noisy

    def mortal(run: loop._Run, share: int) -> object:
        if die_at and run.done == die_at:
            run.accelerator.wait_for_everyone()
            os.kill(os.getpid(), signal.SIGKILL)
        return step(run, share)

    DiffusionObjective.corrupt, loop._step = kept, mortal
    chosen = settings(steps=20, optim=OPTIM, micro_batch=micro or None, log_every=1, save_every=6)
    loop.train(model(kind, dropout=0.2), loader(), chosen, out, resume=True)
    save_file(seen, out / f"seen-{loop.accelerator().process_index}.safetensors")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
