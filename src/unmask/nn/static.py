"""A step of one token whose shapes and addresses never change: what a CUDA graph can record once and play again.

Inside it nothing waits for the device: where the token goes is a tensor, and what lies beyond it is masked.
"""

from typing import Any

import torch
from torch import Tensor

from unmask.nn.cache import KVCache, StaticCache
from unmask.nn.graphs import record
from unmask.nn.transformer import Transformer

REACH = 256  # positions; a step reads the least multiple of it that holds the text so far, one graph for each


class StaticStep:
    """One token a row through a network and a StaticCache of its own, for `KVCache.engine`.

    On CUDA the step is recorded and replayed as a graph; elsewhere it runs as it is. The weights have to stay where
    they are.
    """

    def __init__(self, net: Transformer, cache: StaticCache) -> None:
        batch, device = cache.keys.shape[1], cache.keys.device
        self.net, self.x = net, torch.zeros(batch, 1, dtype=torch.int64, device=device)
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.pool: Any = None

    def __call__(self, x: Tensor, cache: KVCache) -> Tensor:
        """Logits [B, V] of the token after x [B, 1], which becomes part of the cache; on CUDA until the next call."""
        assert isinstance(cache, StaticCache)
        end = cache.room(1)
        cache.reach = min(cache.capacity, -(-end // REACH) * REACH)
        cache.at.fill_(cache.length)
        self.x.copy_(x)
        if not x.is_cuda:
            logits = self._step(cache)
        else:
            if cache.reach not in self.graphs:
                self.pool = self.pool or torch.cuda.graph_pool_handle()
                self.graphs[cache.reach] = record(lambda: self._step(cache), x.device, self.pool)
            graph, logits = self.graphs[cache.reach]
            graph.replay()
        cache.commit(1)
        return logits

    def _step(self, cache: StaticCache) -> Tensor:
        """The class's own functions, not what others hang on this network: a timer's wait cannot be recorded."""
        hidden = Transformer.hidden(self.net, self.x, cache=cache)
        return Transformer.head(self.net, hidden[:, -1])
