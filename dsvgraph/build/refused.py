"""What papers on multi-token prediction do and no lines say: names under which it is looked for, and what there is."""

from __future__ import annotations

REVERSED = (
    "rows are read forwards, and no loss predicts a token before its position: a model of reversed rows is another "
    "one, trained on reversed text"
)
WEIGHED = "the tokens of a bag weigh alike, or less by their distance: `decay`"
DRAWN = "nothing but `dropout` and the `sample` of a loss is drawn: `interleave_tokens` puts as many tokens behind each"
STACKED = "what the copies of a line with `repeat` make and do not hand on is a stack"
FED_BACK = (
    "a step attends within its own depth: keys of earlier steps cannot be carried, since what `repeat` carries keeps "
    "its shape"
)
REFUSED = {
    **dict.fromkeys(("reverse", "reversed", "flip"), REVERSED),
    **dict.fromkeys(("tf_idf", "idf", "token_weights"), WEIGHED),
    **dict.fromkeys(("anchors", "random", "draw", "mask_ratio"), DRAWN),
    **dict.fromkeys(("stack", "unsqueeze"), STACKED),
    **dict.fromkeys(("training_time_test", "ttt", "ttt_length", "past_keys"), FED_BACK),
}
