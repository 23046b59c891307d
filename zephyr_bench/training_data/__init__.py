"""What is trained on: rows chosen, cleaned and checked, pairs of AI feedback, and the token ids that they become.

mixing -> data -> reading -> tokens;   cleaning, ultrafeedback and feedback make rows better, or make them.
"""
