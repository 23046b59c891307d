"""Zephyr's steps (arXiv 2310.16944): dSFT, the pairs of AI feedback, dDPO. Plain torch over transformers models.

data -> tokens -> losses -> loop -> checkpoint;   dsft.py and ddpo.py join them, feedback.py makes pairs.
"""
