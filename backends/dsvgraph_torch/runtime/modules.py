"""What stands around the functions of plain.py in an emitted model: names of weights, beginnings."""

import hashlib
import re

import torch
import torch.nn as nn


class Each(nn.Module):
    """Copies side by side with stacked weights; the state_dict has a name for each copy."""

    def state_dict(self, *args, destination=None, prefix="", keep_vars=False):
        found = {} if destination is None else destination
        for name, stack in super().state_dict(keep_vars=keep_vars).items():
            found.update({f"{prefix}{i}.{name}": row for i, row in enumerate(stack)})
        return found

    def _load_from_state_dict(self, state, prefix, metadata, strict, missing, unexpected, errors):
        for name, stacked in self.named_parameters():
            own = {f"{prefix}{i}.{name}": row for i, row in enumerate(stacked.data)}
            missing += [key for key in own if key not in state]
            found = {key: state.pop(key) for key in own if key in state}
            fits = {key: row for key, row in found.items() if row.shape == own[key].shape}
            errors += [
                f"size mismatch for {k}: {[*found[k].shape]} for {[*own[k].shape]}" for k in found if k not in fits
            ]
            rows = [row if len(fits) == len(own) else own[key].copy_(row) for key, row in fits.items()]
            state[prefix + name] = torch.stack(rows) if len(fits) == len(own) else stacked
        super()._load_from_state_dict(state, prefix, metadata, strict, missing, unexpected, errors)


class Runs(nn.Module):
    """Copies side by side that differ: each run of equal ones, (how many, module), on the rows sent to it."""

    def __init__(self, *runs):
        super().__init__()
        self.counts = [count for count, _ in runs]
        self.runs = nn.ModuleList(run for _, run in runs)

    def parts(self):
        """Each run: the numbers of its first copy and of the one behind its last, and its module."""
        ends = [sum(self.counts[: i + 1]) for i in range(len(self.counts))]
        return zip([0, *ends[:-1]], ends, self.runs, strict=True)

    def forward(self, x, sent):
        ends, found = [0, *sent.offsets.tolist()], []
        for first, last, run in self.parts():
            start, end = ends[first], ends[last]
            found.append(run(x[start:end], sent._replace(offsets=sent.offsets[first:last] - start)))
        return torch.cat(found)

    def state_dict(self, *args, destination=None, prefix="", keep_vars=False):
        found = {} if destination is None else destination
        for first, _, run in self.parts():
            for name, stack in run.state_dict(keep_vars=keep_vars).items():
                found.update({f"{prefix}{i}.{name}": row for i, row in enumerate(stack, first)})
        return found

    def _load_from_state_dict(self, state, prefix, metadata, strict, missing, unexpected, errors):
        for part, (first, _, run) in enumerate(self.parts()):
            for name, stacked in run.named_parameters():
                rows = [self._row(state, f"{prefix}{i}.{name}", row, missing, errors)
                        for i, row in enumerate(stacked.data, first)]  # fmt: skip
                state[f"{prefix}runs.{part}.{name}"] = torch.stack(rows)
        super()._load_from_state_dict(state, prefix, metadata, strict, missing, unexpected, errors)

    def _row(self, state, key, own, missing, errors):
        """What a state_dict holds for one copy's weight, or what there is already, with a word on why."""
        row = state.pop(key, None)
        if row is None:
            missing.append(key)
        elif row.shape != own.shape:
            errors.append(f"size mismatch for {key}: {[*row.shape]} for {[*own.shape]}")
        return own if row is None or row.shape != own.shape else row


def normal(name, first, like):
    """Return standard normal numbers, from that at ``first`` of the sequence ``name``, as many as ``like`` has.

    SplitMix64 (doi 10.1145/2660193.2660195) hashes the number of a pair. Each half of the hash is a sign and the
    probability of a tail, whose quantile is a rational function of its eighth root: a distribution within 1.5e-5 of the
    normal one, its tails within 0.6 % and up to 6.17. All of it is operations on integers, and additions, products and
    quotients one at a time, which round alike everywhere; roots do not. So the eighth root is guessed by dividing the
    exponent, and corrected by a polynomial of what the guess leaves.
    """
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    x = (
        torch.arange(first // 2, (first + len(like) + 1) // 2, device=like.device if like.is_cuda else "cpu")
        * -7046029254386353131
        + key
    )
    for bits, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x.bitwise_xor_(x >> bits).mul_(factor)
    u = x.add_(x >> 32).view(torch.int32)[first % 2 :][: len(like)].float()
    t = (u.abs().add_(0.5).view(torch.int32) >> 3).add_(931864064).view(torch.float32)
    r = u.abs().add_(0.5).div_((t * t).square_().square_())
    t *= r.mul(-0.0231842).add_(0.128473).mul_(r).add_(-0.301109).mul_(r).add_(0.434508).mul_(r).add_(0.761312)
    y = t.mul(-6.292907e-4).add_(0.02729013).mul_(t).add_(-0.7013174).mul_(t).add_(11.97813).mul_(t)
    return y.add_(-73.86698).mul_(t).add_(-116.4561).div_((t - 16.10745).mul_(t).add_(-13.62205)).copysign_(u)


class Model(nn.Module):
    """Base of the models; the trainer sets tokens_seen and steps_taken, which drive schedules."""

    tokens_seen = steps_taken = 0

    def initialise(self, seed=0):
        """Weights begin at mean + std * normal, by the last rule of ``init`` that matches their path."""
        for path, weight in self.state_dict().items():
            mean, std = [rule[1:] for rule in self.init if re.fullmatch(rule[0], path)][-1]
            # pieces that stay in the caches of all processors, or that keep a GPU busy
            for part in weight.view(-1).split(2**22 if weight.is_cuda else torch.get_num_threads() << 17):
                part.copy_(
                    normal(f"{seed} {path}", part.storage_offset() - weight.storage_offset(), part).mul_(std).add_(mean)
                )
        return self


def freeze(model, rules):
    """Takes weights out of training, or puts them back: the last rule that matches a path wins."""
    for path, weight in model.state_dict(keep_vars=True).items():
        found = [trained for pattern, trained in rules if re.fullmatch(pattern, path)]
        if found and weight.is_floating_point():
            (weight if weight._base is None else weight._base).requires_grad_(found[-1])
