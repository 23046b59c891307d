"""A tiny model whose every reply to a chat is 4: its texts end at once, and some of them are right.

What it says of given texts is random, and depends on all that stands before, as with tiny_model.py's.
"""

from __future__ import annotations

from pathlib import Path

from tiny_model import make_tiny_model

REPLY = "4"
_DAMPED = 0.05  # layers that leave a token's own embedding to be seen behind them
_PUSH = 4.0  # three times what the other logits reach


def make_terse_model(folder: Path, *, max_length: int, seed: int = 0) -> Path:
    """After a line break comes 4, after a 4 the end: a chat's last token before the reply is a line break."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_tiny_model(folder, seed=seed, max_length=max_length)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, tie_word_embeddings=False)
    (line_break,), (reply,) = (tokenizer.encode(text, add_special_tokens=False) for text in ("\n", REPLY))
    embeddings = model.get_input_embeddings().weight.detach()  # (tokens, width)
    head = embeddings.clone()
    for before, after in ((line_break, reply), (reply, tokenizer.eos_token_id)):
        head[after] += _PUSH * embeddings[before] / embeddings[before].norm()
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(head)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= _DAMPED
            layer.mlp.down_proj.weight *= _DAMPED
    model.save_pretrained(folder)
    return folder
