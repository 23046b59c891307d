"""What surrounds a training: processes, what learns of a model, restart points, checkpoints, and who watches.

Knows no loss, no batch and no row; trainers/ has those.
"""
