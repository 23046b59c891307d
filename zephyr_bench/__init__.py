"""zephyr-bench: train with dSFT, AIF and dDPO, evaluate, and keep every answer.

Importing this package loads no torch, transformers or pandas.
"""

__version__ = "0.1.0"
