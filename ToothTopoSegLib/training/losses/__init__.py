"""Losses of the training: nnU-Net's cross-entropy and Dice, the topological loss and their joint objective."""
