"""Recurrent cells, and the three ways of learning through time: `BPTT`, `TruncatedBPTT`, `RTRL`.

A cell is a layer of one step (`Cell`); ``BPTT(cell)`` and ``TruncatedBPTT(cell, back)`` are layers over sequences; RTRL
learns as it goes. All states are visible: a loss that sees only what the cell shows takes ``cell.output``.
"""

from switchgrad.reference.recurrent.bptt import BPTT
from switchgrad.reference.recurrent.cell import Cell
from switchgrad.reference.recurrent.elman import Elman
from switchgrad.reference.recurrent.gru import GRU
from switchgrad.reference.recurrent.indrnn import IndRNN
from switchgrad.reference.recurrent.jordan import Jordan
from switchgrad.reference.recurrent.lstm import LSTM
from switchgrad.reference.recurrent.rtrl import RTRL
from switchgrad.reference.recurrent.truncated_bptt import TruncatedBPTT

__all__ = ["BPTT", "GRU", "LSTM", "RTRL", "Cell", "Elman", "IndRNN", "Jordan", "TruncatedBPTT"]
