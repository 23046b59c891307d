"""`python -m zephyr_bench`: the command, as torchrun and `accelerate launch -m` start it."""

from zephyr_bench.cli import main

main()
