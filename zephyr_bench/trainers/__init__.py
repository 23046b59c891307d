"""Zephyr's steps (arXiv 2310.16944): dSFT and dDPO. Plain torch over transformers models.

packing -> forward -> losses -> loop;   dsft.py and ddpo.py join them. Rows come from training_data/; processes,
checkpoints and restart points are training_runs/'s.
"""
