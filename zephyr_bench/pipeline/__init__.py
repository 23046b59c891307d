"""Joins training and evaluating: what a recipe needs, its plan, and carrying it out."""
