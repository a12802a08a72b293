"""Iterations of many ranks, replayed: measured times of pieces through the real partition."""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np

from benchmarks.scalings.measured import Message, Pieces
from gmmcore.core.summation import SumTree, pieces, shares

__all__ = ["Iteration", "replay"]


class Iteration(NamedTuple):
    """Seconds of an iteration of many ranks, and what they send.

    Attributes
    ----------
    whole : float
    work : float
        Mean of what the ranks compute.
    waiting : float
        What the slowest rank computes longer than that.
    sums : float
        Adding the sums of the ranks, after the last one is ready.
    lead : float
        What rank 0 does alone: coefficients, broadcast, M-step of diagonal covariances.
    sent : int
        Bytes that are sent, with the broadcast.
    """

    whole: float
    work: float
    waiting: float
    sums: float
    lead: float
    sent: int


def replay(cost: Pieces, message: Message, frames: int, ranks: int, *, full: bool) -> Iteration:
    """Replay an iteration.

    Each piece takes the time per frame of a measured one, drawn at random. A rank computes its
    pieces one after the other, and then sends and adds in the order that `gmmcore.core.teams.ranks`
    keeps. The network is taken to be as fast as messages within the machine.
    """
    found = pieces(frames, cost.block)
    lengths = np.array([last - first for first, last in found])
    drawn = np.random.default_rng(1).choice(cost.seconds, len(lengths))
    ends = np.concatenate([[0.0], np.cumsum(lengths * drawn)])
    bounds = shares(lengths.tolist(), ranks)
    # A piece is added to others on its rank, about once.
    adding = cost.size / message.addition
    ready = np.array([ends[b] - ends[a] + adding * (b - a) for a, b in bounds])
    computed = ready.copy()
    transfer = message.latency + cost.size / message.bandwidth
    tree = SumTree(len(lengths))
    owners = {node: rank for rank, bound in enumerate(bounds) for node in tree.largest(*bound)}
    lowest = list(owners)
    heapify(lowest)
    messages = 0
    while len(owners) > 1:
        node = heappop(lowest)
        if node not in owners:
            continue
        level, index = node
        left, right = owners.pop(node), owners.pop((level, index + 1), None)
        owners[level + 1, index // 2] = left
        heappush(lowest, (level + 1, index // 2))
        if right is not None and right != left:
            ready[left] = max(ready[left], ready[right]) + transfer
            ready[right] = max(ready[left], ready[right])
            ready[left] += adding
            messages += 1
    rounds = math.ceil(math.log2(ranks)) if ranks > 1 else 0
    # The coefficients are half as large as the sums: single precision.
    lead = cost.prepare + rounds * (message.latency + 0.5 * cost.size / message.bandwidth)
    lead += cost.finish / (ranks if full else 1)
    if full:
        lead += rounds * transfer
    return Iteration(
        whole=float(ready[0]) + lead,
        work=float(computed.mean()),
        waiting=float(computed.max() - computed.mean()),
        sums=float(ready[0] - computed.max()),
        lead=lead,
        sent=messages * cost.size + (ranks - 1) * cost.size // 2,
    )
