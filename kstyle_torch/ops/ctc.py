"""Connectionist temporal classification: loss and decoding.

Letters of shapes: `b` batch, `t` time, `c` classes, `w` and `v` width of the beam.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ops.operation import TensorLike, operation

__all__ = ["ctc_decode", "ctc_loss"]

HASH_FACTOR = 6364136223846793005  # of Knuth's MMIX generator; odd, so that no bit of a prefix is lost


@operation
def ctc_loss(
    target: TensorLike, output: TensorLike, target_length: TensorLike, output_length: TensorLike, mask_index: int = 0
) -> Tensor:
    """Returns the negative log probability of `target` given `output`.

    Args:
        target: Class numbers, (batch, longest target).
        output: Logits, (batch, time, classes).
        target_length: Length of each target, (batch,).
        output_length: Length of each output, (batch,).
        mask_index: The blank class.
    Returns: (batch,).
    Source: Graves et al. 2006.
    """
    log_p = _floating(output).transpose(0, 1).log_softmax(-1)
    return F.ctc_loss(log_p, target, output_length, target_length, blank=mask_index, reduction="none")


@operation
def ctc_decode(
    inputs: TensorLike,
    sequence_lengths: TensorLike,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int = 0,
) -> tuple[Tensor, Tensor]:
    """Returns the most probable sequences of classes, without blanks.

    Args:
        inputs: Logits, (batch, time, classes).
        sequence_lengths: Length of each input, (batch,).
        strategy: `"greedy"` or `"beam_search"`.
        beam_width: Number of sequences that a beam search keeps.
        top_paths: Number of sequences that it returns.
        merge_repeated: Whether a greedy search merges repeated classes.
        mask_index: The blank class.
    Returns: Sequences, int32 of shape (top_paths, batch, time), filled with -1; and their scores, (batch, top_paths): the
        logarithm of the probability, or for a greedy search minus the sum of the largest logits.
    Raises: ValueError: for an unknown strategy.
    """
    logits, lengths = _floating(inputs), sequence_lengths
    if mask_index is None:
        mask_index = logits.shape[-1] - 1
    if strategy == "greedy":
        return _greedy(logits, lengths, merge_repeated, mask_index)
    if strategy == "beam_search":
        return _beam_search(logits, lengths, beam_width, top_paths, mask_index)
    raise ValueError(f"ctc_decode: strategy must be 'greedy' or 'beam_search'; got {strategy!r}.")


def _floating(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _greedy(logits: Tensor, lengths: Tensor, merge_repeated: bool, blank: int) -> tuple[Tensor, Tensor]:
    score_bt, class_bt = logits.max(-1)
    time_t = torch.arange(logits.shape[1], device=logits.device)
    over = time_t >= lengths.unsqueeze(1)
    class_bt = class_bt.masked_fill(over, blank)
    dropped = class_bt == blank
    if merge_repeated:
        repeated = class_bt[:, 1:] == class_bt[:, :-1]
        dropped = dropped | F.pad(repeated, (1, 0))
    order = time_t.where(~dropped, logits.shape[1]).argsort(dim=-1, stable=True)  # kept classes move to the front
    path = class_bt.masked_fill(dropped, -1).gather(1, order).int()
    return path.unsqueeze(0), -score_bt.masked_fill(over, 0).sum(1, keepdim=True)


class _Beam(NamedTuple):
    """The most probable prefixes of each row; those with probability 0 are padding."""

    path_bwt: Tensor  # filled with -1
    length_bw: Tensor
    last_bw: Tensor  # the last class
    hash_bw: Tensor  # of the whole path
    blank_bw: Tensor  # log probability of all alignments that end with a blank
    class_bw: Tensor  # log probability of all alignments that end with the last class


def _beam_search(logits: Tensor, lengths: Tensor, width: int, top: int, blank: int) -> tuple[Tensor, Tensor]:
    log_p = logits.log_softmax(-1)
    beam = _empty_beam(log_p, max(width, top))
    for time in range(log_p.shape[1]):
        grown = _extended(beam, log_p[:, time], blank)
        goes_on = time < lengths.reshape(-1, 1)
        beam = _Beam(
            *(new.where(goes_on if new.ndim == 2 else goes_on.unsqueeze(2), old) for new, old in zip(grown, beam))
        )
    score_bw, order_bw = torch.logaddexp(beam.blank_bw, beam.class_bw).topk(top)
    path = beam.path_bwt.gather(1, order_bw.unsqueeze(2).expand(-1, -1, log_p.shape[1]))
    path = path.masked_fill((score_bw == -torch.inf).unsqueeze(2), -1)
    return path.transpose(0, 1).int(), score_bw


def _empty_beam(log_p: Tensor, width: int) -> _Beam:
    """Returns the initial beam: the empty prefix, with probability 1."""
    batch, time, _ = log_p.shape
    numbers = torch.zeros(batch, width, dtype=torch.int64, device=log_p.device)
    never = log_p.new_full((batch, width), -torch.inf)
    certain = F.pad(never[:, 1:], (1, 0))
    return _Beam(numbers.new_full((batch, width, time), -1), numbers, numbers, numbers, certain, never)


def _extended(beam: _Beam, log_p_bc: Tensor, blank: int) -> _Beam:
    """Returns the beam after one more step: each prefix stays (by a blank or its last class) or is extended by a class."""
    classes = log_p_bc.shape[1]
    width = beam.last_bw.shape[1]
    total_bw = torch.logaddexp(beam.blank_bw, beam.class_bw)
    is_last_bwc = F.one_hot(beam.last_bw, classes).bool() & (beam.length_bw > 0).unsqueeze(2)
    stay_blank = total_bw + log_p_bc[:, blank, None]
    stay_class = beam.class_bw + log_p_bc.gather(1, beam.last_bw)
    # a class twice in a row counts once, unless a blank separates the two
    grow_bwc = torch.where(is_last_bwc, beam.blank_bw.unsqueeze(2), total_bw.unsqueeze(2)) + log_p_bc.unsqueeze(1)
    grow_bwc[:, :, blank] = -torch.inf
    stay_class, grow_bwc = _merged(beam, total_bw, is_last_bwc, stay_class, grow_bwc)
    scores = torch.cat([torch.logaddexp(stay_blank, stay_class), grow_bwc.flatten(1)], 1)
    score_bw, choice_bw = scores.topk(width)
    grows = choice_bw >= width
    parent = torch.where(grows, (choice_bw - width) // classes, choice_bw)
    added = torch.where(grows, (choice_bw - width) % classes, beam.last_bw.gather(1, parent))
    length, code = beam.length_bw.gather(1, parent), beam.hash_bw.gather(1, parent)
    path = beam.path_bwt.gather(1, parent.unsqueeze(2).expand(-1, -1, beam.path_bwt.shape[2]))
    here = (torch.arange(path.shape[2], device=path.device) == length.unsqueeze(2)) & grows.unsqueeze(2)
    return _Beam(
        torch.where(here, added.unsqueeze(2), path),
        length + grows,
        added,
        torch.where(grows, code * HASH_FACTOR + added + 1, code),
        stay_blank.gather(1, parent).masked_fill(grows, -torch.inf),
        torch.where(grows, score_bw, stay_class.gather(1, parent)),
    )


def _merged(
    beam: _Beam, total_bw: Tensor, is_last_bwc: Tensor, stay_class: Tensor, grow_bwc: Tensor
) -> tuple[Tensor, Tensor]:
    """Merges extended prefixes that equal another prefix of the beam into it."""
    grown_hash_bwv = beam.hash_bw.unsqueeze(2) * HASH_FACTOR + beam.last_bw.unsqueeze(1) + 1
    lengths_fit = beam.length_bw.unsqueeze(2) + 1 == beam.length_bw.unsqueeze(1)
    real = (total_bw > -torch.inf).unsqueeze(1)
    into_bwv = (grown_hash_bwv == beam.hash_bw.unsqueeze(1)) & lengths_fit & real
    added_bwv = grow_bwc.gather(2, beam.last_bw.unsqueeze(1).expand_as(into_bwv)).masked_fill(~into_bwv, -torch.inf)
    taken_bwc = (into_bwv.to(grow_bwc.dtype) @ is_last_bwc.to(grow_bwc.dtype)) > 0
    return torch.logaddexp(stay_class, added_bwv.logsumexp(1)), grow_bwc.masked_fill(taken_bwc, -torch.inf)
