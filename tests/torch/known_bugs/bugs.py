"""Bugs of public MTP and MoE training code, each as an edit of the emitted source, with where it was reported.

A number after `#` is an issue or a pull request of the project before it; a bug without one is known from the source
of the implementation that is named. An edit changes a line or two of the emitted source so that it has the same fault.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """A bug by name, where it was reported, and its edits: the text that is replaced, and by what."""

    name: str
    source: str
    edits: tuple[tuple[str, str], ...]


def _bug(name: str, source: str, *edits: tuple[str, str]) -> Bug:
    return Bug(name=name, source=source, edits=edits)


MTP_LOSS = "total, valid = head_cross_entropy(copy, targets, depth + 1, ctx)"
MTP_SHARE = "(0.3 if self.tokens_seen < 10000000000000.0 else 0.1) / 2 * losses[f'mtp.{depth}']"
MTP_MEAN = "losses[f'mtp.{depth}'] = total / valid"
MASK = "mask = mask & (ctx.documents[:, None, -T:, None] == ctx.documents[:, None, None, -C:])"
CHAIN = "copy(mtp_h, mtp_ids, self.model.embed_tokens.weight, self.lm_head.weight, ctx)"
GATHERED = "score_BTK = s_BTE.gather(-1, index_BTK)"
NORMED = "score_BTK = score_BTK / (score_BTK.sum(-1, keepdim=True) + 1e-20)"
EACH_ROUTER = "for router in (m for m in self.modules() if isinstance(m, Router)):"
SUMMED = "losses['balance'] = sum(ctx.balance.values())"

TARGETS = [
    _bug(
        "targets shifted twice", "tutorial code of the PyImageSearch family", (MTP_LOSS, MTP_LOSS.replace("+ 1", "+ 2"))
    ),
    _bug("targets not shifted further", "DeepSeek-V3 #928", (MTP_LOSS, MTP_LOSS.replace("depth + 1", "1"))),
    _bug("divided by the main count", "Megatron-LM #2417, #3159", (MTP_LOSS, MTP_LOSS.replace("valid", "_"))),
    _bug(
        "divided by all positions",
        "Megatron-LM #4494",
        (MTP_MEAN, MTP_MEAN.replace("valid", "(B * T)")),
        ("losses, loss = {}, 0.0", "losses, loss = {}, 0.0\n        B, T = targets.shape"),
    ),
    _bug("not averaged", "Megatron-LM #1532", (MTP_MEAN, MTP_MEAN.replace(" / valid", ""))),
    _bug("no mean over depths", "equation 25 without its 1 / D", (MTP_SHARE, MTP_SHARE.replace(" / 2", ""))),
    _bug("no weight", "Pai-Megatron-Patch #538", (MTP_SHARE, MTP_SHARE.rpartition("* ")[2])),
    _bug(
        "weight by steps, not by tokens",
        "schedules of lambda that read the step",
        (MTP_SHARE, MTP_SHARE.replace("self.tokens_seen", "self.tokens_seen / 4096")),
    ),
    _bug(
        "0 / 0 where no target is left",
        "mcore-bridge #104",
        ("return loss, (t_Bn != -100).sum().clamp(min=1)", "return loss, (t_Bn != -100).sum()"),
    ),
    _bug(
        "targets across documents",
        "Megatron-LM #6205, #4495",
        ("t_Bn = t_Bn.where(ctx.within(ahead - 1, targets_BT)[:, :t_Bn.shape[1]], -100)", "pass"),
    ),
    _bug(
        "last token of a document predicts the next document",
        "torchtitan #4544",
        ("return after_BT if documents_BT is None else", "return after_BT if True else"),
    ),
    _bug(
        "masked targets count",
        "ms-swift #8192, Megatron-Bridge #6103",
        ("t_Bn = targets_BT[:, ahead - 1:]", "t_Bn = targets_BT[:, ahead - 1:].clamp(min=0)"),
    ),
    _bug(
        "mask rolled once more",
        "miles #3233",
        (
            "t_Bn = targets_BT[:, ahead - 1:]",
            "t_Bn = targets_BT[:, ahead - 1:].masked_fill(targets_BT.roll(-ahead, 1)[:, ahead - 1:] == -100, -100)",
        ),
    ),
]

CHAIN_WIRING = [
    _bug(
        "ids across documents",
        "Megatron-LM #6205",
        ("y = torch.where(ctx.within(by, y)", "y = torch.where(True | ctx.within(by, y)"),
    ),
    _bug("no future token", "vLLM: ids not advanced", ("next_ids = shift(ids, 1, ctx)", "next_ids = ids")),
    _bug("ids advanced twice", "Megatron-LM #1795", ("next_ids = shift(ids, 1, ctx)", "next_ids = shift(ids, 2, ctx)")),
    _bug(
        "state first in the concat",
        "Megatron-LM #1588, sglang #6423",
        ("torch.cat([enorm, hnorm], -1)", "torch.cat([hnorm, enorm], -1)"),
    ),
    _bug(
        "state handed on before its norm",
        "vLLM #45895, ATOM #1764",
        ("return norm, next_ids, logits", "return layer, next_ids, logits"),
    ),
    _bug(
        "trunk's state before its norm",
        "torchtitan against released weights",
        ("return norm, lm_head", "return sparse, lm_head"),
    ),
    _bug(
        "no norm before the head",
        "Pai-Megatron-Patch #538",
        ("logits = head(norm, head_, ctx)", "logits = head(layer, head_, ctx)"),
    ),
    _bug(
        "norm before the head twice",
        "ATOM #643",
        ("logits = head(norm, head_, ctx)", "logits = head(self.shared_head.norm(norm), head_, ctx)"),
    ),
    _bug("no norm of the state", "hnorm left out", ("hnorm = self.hnorm(h)", "hnorm = h")),
    _bug(
        "norms of state and embedding exchanged",
        "enorm and hnorm by the wrong name",
        ("enorm = self.enorm(embed_tokens)", "enorm = self.hnorm(embed_tokens)"),
        ("hnorm = self.hnorm(h)", "hnorm = self.enorm(h)"),
    ),
    _bug("every depth from the trunk", "DeepSeek-V3 #252", (CHAIN, CHAIN.replace("mtp_h", "norm"))),
    _bug(
        "first module at every depth",
        "vLLM #52688",
        ("for copy in self.model.layers[2:4]:", "for copy in [self.model.layers[2]] * 2:"),
    ),
    _bug(
        "trunk gets no gradient of the chain",
        "Megatron-LM: mtp_detach_heads left on",
        (
            "mtp_h, mtp_ids, mtp_logits = norm, input_ids, []",
            "mtp_h, mtp_ids, mtp_logits = norm.detach(), input_ids, []",
        ),
    ),
    _bug(
        "head gets no gradient of the chain",
        "verl #6432",
        (CHAIN, CHAIN.replace("self.lm_head.weight", "self.lm_head.weight.detach()")),
    ),
    _bug(
        "embedding gets no gradient of the chain",
        "a copy in place of the shared embedding",
        (CHAIN, CHAIN.replace("embed_tokens.weight", "embed_tokens.weight.detach()")),
    ),
    _bug("chain has no gradient at all", "unsloth #6557, verl #6947", (MTP_SHARE, MTP_SHARE + ".detach()")),
]

ROUTERS = [
    _bug(
        "bias moved in every forward",
        "tutorial code of the PyImageSearch family; Megatron-LM: per micro-batch",
        (
            NORMED,
            NORMED + "\n        self.training and ctx.collect and self.e_score_correction_bias.add_("
            "0.001 * (1 - 2 * (s_BTE.mean((0, 1)) > s_BTE.mean())))",
        ),
    ),
    _bug(
        "bias of MTP layers never moved",
        "torchtitan: the hook walks model.layers of the trunk alone",
        (EACH_ROUTER, "for router in self.model.layers[:2].modules():"),
    ),
    _bug(
        "bias moved the wrong way",
        "sign of the load error",
        ("(load.mean() - load).sign()", "(load - load.mean()).sign()"),
    ),
    _bug(
        "bias moved by the size of the error",
        "not algorithm 1 of arXiv 2408.15664",
        ("(load.mean() - load).sign()", "(load.mean() - load) / load.mean()"),
    ),
    _bug(
        "bias goes on moving when it is frozen",
        "Megatron-LM #4785",
        ("router.update_bias(0.001 if self.tokens_seen < 14300000000000.0 else 0)", "router.update_bias(0.001)"),
    ),
    _bug(
        "bias never moves",
        "MaxText #2494",
        ("self.e_score_correction_bias += speed", "self.e_score_correction_bias + speed"),
    ),
    _bug("counts of earlier steps stay", "load that is never reset", ("        load.zero_()\n", "        pass\n")),
    _bug("tokens counted in evaluation", "bias update in train-mode evaluation", ("if self.training:\n", "if True:\n")),
    _bug(
        "fill positions counted",
        "torchtitan: routed and counted past the end",
        (
            "kept_BT1 = shift(torch.ones_like(s_BTE[..., :1]), self.fill, ctx)",
            "kept_BT1 = torch.ones_like(s_BTE[..., :1])",
        ),
    ),
    _bug(
        "bias in the weights of experts",
        "vLLM #12002",
        (GATHERED, "score_BTK = (s_BTE + self.e_score_correction_bias).gather(-1, index_BTK)"),
    ),
    _bug(
        "excluded groups masked by 0",
        "transformers #45440",
        ("grouped.masked_fill(closed[..., None], -math.inf)", "grouped.masked_fill(closed[..., None], 0.0)"),
    ),
    _bug(
        "groups by their best expert alone",
        "DeepSeek-V2's rule in V3",
        ("best = grouped.topk(2).values.sum(-1)", "best = grouped.amax(-1)"),
    ),
    _bug("no groups", "topk_group ignored", ("closed = torch.ones_like(best)", "closed = torch.zeros_like(best)")),
    _bug("weights not made to add up to one", "norm_topk_prob ignored", (NORMED, "pass")),
    _bug(
        "scaled before they are made to add up",
        "the factor cancels",
        ("return index_BTK, score_BTK * self.scaling", "return index_BTK, score_BTK"),
    ),
    _bug(
        "router in low precision",
        "vLLM #14027",
        ("with torch.autocast(x_BTD.device.type, enabled=False):", "if True:"),
        ("logits = F.linear(precise(x_BTD), precise(self.weight))", "logits = F.linear(x_BTD, self.weight)"),
    ),
    _bug(
        "balance loss 0 without a word",
        "Megatron-Bridge #5165",
        (SUMMED, SUMMED.replace("values()", "values()) * 0 + sum([]")),
    ),
    _bug(
        "balance loss without a gradient",
        "LlamaFactory #6829: scores detached",
        ("sequence_balance(s_BTE, self.top_k", "sequence_balance(s_BTE.detach(), self.top_k"),
    ),
    _bug(
        "balance by the biased choice",
        "equation 18 counts the unbiased choice",
        ("top_BTK = s_BTE.topk(top_k, sorted=False).indices", "top_BTK = top_k"),
        ("sequence_balance(s_BTE, self.top_k, kept_BT1)", "sequence_balance(s_BTE, index_BTK, kept_BT1)"),
        ("* s_BTE.shape[-1] / top_k", "* s_BTE.shape[-1] / top_k.shape[-1]"),
    ),
    _bug(
        "balance over the batch, not by row",
        "batch-wise in place of sequence-wise",
        (
            "sequence_balance(s_BTE, self.top_k, kept_BT1)",
            "sequence_balance(s_BTE.flatten(0, 1)[None], self.top_k, kept_BT1.flatten(0, 1)[None])",
        ),
    ),
    _bug(
        "balance of the last router alone",
        "assigned in place of added",
        (SUMMED, "losses['balance'] = [*ctx.balance.values()][-1]"),
    ),
    _bug(
        "tokens to the next expert",
        "boundaries of a grouped product",
        ("right=True, out_int32=True", "right=False, out_int32=True"),
    ),
    _bug(
        "experts' results not brought back in order",
        "inverse permutation left out",
        ("order_S.argsort().view_as(index_BTK)", "order_S.view_as(index_BTK)"),
    ),
]

ATTENTION = [
    _bug(
        "attention across documents",
        "packed rows without a mask",
        (
            MASK,
            "mask = mask[None, None]",
        ),
    ),
    _bug(
        "mask by multiplication with infinity",
        "tutorial code of the PyImageSearch family: 0 * inf",
        (
            MASK,
            MASK.replace("mask & (", "(1 - (mask & (") + ").double()) * -math.inf",
        ),
    ),
    _bug("not causal", "a mask that is not handed on", ("is_causal=mask is None and T > 1", "is_causal=False")),
    _bug(
        "scale of one part of the head",
        "1 / sqrt(nope) in place of nope + rope",
        (
            "attn = attention(query, key, kv_value, ctx, scale=0.28867513459481287)",
            "attn = attention(query, key, kv_value, ctx, scale=8 ** -0.5)",
        ),
    ),
    _bug(
        "halves rotated in place of pairs",
        "rope layout of Llama on DeepSeek's weights",
        ("a, b = x.unflatten(-1, (-1, 2)).unbind(-1)", "a, b = x.chunk(2, -1)"),
        (
            "torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)",
            "torch.cat((a * cos - b * sin, b * cos + a * sin), -1)",
        ),
    ),
    _bug(
        "positions run on across documents and rows of a cache",
        "positions from 0 while decoding",
        (
            "(at_C if self.positions is None else self.positions)[..., -x.shape[1]:]",
            "(at_C if self.positions is None else self.positions)[..., :x.shape[1]]",
        ),
    ),
    _bug(
        "rope part of the key normed too",
        "kv_a_layernorm over all of the latent",
        (
            "rope(kv_a_rope, ctx, theta=10000.0)",
            "rope(F.rms_norm(kv_a_rope, kv_a_rope.shape[-1:]), ctx, theta=10000.0)",
        ),
    ),
]

BUGS = [*TARGETS, *CHAIN_WIRING, *ROUTERS, *ATTENTION]
