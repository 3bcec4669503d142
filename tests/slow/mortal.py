"""`unmask` in a process that kills itself before a batch at or behind sample DIE_AT. Arguments: DIE_AT, unmask's."""

import os
import signal
import sys

from unmask.cli.main import run
from unmask.evaluation import many


def main(die_at: int) -> None:
    draw = many.draw_batch

    def mortal(*given):
        if given[3] >= die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(*given)

    many.draw_batch = mortal
    del sys.argv[1]
    run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
